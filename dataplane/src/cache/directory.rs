//! The directory: from a symbol to its instruments without a scan.
//!
//! An open-addressed table of words `hash tag (32 bits) | instrument + 1 (32 bits)`, filled but never
//! emptied, so that a reader needs no more than plain loads. A word is only a candidate: the Definition row of
//! its instrument says whether it is the one.

use super::region::{Region, mix};
use super::tick::{Definition, Kind, Tick};
use crate::sync::{Ordering, load_acquire};

fn hash(symbol: &[u8]) -> u64 {
    let mut hash = 0x9e37_79b9_7f4a_7c15 ^ symbol.len() as u64;
    for chunk in symbol.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = mix(hash ^ u64::from_le_bytes(word));
    }
    hash
}

/// The instruments that are called `symbol`, in every feed that has one.
pub(super) fn find<'r>(
    region: &'r Region<'r>,
    symbol: &'r [u8],
) -> impl Iterator<Item = (u32, Tick, Definition)> + use<'r> {
    let hash = hash(symbol);
    let slots = region.directory_slots();
    (0..slots)
        .map(move |probe| region.directory_word((hash as usize).wrapping_add(probe) & (slots - 1)))
        .map(load_acquire)
        .take_while(|word| *word != 0)
        .filter(move |word| word >> 32 == hash >> 32)
        .filter_map(move |word| {
            let instrument = (word as u32).wrapping_sub(1);
            if instrument >= region.layout.instruments {
                return None;
            }
            let (_, tick) = region.row(instrument, Kind::Definition).load().held()?;
            let definition = *tick.payload::<Definition>()?;
            (definition.name() == symbol).then_some((instrument, tick, definition))
        })
}

/// Adds a word for an instrument whose Definition row is about to say `symbol`; false = the directory is full.
pub(super) fn insert(region: &Region<'_>, symbol: &[u8], instrument: u32) -> bool {
    let hash = hash(symbol);
    let slots = region.directory_slots();
    let entry = (hash >> 32 << 32) | u64::from(instrument + 1);
    for probe in 0..slots {
        let word = region.directory_word((hash as usize).wrapping_add(probe) & (slots - 1));
        match word.load(Ordering::Relaxed) {
            0 => {
                word.store(entry, Ordering::Release);
                return true;
            }
            held if held == entry => return true,
            _ => {}
        }
    }
    false
}
