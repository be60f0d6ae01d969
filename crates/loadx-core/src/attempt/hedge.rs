//! Hedging: when a response has not begun in the time in which most do, a second backend gets the request as well, and the
//! client gets the response that begins first.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::load::{at_scale, log_scale};

/// When a second backend gets a request.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct HedgePolicy {
    /// The share of the responses, in percent, that begin before the time after which a second backend gets the request.
    /// Default 95: about one request in twenty is sent twice.
    pub percentile: u8,
    /// The shortest time after which a second backend gets the request. Default 10 ms: below, a second attempt costs more than
    /// the wait.
    pub delay_min: Duration,
}

impl Default for HedgePolicy {
    fn default() -> Self {
        HedgePolicy { percentile: 95, delay_min: Duration::from_millis(10) }
    }
}

/// The responses to see before a second backend gets any request: before, the time is not known.
const SEEN_MIN: u32 = 100;

/// How far one response moves the time, in 256ths of a step of the logarithmic scale: a quarter of a doubling.
const PACE: f64 = 16.0 * 256.0;

/// The time in which a share of the responses of a cluster begin.
///
/// Each response moves the time on a logarithmic scale: up if the response came later, down if it came earlier, so far that both
/// are equal when the share is right. This takes one number for all workers; a lost write between two workers is one response less.
#[derive(Debug)]
pub struct HedgeClock {
    policy: HedgePolicy,
    /// The time on the logarithmic scale, in 256ths of a step.
    place: AtomicU32,
    seen: AtomicU32,
}

impl HedgeClock {
    pub(crate) fn new(policy: HedgePolicy) -> Self {
        HedgeClock { policy, place: AtomicU32::new(0), seen: AtomicU32::new(0) }
    }

    pub(crate) fn policy(&self) -> HedgePolicy {
        self.policy
    }

    /// After what time a second backend gets a request; `None` as long as too few responses have come.
    pub fn delay(&self) -> Option<Duration> {
        let place = f64::from(self.place.load(Ordering::Relaxed)) / 256.0;
        (self.seen.load(Ordering::Relaxed) >= SEEN_MIN).then(|| at_scale(place).max(self.policy.delay_min))
    }

    /// Notes the time to the head of a response.
    pub(crate) fn note(&self, first_byte: Duration) {
        let (place, now) = (self.place.load(Ordering::Relaxed), (log_scale(first_byte) * 256) as u32);
        let seen = self.seen.load(Ordering::Relaxed);
        if seen < SEEN_MIN {
            self.seen.store(seen + 1, Ordering::Relaxed);
        }
        match seen {
            0 => self.place.store(now, Ordering::Relaxed),
            _ => self.step(place, now > place),
        }
    }

    /// Notes a response that had not begun when that of another backend did.
    pub(crate) fn note_late(&self) {
        self.step(self.place.load(Ordering::Relaxed), true);
    }

    fn step(&self, place: u32, is_late: bool) {
        let share = f64::from(self.policy.percentile) / 100.0;
        let place = match is_late {
            true => place.saturating_add((PACE * share) as u32),
            false => place.saturating_sub((PACE * (1.0 - share)) as u32),
        };
        self.place.store(place, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Rng as _, SplitMix64};

    #[test]
    fn the_time_is_near_the_percentile() {
        let mut rng = SplitMix64::new(1);
        // Exponential times with a mean of 20 ms: 95 % are below 60 ms.
        let mut sample = move || Duration::from_secs_f64(-0.02 * (1.0 - rng.unit()).ln());
        let clock = HedgeClock::new(HedgePolicy::default());
        (0..5_000).for_each(|_| clock.note(sample()));
        let mut above = 0;
        for _ in 0..20_000 {
            let (time, delay) = (sample(), clock.delay().unwrap());
            above += u32::from(time > delay);
            clock.note(time);
        }
        let share = f64::from(above) / 20_000.0;
        assert!((0.03..0.07).contains(&share), "{share} of the responses came later");
    }

    #[test]
    fn the_time_follows_a_change() {
        let clock = HedgeClock::new(HedgePolicy::default());
        (0..SEEN_MIN - 1).for_each(|_| clock.note(Duration::from_millis(20)));
        assert_eq!(clock.delay(), None, "too few responses");
        clock.note(Duration::from_millis(20));
        let near = |millis: u64| {
            let delay = clock.delay().unwrap();
            assert!(
                delay > Duration::from_millis(millis / 2) && delay < Duration::from_millis(millis * 2),
                "{delay:?}"
            );
        };
        near(20);
        (0..2_000).for_each(|_| clock.note(Duration::from_millis(200)));
        near(200);
        (0..2_000).for_each(|_| clock.note(Duration::from_micros(100)));
        assert_eq!(clock.delay(), Some(Duration::from_millis(10)), "not below the shortest time");
    }
}
