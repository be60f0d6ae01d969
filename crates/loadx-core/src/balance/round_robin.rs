//! Smooth weighted round robin: backends take turns, 3:1 as A A B A and not A A A B.

use crate::Query;
use crate::backend::Backend;

use super::{Schedule, is_tried};

/// Takes the next slot of a schedule that all workers share, so that the shares over all workers together are exact.
#[derive(Debug)]
pub(crate) struct RoundRobin {
    schedule: Schedule,
}

impl RoundRobin {
    pub(super) fn new(schedule: Schedule) -> Self {
        RoundRobin { schedule }
    }

    pub(super) fn choose(&self, backends: &[Backend], query: &Query<'_>) -> Option<usize> {
        let (slot, index) = self.schedule.next();
        if !is_tried(&backends[index], query) {
            return Some(index);
        }
        self.schedule.from(slot).find(|index| !is_tried(&backends[*index], query))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use crate::{Algorithm, Choice, NoBackend, Query};
    use std::sync::Barrier;

    #[test]
    fn equal_weights_take_turns() {
        assert_eq!(picks(&view(Algorithm::RoundRobin, &[1, 1, 1]), 7), [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(picks(&view(Algorithm::RoundRobin, &[5, 5]), 4), [0, 1, 0, 1]);
    }

    #[test]
    fn three_to_one_is_a_a_b_a() {
        assert_eq!(picks(&view(Algorithm::RoundRobin, &[3, 1]), 8), [0, 0, 1, 0, 0, 0, 1, 0]);
    }

    #[test]
    fn the_shares_are_exact_over_many_workers() {
        let view = view(Algorithm::RoundRobin, &[1, 1, 1]);
        let start = Barrier::new(4);
        let counts = std::thread::scope(|scope| {
            let worker = || {
                start.wait();
                picks(&view, 2_500)
            };
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).fold([0; 3], |mut counts, index| {
                counts[index] += 1;
                counts
            })
        });
        assert_eq!(counts, [3_334, 3_333, 3_333]);
    }

    #[test]
    fn a_retry_goes_to_another_backend_until_all_are_tried() {
        let view = view(Algorithm::RoundRobin, &[8, 1, 1]);
        let mut tried = Vec::new();
        for _ in 0..3 {
            let query = Query { tried: &tried, ..query() };
            let id = view.pick(&query).picked().unwrap().backend().id();
            assert!(!tried.contains(&id));
            tried.push(id);
        }
        let query = Query { tried: &tried, ..query() };
        assert!(matches!(view.pick(&query), Choice::None(NoBackend::AllTried)));
    }
}
