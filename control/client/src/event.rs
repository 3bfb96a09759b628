//! What a subscription delivers.

use crate::proto::{FeedEvent, Gap, ImageReason, Notice, Update};

/// In the order in which it happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// An image begins: nothing that was known before holds any more. The gap says what was lost, if that is known.
    Image { reason: ImageReason, gap: Option<Gap> },
    /// All of the image was told; what follows are changes.
    ImageComplete,
    /// A row is, or has become, so.
    Tick(Update),
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
