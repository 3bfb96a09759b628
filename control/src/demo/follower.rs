//! The follower: a subscriber that keeps its own picture of everything, from image and changes alone.

use crate::client::verify::Comparison;
use crate::client::{ClientError, RESPONSE_BYTES_MAX, ServerArgs};
use crate::proto::market_data_client::MarketDataClient;
use crate::proto::{Instrument, SubscribeRequest, SubscribeResponse, feed_event, update};
use crate::row::Row;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

type Picture = BTreeMap<String, Instrument>;

pub struct Follower {
    picture: Arc<Mutex<Picture>>,
    task: JoinHandle<()>,
}

impl Follower {
    pub async fn start(server: &ServerArgs) -> Result<Follower, ClientError> {
        let channel = server.connect().await?;
        let mut client = MarketDataClient::new(channel).max_decoding_message_size(RESPONSE_BYTES_MAX);
        let request = SubscribeRequest { patterns: vec!["*".to_owned()], ..SubscribeRequest::default() };
        let mut responses = client.subscribe(request).await?.into_inner();
        let picture = Arc::new(Mutex::new(Picture::new()));
        let kept = picture.clone();
        let task = tokio::spawn(async move {
            while let Ok(Some(response)) = responses.message().await {
                take(&mut kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner()), response);
            }
        });
        Ok(Follower { picture, task })
    }

    /// Compares what was followed; what is still on its way is waited for.
    pub async fn compare(&mut self, expected: &[Row], at_most: Duration) -> Comparison {
        let started = Instant::now();
        loop {
            let rows: Vec<Row> = {
                let picture = self.picture.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                picture.values().map(Row::from).collect()
            };
            let comparison = Comparison::of(expected, &rows);
            // Doubtful rows do not become live by waiting.
            let may_still_come = comparison.different.len() + comparison.missing.len() != 0;
            if !may_still_come || started.elapsed() > at_most {
                return comparison;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn take(picture: &mut Picture, response: SubscribeResponse) {
    for event in response.feed_events {
        match event.event {
            // Every row of before is gone.
            Some(feed_event::Event::SessionStarted(_)) => picture.retain(|_, instrument| {
                instrument
                    .definition
                    .as_ref()
                    .and_then(|row| row.mark.as_ref())
                    .is_some_and(|mark| mark.position >= event.position)
            }),
            // Every row below is suspect.
            Some(feed_event::Event::ConditionChanged(changed)) if changed.proven_from == u64::MAX => {
                picture.values_mut().for_each(|instrument| instrument.state = 3);
            }
            _ => {}
        }
    }
    for update in response.updates {
        let instrument = picture.entry(update.symbol.clone()).or_default();
        instrument.state = instrument.state.max(update.mark().map_or(0, |mark| mark.state));
        instrument.symbol = update.symbol;
        instrument.price_decimals = update.price_decimals;
        match update.row {
            Some(update::Row::Quote(row)) => instrument.quote = Some(row),
            Some(update::Row::Trade(row)) => instrument.trade = Some(row),
            Some(update::Row::Status(row)) => instrument.status = Some(row),
            Some(update::Row::Definition(row)) => instrument.definition = Some(row),
            Some(update::Row::ImpliedQuote(row)) => instrument.implied_quote = Some(row),
            Some(update::Row::Contract(row)) => instrument.contract = Some(row),
            None => {}
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}
