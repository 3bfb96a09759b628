//! What is known of an instrument beyond its rows: what a later message may need.

use crate::cache::tick::Status;
use crate::feed::trades::Trades;
use bytemuck::{Pod, Zeroable};

/// The two messages that make up the status, each of which says one half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    Trading = 0,
    OperationalHalt = 1,
}

/// All zero = nothing is known.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Instrument {
    pub trades: Trades,
    pub status: Status,
    /// By [`Half`], one above how many losses there had been when it was told last; 0 = not in this session.
    told: [u64; 2],
}

impl Instrument {
    pub fn tell(&mut self, half: Half, losses: u64) {
        self.told[half as usize] = losses + 1;
    }

    /// Whether both halves were told after so many losses.
    pub fn is_told_since(&self, losses: u64) -> bool {
        self.told.iter().all(|told| *told > losses)
    }
}
