//! A client that believes nothing: what it is told is compared with what was published.

use super::world::{MS, Row, Wish, World};
use control::delivery::{Step, Subscription};
use control::proto::{
    DeliveryMode, ImageReason, Notice, Place, SubscribeMode, SubscribeResponse, Update, update,
};
use dataplane::cache::tick::Kind;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What has happened, over all clients.
#[derive(Debug, Default)]
pub struct Seen {
    pub updates: u64,
    pub images: u64,
    pub gaps: u64,
    pub ends: u64,
    pub resumed: u64,
    pub grown: u64,
}

pub struct Client {
    subscription: Subscription,
    pub wish: Wish,
    /// The position of each row as it was told last.
    told: BTreeMap<Row, u64>,
    /// Positions that came as changes since the image.
    delivered: BTreeSet<u64>,
    /// Up to where a row that was told as its latest stands for all before it.
    stands_for: BTreeMap<Row, u64>,
    place: Option<Place>,
    has_begun: bool,
    may_grow: bool,
    resumes_at: Option<u64>,
    conflated_at: BTreeMap<Row, u64>,
}

impl Client {
    pub fn new(world: &World, wish: Wish) -> Client {
        let plan = Arc::new(wish.plan(&world.node));
        Client {
            subscription: Subscription::new(world.node.clone(), Default::default(), plan, None),
            wish,
            told: BTreeMap::new(),
            delivered: BTreeSet::new(),
            stands_for: BTreeMap::new(),
            place: None,
            has_begun: false,
            may_grow: false,
            resumes_at: None,
            conflated_at: BTreeMap::new(),
        }
    }

    pub fn change(&mut self, world: &World, wish: Wish) {
        let all = |wish: &Wish| -> Vec<Row> {
            let rows = world.ticks_below(world.tail()).map(|(_, row)| row);
            rows.filter(|row| wish.has(*row)).collect()
        };
        self.may_grow |= all(&wish).iter().any(|row| !self.wish.has(*row));
        self.wish = wish;
        self.conflated_at.clear();
        self.subscription.change(Arc::new(self.wish.plan(&world.node)), world.now_ns);
    }

    /// The connection is lost, and a new one goes on where it was.
    pub fn reconnect(&mut self, world: &World) {
        let Some(place) = self.place else { return };
        let plan = Arc::new(self.wish.plan(&world.node));
        self.conflated_at.clear();
        self.subscription = Subscription::new(world.node.clone(), Default::default(), plan, Some(place));
        (self.has_begun, self.may_grow, self.resumes_at) = (false, false, Some(place.position));
    }

    /// Reads so many responses, or all that there are; false = the subscription has ended.
    pub fn read(&mut self, world: &World, responses: usize, seen: &mut Seen) -> bool {
        let (mut sent, mut again) = (0, 0);
        while sent < responses {
            match self.subscription.step(world.now_ns) {
                Step::Send(response) => {
                    sent += 1;
                    let bytes = response.encode_to_vec();
                    assert_eq!(bytes.len(), response.encoded_len());
                    self.take(&SubscribeResponse::decode(bytes.as_slice()).unwrap(), world, seen);
                }
                Step::Again => {
                    again += 1;
                    assert!(again < 10_000, "it gets nowhere");
                }
                Step::Wait { until_ns, .. } => {
                    assert!(until_ns > world.now_ns);
                    return true;
                }
                Step::End(status) => {
                    assert_eq!(status.code(), tonic::Code::OutOfRange);
                    assert!(self.place.is_none_or(|place| place.position < world.oldest()));
                    seen.ends += 1;
                    return false;
                }
            }
        }
        true
    }

    fn take(&mut self, response: &SubscribeResponse, world: &World, seen: &mut Seen) {
        let notice = response.notice();
        assert!(
            !self.wish.is_paused || (response.updates.is_empty() && notice == Notice::Paused),
            "nothing comes during a pause: {response:?}"
        );
        if notice == Notice::Resumed {
            let at = self.resumes_at.take().expect("it was asked for");
            assert!(at >= world.oldest());
            self.has_begun = true;
            seen.resumed += 1;
            // What is conflated is told once more as it is.
            self.told
                .retain(|row, _| self.wish.promises(*row) || self.wish.mode == DeliveryMode::Unspecified);
        }
        if response.image_reason() != ImageReason::Unspecified {
            self.begin_image(response, world, seen);
        }
        assert!(self.has_begun || notice == Notice::Paused);
        for update in &response.updates {
            self.take_update(update, response.mode(), world);
        }
        seen.updates += response.updates.len() as u64;
        if let Some(place) = response.place {
            assert!(place.position <= world.tail() && place.generation == 7);
            self.check(place.position, world);
            self.place = Some(place);
        }
    }

    fn begin_image(&mut self, response: &SubscribeResponse, world: &World, seen: &mut Seen) {
        seen.images += 1;
        match response.image_reason() {
            ImageReason::First => assert!(!self.has_begun && self.resumes_at.is_none()),
            ImageReason::Overwritten => {
                assert!(self.resumes_at.take().expect("it was asked for") < world.oldest());
            }
            ImageReason::Gap => {
                let gap = response.gap.expect("it says what is lacking");
                assert!(gap.from < gap.to && gap.count == gap.to - gap.from);
                assert!(gap.from < world.oldest() && gap.to <= world.tail(), "{gap:?}");
                assert!(matches!(self.wish.mode, DeliveryMode::EveryTick | DeliveryMode::TradeSafe));
                self.check(gap.from, world);
                seen.gaps += 1;
            }
            ImageReason::Changed => {
                let is_resumed = self.resumes_at.take().is_some();
                assert!(self.may_grow || is_resumed, "it has nothing that it had not");
                seen.grown += 1;
            }
            other => panic!("{other:?}"),
        }
        (self.has_begun, self.may_grow, self.place) = (true, false, None);
        self.told.clear();
        self.delivered.clear();
        self.stands_for.clear();
        self.conflated_at.clear();
    }

    fn take_update(&mut self, update: &Update, mode: SubscribeMode, world: &World) {
        let mark = update.mark().unwrap();
        let (kind, number) = match update.row.as_ref().unwrap() {
            update::Row::Quote(quote) => (Kind::Quote, quote.bid_price_e9.unwrap() as u64),
            update::Row::Trade(trade) => (Kind::Trade, trade.price_e9.unwrap() as u64),
            update::Row::Definition(_) => (Kind::Definition, mark.sequence),
            other => panic!("{other:?} was never published"),
        };
        let row = (update.instrument_id, kind as u8);
        assert_eq!(world.log[mark.position as usize], Some((row, number)), "it is what was published there");
        assert!(self.wish.has(row), "{row:?} is not wanted by {:?}", self.wish);
        let before = self.told.insert(row, mark.position);
        assert!(before.is_none_or(|before| before < mark.position), "{row:?} twice, or back: {before:?}");
        match mode {
            SubscribeMode::Delta => drop(self.delivered.insert(mark.position)),
            SubscribeMode::Image => drop(self.stands_for.insert(row, mark.position)),
            SubscribeMode::Conflated => {
                assert!(
                    self.wish.mode != DeliveryMode::EveryTick
                        || !self.wish.promises(row)
                        || !self.delivered.contains(&mark.position)
                );
                self.stands_for.insert(row, mark.position);
                if self.wish.mode == DeliveryMode::Conflated && self.wish.rate_per_s != 0 {
                    let at = self.conflated_at.insert(row, world.now_ns);
                    let period_ns = 1_000 * MS / u64::from(self.wish.rate_per_s);
                    assert!(at.is_none_or(|at| world.now_ns - at >= period_ns), "{row:?} too often");
                }
            }
            SubscribeMode::Unspecified => panic!("a response says what it is"),
        }
    }

    /// Everything below `position` is accounted for.
    fn check(&self, position: u64, world: &World) {
        let mut last: BTreeMap<Row, u64> = BTreeMap::new();
        for (at, row) in world.ticks_below(position).filter(|(_, row)| self.wish.has(*row)) {
            last.insert(row, at);
            let is_told = self.delivered.contains(&at)
                || self.stands_for.get(&row).is_some_and(|stands_for| at <= *stands_for);
            assert!(is_told || !self.wish.promises(row), "{row:?} at {at} was not delivered");
        }
        if self.wish.mode != DeliveryMode::TradeSafe {
            for (row, at) in last {
                let told = self.told.get(&row);
                assert!(told.is_some_and(|told| *told >= at), "{row:?} at {at} was not told: {told:?}");
            }
        }
    }

    /// When there is nothing more: it knows the latest of all that it wants.
    pub fn check_knows_all(&self, world: &World) {
        for instrument in 0..world.instruments() {
            for kind in [Kind::Quote, Kind::Trade, Kind::Definition] {
                let row = (instrument, kind as u8);
                let latest = world.ticks_below(world.tail()).filter(|(_, of)| *of == row).last();
                let told = self.told.get(&row).filter(|told| **told >= world.session);
                // Others were wanted once.
                if let Some((at, _)) = latest.filter(|_| self.wish.has(row)) {
                    assert_eq!(told, Some(&at), "{row:?} {:?}", self.wish);
                }
            }
        }
    }
}
