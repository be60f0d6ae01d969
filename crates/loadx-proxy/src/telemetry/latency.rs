//! Durations of requests: quantiles, and counts by fixed bounds.

use hdrhistogram::Histogram;

/// The longest duration of the histograms, in microseconds: an hour.
pub(super) const LATENCY_MAX_US: u64 = 3_600_000_000;

/// The upper bounds of the counts, in microseconds: 0.1 ms to a minute. A duration above the last bound has a count of its
/// own.
pub(super) const BOUNDS_US: [u64; 18] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// Durations. Minimum, maximum and sum are exact.
#[derive(Clone, Debug)]
pub(crate) struct Latency {
    pub(super) histogram: Histogram<u64>,
    pub(super) sum_us: u64,
    pub(super) min_us: u64,
    pub(super) max_us: u64,
}

/// The number of durations up to each bound and above the bound before, and their sum.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Buckets {
    pub(super) counts: [u64; BOUNDS_US.len() + 1],
    pub(super) sum_us: u64,
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

impl Buckets {
    #[inline]
    pub(super) fn record(&mut self, took_us: u64) {
        let place = first_bound(took_us);
        self.counts[place] += 1;
        self.sum_us += took_us;
    }

    pub(super) fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub(super) fn add(&mut self, other: &Buckets) {
        self.counts.iter_mut().zip(other.counts).for_each(|(mine, theirs)| *mine += theirs);
        self.sum_us += other.sum_us;
    }
}

/// For each number of binary digits, the first bound that is not below all numbers with so many digits.
const FIRST_BOUNDS: [u8; 65] = {
    let mut first = [0; 65];
    let mut digits = 1;
    while digits < 65 {
        let lowest = 1u64 << (digits - 1);
        let mut place = 0;
        while place < BOUNDS_US.len() && BOUNDS_US[place] < lowest {
            place += 1;
        }
        first[digits] = place as u8;
        digits += 1;
    }
    first
};

/// The place of the first bound that is not below a duration; the number of bounds if all are below. At most two bounds have
/// the same number of binary digits, so that this compares three times at most.
#[inline]
fn first_bound(took_us: u64) -> usize {
    let mut place = usize::from(FIRST_BOUNDS[64 - took_us.leading_zeros() as usize]);
    while place < BOUNDS_US.len() && BOUNDS_US[place] < took_us {
        place += 1;
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_counts_at_the_first_bound_that_is_not_below() {
        let around = BOUNDS_US.into_iter().flat_map(|bound| [bound - 1, bound, bound + 1]);
        for took in around.chain([0, 1, 2, LATENCY_MAX_US, u64::MAX]) {
            let expected = BOUNDS_US.iter().position(|bound| *bound >= took).unwrap_or(BOUNDS_US.len());
            assert_eq!(first_bound(took), expected, "{took}");
        }
    }
}
