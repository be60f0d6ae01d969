//! The faults of the network, which follow from one seed, and a trace of the run.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use loadx_core::{Rng as _, SplitMix64};

/// The delays and faults of a network.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Conditions {
    /// The longest delay of a piece.
    pub(crate) delay: Duration,
    /// The largest piece, in bytes.
    pub(crate) piece: u64,
    /// The most unread bytes in one direction.
    pub(crate) window: usize,
    /// One in this many polls reports a stream as readable without bytes; 0 means never.
    pub(crate) spurious: u64,
    /// One in this many writes also resets the connection; 0 means never.
    pub(crate) resets: u64,
    /// One in this many delays lasts up to a minute; 0 means never.
    pub(crate) stalls: u64,
}

impl Conditions {
    /// A network without faults.
    pub(crate) fn good() -> Self {
        let delay = Duration::from_micros(100);
        Conditions { delay, piece: 10_000, window: 60_000, spurious: 0, resets: 0, stalls: 0 }
    }
}

/// The state that all streams of a network share.
#[derive(Clone)]
pub(crate) struct NetState(Arc<Mutex<NetStateInner>>);

pub(crate) struct NetStateInner {
    pub(crate) rng: SplitMix64,
    pub(crate) conditions: Conditions,
    /// The local addresses of the ends that are not dropped, by connection number and side.
    pub(crate) open: BTreeMap<(u64, usize), SocketAddr>,
    /// A hash of all deliveries, to compare two runs.
    pub(crate) trace: u64,
}

impl NetState {
    pub(crate) fn new(seed: u64, conditions: Conditions) -> Self {
        let rng = SplitMix64::new(seed);
        NetState(Arc::new(Mutex::new(NetStateInner { rng, conditions, open: BTreeMap::new(), trace: 0 })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, NetStateInner> {
        self.0.lock().unwrap()
    }
}

impl NetStateInner {
    /// Draws true once in `count` times; never if `count` is 0.
    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        count > 0 && self.rng.below(count) == 0
    }

    pub(crate) fn delay(&mut self) -> Duration {
        let stalls = self.conditions.stalls;
        if self.one_in(stalls) {
            return Duration::from_millis(self.rng.below(60_000));
        }
        Duration::from_micros(self.rng.below(self.conditions.delay.as_micros() as u64 + 1))
    }

    pub(crate) fn note(&mut self, connection: u64, side: usize, what: u64) {
        let seen = [connection, side as u64, what];
        self.trace =
            seen.iter().fold(self.trace, |trace, part| (trace ^ part).wrapping_mul(0x0100_0000_01b3).rotate_left(17));
    }
}
