//! What a subscription delivers.

use crate::proto::{
    Contract, Definition, FeedEvent, Gap, ImageReason, Notice, Quote, RowMark, RowState, Trade,
    TradingStatus, Update, update,
};

/// In the order in which it happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// An image begins: nothing that was known before holds any more. The gap says what was lost, if that is known.
    Image { reason: ImageReason, gap: Option<Gap> },
    /// All of the image was told; what follows are changes.
    ImageComplete,
    /// A row is, or has become, so.
    Tick(Tick),
    /// Something that concerns all rows of a feed.
    Feed(FeedEvent),
    /// The subscription was paused, continued or changed by its owner, or goes on behind a lost connection.
    Notice(Notice),
    /// Updates that were left out since later ones took their place; an upper bound where the client was very slow.
    Conflated { skipped: u64 },
    /// Whether somebody vouches for the node's cache; if not, every row is stale.
    WriterAlive(bool),
    /// The connection was lost, or a node ended; until the next event all rows may be out of date.
    Lost { cause: String },
}

/// A row of an instrument.
#[derive(Clone, Debug, PartialEq)]
pub struct Tick {
    pub symbol: String,
    /// The node's own number of the instrument, within one image.
    pub instrument: u32,
    /// Decimals that the feed's prices have at least.
    pub price_decimals: u32,
    pub row: Row,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Row {
    Quote(Quote),
    ImpliedQuote(Quote),
    Trade(Trade),
    Status(TradingStatus),
    Definition(Definition),
    Contract(Contract),
}

impl Tick {
    /// `None` = a row of a kind that this library does not know.
    pub(crate) fn of(update: Update) -> Option<Tick> {
        let row = match update.row? {
            update::Row::Quote(quote) => Row::Quote(quote),
            update::Row::ImpliedQuote(quote) => Row::ImpliedQuote(quote),
            update::Row::Trade(trade) => Row::Trade(trade),
            update::Row::Status(status) => Row::Status(status),
            update::Row::Definition(definition) => Row::Definition(definition),
            update::Row::Contract(contract) => Row::Contract(contract),
        };
        let Update { symbol, instrument_id, price_decimals, .. } = update;
        Some(Tick { symbol, instrument: instrument_id, price_decimals, row })
    }

    /// Where it comes from and whether it can be believed.
    pub fn mark(&self) -> Option<&RowMark> {
        match &self.row {
            Row::Quote(quote) | Row::ImpliedQuote(quote) => quote.mark.as_ref(),
            Row::Trade(trade) => trade.mark.as_ref(),
            Row::Status(status) => status.mark.as_ref(),
            Row::Definition(definition) => definition.mark.as_ref(),
            Row::Contract(contract) => contract.mark.as_ref(),
        }
    }

    /// Whether it can be believed; a row without a mark can't.
    pub fn state(&self) -> RowState {
        self.mark().map_or(RowState::Unspecified, RowMark::state)
    }

    /// Its position in the log.
    pub fn position(&self) -> u64 {
        self.mark().map_or(0, |mark| mark.position)
    }
}
