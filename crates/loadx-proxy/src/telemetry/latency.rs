//! Response times: count, sum, minimum, maximum and quantiles.

use hdrhistogram::Histogram;

/// The longest response time of the histograms, in microseconds: an hour.
pub(super) const LATENCY_MAX_US: u64 = 3_600_000_000;

/// Response times. Minimum, maximum and sum are exact.
#[derive(Clone, Debug)]
pub(crate) struct Latency {
    pub(super) histogram: Histogram<u64>,
    pub(super) sum_us: u64,
    pub(super) min_us: u64,
    pub(super) max_us: u64,
}

impl Latency {
    /// With a precision of three digits. Takes 188 KB.
    pub(super) fn precise() -> Self {
        Latency::of(Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).expect("the bounds are valid"))
    }

    /// With a precision of two digits, small because there may be thousands of clusters. Takes 2 KB, and 1 KB more
    /// whenever the longest time doubles.
    pub(super) fn small() -> Self {
        Latency::of(Histogram::new(2).expect("two digits are valid"))
    }

    fn of(histogram: Histogram<u64>) -> Self {
        Latency { histogram, sum_us: 0, min_us: u64::MAX, max_us: 0 }
    }

    /// Records a time of at most [`LATENCY_MAX_US`].
    pub(super) fn record(&mut self, took_us: u64) {
        self.histogram.record(took_us.max(1)).expect("the time is in the bounds, or the histogram grows");
        self.sum_us += took_us;
        self.min_us = self.min_us.min(took_us);
        self.max_us = self.max_us.max(took_us);
    }

    pub(super) fn add(&mut self, other: &Latency) {
        self.histogram.add(&other.histogram).expect("the bounds are the same, or the histogram grows");
        self.sum_us += other.sum_us;
        self.min_us = self.min_us.min(other.min_us);
        self.max_us = self.max_us.max(other.max_us);
    }
}
