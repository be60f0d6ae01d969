//! Requests and response times over the time of a run.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::report::Moment;
use crate::tally::round;

/// The most slots. When a run is longer, slots become twice as long.
const SLOTS_MAX: usize = 600;

/// The results of each second, or in a long run of each slot of several seconds.
#[derive(Clone, Debug)]
pub(crate) struct Timeline {
    slot_seconds: u64,
    slots: Vec<Slot>,
}

#[derive(Clone, Debug)]
struct Slot {
    requests: u64,
    failed: u64,
    times: Histogram<u32>,
}

impl Slot {
    fn new() -> Self {
        Slot { requests: 0, failed: 0, times: Histogram::new(2).expect("two digits are valid") }
    }

    fn add(&mut self, other: &Slot) {
        self.requests += other.requests;
        self.failed += other.failed;
        self.times.add(&other.times).expect("the histogram grows");
    }
}

impl Timeline {
    pub(crate) fn new() -> Self {
        Timeline { slot_seconds: 1, slots: Vec::new() }
    }

    /// Records a request that ended at `at`; `took_us` is the response time, or `None` for a failure.
    pub(crate) fn record(&mut self, at: Duration, took_us: Option<u64>) {
        while at.as_secs() / self.slot_seconds >= SLOTS_MAX as u64 {
            self.halve();
        }
        let position = (at.as_secs() / self.slot_seconds) as usize;
        if position >= self.slots.len() {
            self.slots.resize_with(position + 1, Slot::new);
        }
        let slot = &mut self.slots[position];
        slot.requests += 1;
        match took_us {
            Some(took_us) => slot.times.record(took_us.max(1)).expect("the histogram grows"),
            None => slot.failed += 1,
        }
    }

    /// Joins slots two by two.
    fn halve(&mut self) {
        self.slot_seconds *= 2;
        let former = std::mem::take(&mut self.slots);
        self.slots = former
            .chunks(2)
            .map(|pair| {
                let mut joined = pair[0].clone();
                pair[1..].iter().for_each(|slot| joined.add(slot));
                joined
            })
            .collect();
    }

    pub(crate) fn add(&mut self, other: &Timeline) {
        let mut other = other.clone();
        while self.slot_seconds < other.slot_seconds {
            self.halve();
        }
        while other.slot_seconds < self.slot_seconds {
            other.halve();
        }
        if self.slots.len() < other.slots.len() {
            self.slots.resize_with(other.slots.len(), Slot::new);
        }
        self.slots.iter_mut().zip(&other.slots).for_each(|(mine, theirs)| mine.add(theirs));
    }

    /// Adds a later run, after the whole slots of this one.
    pub(crate) fn follow(&mut self, later: &Timeline, took: Duration) {
        let mut later = later.clone();
        while self.slot_seconds < later.slot_seconds {
            self.halve();
        }
        while later.slot_seconds < self.slot_seconds {
            later.halve();
        }
        let whole = (took.as_secs_f64() / self.slot_seconds as f64).round().max(1.0) as usize;
        self.slots.resize_with(whole, Slot::new);
        self.slots.extend(later.slots);
        while self.slots.len() > SLOTS_MAX {
            self.halve();
        }
    }

    /// The results of each slot of a run that took so long. A last slot that the run hardly began tells nothing.
    pub(crate) fn points(&self, took: Duration) -> Vec<Moment> {
        let slots = took.as_secs_f64() / self.slot_seconds as f64;
        let whole = self.slots.len().min(slots.round().max(1.0) as usize);
        // A slot without responses has no times: 0 would look like the best of all.
        let of_some = |slot: &Slot, value: fn(&Histogram<u32>) -> u64| {
            (!slot.times.is_empty()).then(|| round(value(&slot.times) as f64 / 1_000.0, 3))
        };
        let point = |(position, slot): (usize, &Slot)| Moment {
            second: position as u64 * self.slot_seconds,
            requests_per_second: round(slot.requests as f64 / self.slot_seconds as f64, 1),
            failed: slot.failed,
            p50: of_some(slot, |times| times.value_at_quantile(0.5)),
            p99: of_some(slot, |times| times.value_at_quantile(0.99)),
            maximum: of_some(slot, Histogram::max),
        };
        self.slots[..whole].iter().enumerate().map(point).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_has_longer_slots_and_loses_nothing() {
        let (mut long, mut short) = (Timeline::new(), Timeline::new());
        for second in 0..1_500 {
            long.record(Duration::from_secs(second), Some(1_000));
        }
        short.record(Duration::from_secs(3), None);
        for (mut sum, other) in [(long.clone(), short.clone()), (short, long)] {
            sum.add(&other);
            let points = sum.points(Duration::from_secs(1_500));
            assert_eq!((points.len(), points[1].second), (375, 4));
            assert_eq!((points[0].requests_per_second, points[0].failed), (1.3, 1));
            assert_eq!(points[374].requests_per_second, 1.0);
            assert!((points[0].p50.unwrap() - 1.0).abs() < 0.01, "{points:?}");
        }
    }
}
