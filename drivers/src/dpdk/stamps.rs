//! Stamps: from the device's clock to Unix time.

use super::port::PortId;
use crate::clock::SystemClock;
use dataplane::time::{Clock, NS_PER_MS, NS_PER_S};
use dpdk_sys as sys;
use std::cell::Cell;
use std::time::Duration;

/// Too short a time between two readings says little about the clock's rate.
const RATE_INTERVAL_NS: u64 = 100 * NS_PER_MS;
const FIRST_INTERVAL: Duration = Duration::from_millis(20);

/// A straight line through two readings of both clocks, renewed ten times a second.
#[derive(Debug)]
pub(super) struct Stamps {
    port_id: PortId,
    /// The last reading: the device's clock, and Unix time.
    ticks: Cell<u64>,
    unix_ns: Cell<u64>,
    ns_per_tick: Cell<f64>,
}

impl Stamps {
    /// `None` if the device's clock can't be read: its stamps could not be told from any other numbers.
    pub fn new(port_id: PortId) -> Option<Stamps> {
        let (ticks, unix_ns) = read(port_id)?;
        let stamps = Stamps {
            port_id,
            ticks: Cell::new(ticks),
            unix_ns: Cell::new(unix_ns),
            ns_per_tick: Cell::new(0.0),
        };
        std::thread::sleep(FIRST_INTERVAL);
        stamps.read_again(FIRST_INTERVAL.as_nanos() as u64 / 2);
        (stamps.ns_per_tick.get() > 0.0).then_some(stamps)
    }

    /// To be called now and then.
    pub fn renew(&self) {
        self.read_again(RATE_INTERVAL_NS);
    }

    fn read_again(&self, interval_ns_min: u64) {
        let Some((ticks, unix_ns)) = read(self.port_id) else { return };
        let (passed_ticks, passed_ns) =
            (ticks.wrapping_sub(self.ticks.get()), unix_ns.saturating_sub(self.unix_ns.get()));
        if passed_ticks == 0 || passed_ns < interval_ns_min {
            return;
        }
        self.ns_per_tick.set(passed_ns as f64 / passed_ticks as f64);
        self.ticks.set(ticks);
        self.unix_ns.set(unix_ns);
    }

    #[inline]
    pub fn unix_ns(&self, ticks: u64) -> u64 {
        let since = ticks.wrapping_sub(self.ticks.get()) as i64;
        let offset_ns = since as f64 * self.ns_per_tick.get();
        // Not from another time altogether.
        if offset_ns.abs() > 10.0 * NS_PER_S as f64 {
            return 0;
        }
        self.unix_ns.get().saturating_add_signed(offset_ns as i64)
    }
}

fn read(port_id: PortId) -> Option<(u64, u64)> {
    let mut ticks = 0;
    // SAFETY: the port exists, the place for the answer is valid; drivers without a clock say so.
    let result = unsafe { sys::rte_eth_read_clock(port_id.0, &mut ticks) };
    (result == 0).then(|| (ticks, SystemClock.unix_ns()))
}
