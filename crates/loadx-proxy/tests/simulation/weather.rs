//! What happens to bytes on their way, and what is remembered of it. All of it follows from one seed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use loadx_core::{Rng as _, SplitMix64};

/// How bad a network is.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Weather {
    /// The longest delay of a piece.
    pub(crate) delay: Duration,
    /// The largest piece, in bytes.
    pub(crate) piece: u64,
    /// Bytes that may be under way in one direction.
    pub(crate) window: usize,
    /// One in so many looks at a stream finds it ready for nothing; 0 is never.
    pub(crate) spurious: u64,
    /// One in so many pieces is a reset instead; 0 is never.
    pub(crate) resets: u64,
    /// One in so many pieces is held up for up to a minute; 0 is never.
    pub(crate) stalls: u64,
}

/// Draws what happens, and keeps account of it; shared by all streams of a network.
#[derive(Clone)]
pub(crate) struct Fate(Arc<Mutex<Drawn>>);

pub(crate) struct Drawn {
    pub(crate) rng: SplitMix64,
    pub(crate) weather: Weather,
    /// The ends of connections that nobody has dropped: number, side, and where they are.
    pub(crate) open: BTreeMap<(u64, usize), SocketAddr>,
    /// A fold of all that happened, to compare two runs by.
    pub(crate) trace: u64,
}

impl Fate {
    pub(crate) fn new(seed: u64, weather: Weather) -> Self {
        let rng = SplitMix64::new(seed);
        Fate(Arc::new(Mutex::new(Drawn { rng, weather, open: BTreeMap::new(), trace: 0 })))
    }

    pub(crate) fn drawn(&self) -> MutexGuard<'_, Drawn> {
        self.0.lock().unwrap()
    }
}

impl Drawn {
    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        count > 0 && self.rng.below(count) == 0
    }

    pub(crate) fn delay(&mut self) -> Duration {
        let stalls = self.weather.stalls;
        if self.one_in(stalls) {
            return Duration::from_millis(self.rng.below(60_000));
        }
        Duration::from_micros(self.rng.below(self.weather.delay.as_micros() as u64 + 1))
    }

    pub(crate) fn note(&mut self, connection: u64, side: usize, what: u64) {
        let seen = [connection, side as u64, what];
        self.trace =
            seen.iter().fold(self.trace, |trace, part| (trace ^ part).wrapping_mul(0x0100_0000_01b3).rotate_left(17));
    }
}
