//! A subscription that goes on by itself: on the same node or another one of the group, from the place where it was.

use crate::proto::{
    BehindPolicy, DeliveryMode, ImageReason, Notice, Place, RowKind, SubscribeMode, SubscribeRequest,
    SubscribeResponse,
};
use crate::{Client, Error, Event};
use std::collections::VecDeque;
use std::time::Duration;
use tonic::{Code, Status, Streaming};

/// Between two rounds of tries to reach a node: from the first to the second.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];

/// Events of the instruments that were asked for, for as long as somebody asks for them.
#[derive(Debug)]
pub struct Subscription {
    client: Client,
    request: SubscribeRequest,
    /// Which node is asked.
    node: usize,
    stream: Option<Streaming<SubscribeResponse>>,
    events: VecDeque<Event>,
    writer_alive: Option<bool>,
    /// Tries since something came.
    failures: u32,
}

impl Subscription {
    pub(crate) fn new(client: Client, patterns: Vec<String>) -> Subscription {
        Subscription {
            client,
            request: SubscribeRequest { patterns, ..SubscribeRequest::default() },
            node: 0,
            stream: None,
            events: VecDeque::new(),
            writer_alive: None,
            failures: 0,
        }
    }

    /// Every change, in order; if that can't be, an image that says what is missing.
    pub fn every_tick(self) -> Subscription {
        self.in_mode(DeliveryMode::EveryTick)
    }

    /// Every trade and status in order, and the latest of quotes.
    pub fn trade_safe(self) -> Subscription {
        self.in_mode(DeliveryMode::TradeSafe)
    }

    /// The latest of each row, at most so many times a second; 0 = as often as the client takes it.
    pub fn conflated(mut self, updates_per_s: u32) -> Subscription {
        self.request.max_updates_per_s = updates_per_s;
        self.in_mode(DeliveryMode::Conflated)
    }

    fn in_mode(mut self, mode: DeliveryMode) -> Subscription {
        self.request.set_mode(mode);
        self
    }

    /// Only these rows.
    pub fn kinds(mut self, kinds: &[RowKind]) -> Subscription {
        self.request.kinds = kinds.iter().map(|kind| i32::from(*kind)).collect();
        self
    }

    /// Ends with an error, rather than with an image, if the client falls behind.
    pub fn or_end(mut self) -> Subscription {
        self.request.set_policy(BehindPolicy::End);
        self
    }

    /// Begins behind the place of an earlier subscription to the same, such as one of a process that has ended.
    pub fn from(mut self, place: Place) -> Subscription {
        self.request.resume = Some(place);
        self
    }

    /// Everything before it was an event already, or is one of the next; to be kept by those who want to go on after a restart.
    pub fn place(&self) -> Option<&Place> {
        self.request.resume.as_ref().filter(|_| self.events.is_empty())
    }

    /// The next event. Waits, across lost connections and nodes, until there is one; an error is for good.
    pub async fn next(&mut self) -> Result<Event, Error> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            let Some(stream) = &mut self.stream else {
                self.connect().await?;
                continue;
            };
            match stream.message().await {
                Ok(Some(response)) => self.take(response),
                Ok(None) => self.lose("the node ended the stream".to_owned()),
                Err(status) => self.fail(status)?,
            }
        }
    }

    /// Asks the nodes in turn, and waits a little more after each round.
    async fn connect(&mut self) -> Result<(), Error> {
        let nodes = self.client.nodes() as u32;
        if self.failures >= nodes {
            let [first, longest] = PAUSES;
            let rounds = (self.failures / nodes - 1).min(16);
            tokio::time::sleep(first.saturating_mul(1 << rounds).min(longest)).await;
        }
        let mut service = match self.client.connect(self.node).await {
            Ok(service) => service,
            Err(error @ Error::Connect { .. }) => {
                self.try_another();
                // Nothing was lost that was not told.
                tracing::debug!("{error}");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        match service.subscribe(self.request.clone()).await {
            Ok(response) => self.stream = Some(response.into_inner()),
            Err(status) => self.fail(status)?,
        }
        Ok(())
    }

    fn try_another(&mut self) {
        self.failures += 1;
        self.node += 1;
    }

    fn lose(&mut self, cause: String) {
        if self.stream.take().is_some() {
            self.events.push_back(Event::Lost { cause });
            self.writer_alive = None;
        }
        self.try_another();
    }

    /// What another try can mend is a loss; the rest is an error.
    fn fail(&mut self, status: Status) -> Result<(), Error> {
        let for_good = match status.code() {
            Code::InvalidArgument
            | Code::NotFound
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented
            | Code::OutOfRange => true,
            // Refused because of what the client has open already, or too often: that may be over soon.
            _ => false,
        };
        if for_good {
            self.stream = None;
            return Err(status.into());
        }
        self.lose(format!("{:?}: {}", status.code(), status.message()));
        Ok(())
    }

    fn take(&mut self, response: SubscribeResponse) {
        self.failures = 0;
        let events = &mut self.events;
        match response.notice() {
            Notice::Unspecified => {}
            notice => events.push_back(Event::Notice(notice)),
        }
        match response.image_reason() {
            ImageReason::Unspecified => {}
            reason => events.push_back(Event::Image { reason, gap: response.gap }),
        }
        if self.writer_alive != Some(response.writer_alive) {
            self.writer_alive = Some(response.writer_alive);
            events.push_back(Event::WriterAlive(response.writer_alive));
        }
        if response.mode() == SubscribeMode::Conflated && response.skipped != 0 {
            events.push_back(Event::Conflated { skipped: response.skipped });
        }
        let mut feed_events = response.feed_events.into_iter().peekable();
        for tick in response.updates {
            // An event of a feed comes before the rows whose position is higher.
            while let Some(event) = feed_events.next_if(|event| event.position < tick.position()) {
                events.push_back(Event::Feed(event));
            }
            events.push_back(Event::Tick(tick));
        }
        events.extend(feed_events.map(Event::Feed));
        if response.image_complete {
            events.push_back(Event::ImageComplete);
        }
        // Within an image there is no place to go on from: it is begun again.
        self.request.resume = response.place;
    }
}
