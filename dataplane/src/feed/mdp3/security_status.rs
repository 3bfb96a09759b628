//! The trading status: told of an instrument, or of all of a security group at once.

use super::instrument::{Instrument, Instruments, state};
use super::{Mdp3, Stamp, Writer};
use crate::book::Full;
use crate::cache::tick::Status;
use crate::hint::Prefetch;
use crate::wire::mdp3::{EventHead, INT32_NULL, SecurityStatus, UINT8_NULL};
use bytemuck::{Pod, Zeroable};

/// Of what is not told.
const BLANK: [u8; 4] = *b"    ";

/// The letter of a trading status: the ones that ITCH has, too, where they mean the same. `None` = it tells nothing new.
fn letter(trading_status: u8) -> Option<u8> {
    Some(match trading_status {
        SecurityStatus::NO_CHANGE | UINT8_NULL => return None,
        2 => b'H',
        4 => b'C',
        15 => b'I',
        17 => b'T',
        18 => b'N',
        21 => b'o',
        24 => b'x',
        25 => b'X',
        26 => b'c',
        _ => b'U',
    })
}

/// Why, in four characters; the schedule is no reason.
fn reason(halt_reason: u8) -> [u8; 4] {
    match halt_reason {
        0 => BLANK,
        1 => *b"SURV",
        2 => *b"MKT ",
        3 => *b"ACT ",
        4 => *b"EXP ",
        6 => *b"RCVR",
        _ => *b"UNK ",
    }
}

/// A security group: its name, and the first of its instruments.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Group {
    name: [u8; 6],
    is_used: u16,
    /// Place plus 1; 0 = it has none any more.
    first: u32,
}

/// The instruments of each security group, chained: an open-addressed table of fixed size.
pub(super) struct Groups {
    /// A power of two of them.
    groups: Box<[Group]>,
    used: usize,
}

impl Groups {
    pub fn new(instruments_max: usize) -> Groups {
        let groups = (instruments_max.max(1) * 2).next_power_of_two();
        Groups { groups: bytemuck::allocation::zeroed_slice_box(groups), used: 0 }
    }

    pub fn clear(&mut self) {
        self.groups.fill(Group::zeroed());
        self.used = 0;
    }

    /// Where a group is, or would be.
    fn probe(&self, name: &[u8; 6]) -> usize {
        let [a, b, c, d, e, f] = *name;
        let hash = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mask = self.groups.len() - 1;
        let mut at = (hash >> 32) as usize & mask;
        while self.groups[at].is_used != 0 && self.groups[at].name != *name {
            at = (at + 1) & mask;
        }
        at
    }

    /// Puts an instrument into its group, and takes it out of the one where it was.
    pub fn enter(&mut self, instruments: &mut Instruments, place: usize, name: [u8; 6]) -> Result<(), Full> {
        if instruments[place].has(state::GROUPED) && instruments[place].security_group == name {
            return Ok(());
        }
        self.leave(instruments, place);
        let at = self.probe(&name);
        let is_full = self.used * 2 >= self.groups.len();
        let group = &mut self.groups[at];
        if group.is_used == 0 {
            if is_full {
                return Err(Full);
            }
            self.used += 1;
            *group = Group { name, is_used: 1, first: 0 };
        }
        let instrument = &mut instruments[place];
        instrument.next_in_group = std::mem::replace(&mut group.first, place as u32 + 1);
        instrument.security_group = name;
        instrument.is |= state::GROUPED;
        Ok(())
    }

    /// Takes an instrument out of its group, if it is in one.
    pub fn leave(&mut self, instruments: &mut Instruments, place: usize) {
        let instrument = &mut instruments[place];
        if !instrument.has(state::GROUPED) {
            return;
        }
        instrument.is &= !state::GROUPED;
        let (name, next) = (instrument.security_group, instrument.next_in_group);
        let at = self.probe(&name);
        let mut link = &mut self.groups[at].first;
        while *link as usize != place + 1 {
            let member = *link as usize - 1;
            link = &mut instruments[member].next_in_group;
        }
        *link = next;
    }

    fn first(&self, name: &[u8; 6]) -> u32 {
        self.groups[self.probe(name)].first
    }
}

impl Instrument {
    /// Its trading status, if it was told.
    pub fn status(&self) -> Option<Status> {
        let Instrument { trading_state: state, halt_reason: reason, .. } = *self;
        (state != 0).then_some(Status { state, reason, ..Status::zeroed() })
    }
}

impl<F: Prefetch> Mdp3<F> {
    #[cold]
    pub(super) fn security_status(
        &mut self,
        status: &SecurityStatus,
        stamp: Stamp,
        writer: &mut Writer<'_>,
    ) -> EventHead {
        let SecurityStatus { transact_time, match_event_indicator, .. } = *status;
        let stamp = Stamp { exchange_ns: transact_time.get(), ..stamp };
        if let Some(state) = letter(status.trading_status) {
            self.take_status(status, (state, reason(status.halt_reason)), &stamp, writer);
        }
        EventHead { transact_time, match_event_indicator }
    }

    fn take_status(
        &mut self,
        status: &SecurityStatus,
        told: (u8, [u8; 4]),
        stamp: &Stamp,
        writer: &mut Writer<'_>,
    ) {
        if status.security_id.get() != INT32_NULL {
            if let Some(place) = self.meet(status.security_id.get(), stamp, writer) {
                self.set_status(place, told, stamp, writer);
            }
            return;
        }
        let any_asset = status.asset.iter().all(|byte| matches!(byte, 0 | b' '));
        let mut matched = false;
        let mut next = self.groups.first(&status.security_group);
        while let Some(place) = next.checked_sub(1) {
            let instrument = &self.instruments[place as usize];
            next = instrument.next_in_group;
            if any_asset || instrument.asset == status.asset {
                matched = true;
                self.set_status(place as usize, told, stamp, writer);
            }
        }
        if !matched {
            self.publication.counters().statuses_unmatched.add(1);
        }
    }

    fn set_status(&mut self, place: usize, told: (u8, [u8; 4]), stamp: &Stamp, writer: &mut Writer<'_>) {
        let instrument = &mut self.instruments[place];
        (instrument.trading_state, instrument.halt_reason) = told;
        self.publish_status(place, stamp, writer);
    }

    /// No report tells the status, so none makes it doubtful.
    pub(super) fn publish_status(&mut self, place: usize, stamp: &Stamp, writer: &mut Writer<'_>) {
        let Some(status) = self.instruments[place].status() else { return };
        let row = self.instruments[place].row().or_else(|| self.introduce(place, stamp, writer));
        if let Some(row) = row {
            self.publication.publish_row(row, 0, status, stamp, writer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_instrument_is_in_the_group_that_it_entered_last(
            steps in prop::collection::vec((0..8_usize, 0..12_u8), 0..60),
        ) {
            let mut instruments = Instruments::new(8);
            (0..8).for_each(|id| assert!(instruments.find_or_add(id).is_ok()));
            let mut groups = Groups::new(8);
            let mut model = [None; 8];
            let mut named = std::collections::BTreeSet::new();
            for (place, name) in steps {
                let fits = named.contains(&name) || named.len() < 8;
                let entered = groups.enter(&mut instruments, place, [name; 6]);
                prop_assert_eq!(entered.is_ok(), fits || model[place] == Some(name));
                named.extend(fits.then_some(name));
                model[place] = fits.then_some(name);
            }
            for name in 0..12 {
                let mut members = vec![];
                let mut next = groups.first(&[name; 6]);
                while let Some(place) = next.checked_sub(1) {
                    members.push(place as usize);
                    next = instruments[place as usize].next_in_group;
                }
                members.sort();
                let expected: Vec<usize> = (0..8).filter(|place| model[*place] == Some(name)).collect();
                prop_assert_eq!(members, expected);
            }
        }
    }
}
