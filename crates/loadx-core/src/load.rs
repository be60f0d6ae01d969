//! The counts of one backend that every worker writes.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// The counts of one backend. `Load` fills two cache lines (the second because of the adjacent-line prefetcher), so that a
/// write for one backend does not slow down another backend.
#[repr(align(128))]
#[derive(Default)]
pub(crate) struct Load {
    /// The exchanges in flight in the low half, and the attempts that ended with a verdict in the high half: one write changes
    /// both at the end of an attempt. The high half wraps around.
    counts: AtomicU64,
    /// The sum of [`log_scale`] of the times to the head of each response that was no failure. Wraps around.
    slowness: AtomicU64,
    /// The most exchanges in flight, by control; 0 for no limit.
    limit: AtomicU32,
    /// The heads that came before the ends of their exchanges. Wraps around.
    heads: AtomicU32,
    /// The failed attempts. Wraps around.
    failed: AtomicU32,
    /// The attempts that another backend overtook. Wraps around.
    overtaken: AtomicU32,
    /// The failed attempts since the last attempt that was no failure.
    failed_in_a_row: AtomicU32,
    /// Written once, by control.
    has_left: AtomicBool,
    /// Written by control, at the end of a drain and when a drained backend gets requests again.
    is_cut: AtomicBool,
    /// Written by control: whether requests that wait for this backend go elsewhere if that is safe.
    is_given_up: AtomicBool,
}

/// One ended attempt in the high half of `counts`.
const ENDED: u64 = 1 << 32;

/// The counts of a backend at one moment.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) in_flight: u32,
    pub(crate) ended: u32,
    pub(crate) heads: u32,
    pub(crate) failed: u32,
    pub(crate) overtaken: u32,
    pub(crate) slowness: u64,
}

impl Load {
    pub(crate) fn in_flight(&self) -> u32 {
        self.counts.load(Ordering::Relaxed) as u32
    }

    pub(crate) fn totals(&self) -> Totals {
        let counts = self.counts.load(Ordering::Relaxed);
        Totals {
            in_flight: counts as u32,
            ended: (counts / ENDED) as u32,
            heads: self.heads.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            overtaken: self.overtaken.load(Ordering::Relaxed),
            slowness: self.slowness.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn failed_in_a_row(&self) -> u32 {
        self.failed_in_a_row.load(Ordering::Relaxed)
    }

    pub(crate) fn has_left(&self) -> bool {
        self.has_left.load(Ordering::Relaxed)
    }

    /// Notes that the backend has left its cluster.
    pub(crate) fn leave(&self) {
        self.has_left.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Relaxed)
    }

    /// Sets whether the exchanges that still run must end.
    pub(crate) fn set_cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::Relaxed);
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.is_given_up.load(Ordering::Relaxed)
    }

    /// Sets whether requests that wait for this backend go elsewhere.
    pub(crate) fn set_given_up(&self, is_given_up: bool) {
        self.is_given_up.store(is_given_up, Ordering::Relaxed);
    }

    /// Sets the most exchanges in flight; `None` for no limit.
    pub(crate) fn set_limit(&self, limit: Option<u32>) {
        self.limit.store(limit.unwrap_or(0), Ordering::Relaxed);
    }

    /// The most exchanges in flight; `None` for no limit.
    pub(crate) fn limit(&self) -> Option<u32> {
        Some(self.limit.load(Ordering::Relaxed)).filter(|limit| *limit > 0)
    }

    /// Counts an attempt as in flight. Returns false, and counts nothing, if the backend is at its limit.
    ///
    /// In one order with [`end`](Self::end) and with the count of requests that wait (`Gate`), so that a request that begins to
    /// wait while the last attempt ends is not forgotten.
    pub(crate) fn begin(&self) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        if limit == 0 {
            self.counts.fetch_add(1, Ordering::SeqCst);
            return true;
        }
        // Never beyond the limit, not even for a moment: another request would find the backend at its limit, and wait.
        let begin = |counts: u64| ((counts as u32) < limit).then(|| counts + 1);
        self.counts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, begin).is_ok()
    }

    /// Whether the backend is at its limit.
    pub(crate) fn is_full(&self) -> bool {
        self.limit().is_some_and(|limit| self.in_flight() >= limit)
    }

    /// Notes that the head of a response has come whose content is still to come, or that opens a tunnel.
    pub(crate) fn note_head(&self) {
        self.heads.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an attempt as no longer in flight; `is_judged`: whether its end says something about the backend.
    pub(crate) fn end(&self, is_judged: bool) {
        // Adding ENDED and subtracting 1 in one step: the low half is at least 1, so that nothing is borrowed.
        let before = if is_judged {
            self.counts.fetch_add(ENDED - 1, Ordering::SeqCst)
        } else {
            self.counts.fetch_sub(1, Ordering::SeqCst)
        };
        debug_assert!(before as u32 > 0, "an exchange finished twice");
    }

    /// Notes an attempt that was no failure, with the time to the head of its response.
    pub(crate) fn note_success(&self, first_byte: Duration) {
        self.slowness.fetch_add(log_scale(first_byte), Ordering::Relaxed);
        // A write only after a failure: the load is on a line that this worker has just written.
        if self.failed_in_a_row() != 0 {
            self.failed_in_a_row.store(0, Ordering::Relaxed);
        }
    }

    /// Notes a failed attempt. Returns the number of failures in a row.
    pub(crate) fn note_failure(&self) -> u32 {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.failed_in_a_row.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }

    /// Notes an attempt that another backend overtook.
    pub(crate) fn note_overtaken(&self) {
        self.overtaken.fetch_add(1, Ordering::Relaxed);
    }

    /// Begins a new row of failures.
    pub(crate) fn forget_row(&self) {
        self.failed_in_a_row.store(0, Ordering::Relaxed);
    }
}

impl fmt::Debug for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in flight", self.in_flight())
    }
}

/// The steps of [`log_scale`] in one doubling.
pub(crate) const STEPS_PER_DOUBLING: f64 = 64.0;

/// A time on a logarithmic scale: 64 steps for each doubling, from 0 for a microsecond or less. Between two doublings the scale
/// is linear, which is at most 9 % off.
///
/// Means of times follow the few longest times; means on this scale do not, so that some slow requests do not make a backend
/// look slow.
pub(crate) fn log_scale(time: Duration) -> u64 {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX >> 6).clamp(1, u64::MAX >> 6);
    let doublings = u64::from(micros.ilog2());
    let fraction = ((micros << 6) >> doublings) & 63;
    doublings * 64 + fraction
}

/// The time at a place of the logarithmic scale.
pub(crate) fn at_scale(steps: f64) -> Duration {
    let doublings = (steps / STEPS_PER_DOUBLING).floor();
    let fraction = steps / STEPS_PER_DOUBLING - doublings;
    Duration::from_secs_f64(doublings.exp2() * (1.0 + fraction) / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_halves_of_the_counts_do_not_mix() {
        let load = Load::default();
        (0..3).for_each(|_| assert!(load.begin()));
        load.end(true);
        load.end(false);
        assert_eq!(load.totals(), Totals { in_flight: 1, ended: 1, ..Totals::default() });
        for _ in 0..3 {
            assert!(load.begin());
            load.end(true);
        }
        assert_eq!(load.totals(), Totals { in_flight: 1, ended: 4, ..Totals::default() });
        load.counts.store((u64::from(u32::MAX) << 32) + 1, Ordering::Relaxed);
        load.end(true);
        assert_eq!(load.totals(), Totals::default(), "the count of ended attempts wraps around alone");
    }

    #[test]
    fn a_limit_is_never_passed() {
        let load = Load::default();
        load.set_limit(Some(2));
        assert_eq!([load.begin(), load.begin(), load.begin()], [true, true, false]);
        assert_eq!(load.in_flight(), 2);
        load.end(true);
        assert!(load.begin());
        load.set_limit(None);
        assert!(load.begin());
    }

    #[test]
    fn the_scale_grows_by_64_steps_a_doubling() {
        let micros = |micros| log_scale(Duration::from_micros(micros));
        assert_eq!([0, 1, 2, 4, 1_024].map(micros), [0, 0, 64, 128, 640]);
        assert_eq!(micros(3), 96);
        assert_eq!(log_scale(Duration::MAX), log_scale(Duration::from_micros(u64::MAX >> 6)));
        assert_eq!(at_scale(640.0), Duration::from_micros(1_024));
    }

    #[test]
    fn a_success_ends_a_row_of_failures() {
        let load = Load::default();
        assert_eq!([load.note_failure(), load.note_failure()], [1, 2]);
        load.note_success(Duration::from_millis(1));
        assert_eq!(load.note_failure(), 1);
        assert_eq!(load.totals().failed, 3);
    }
}
