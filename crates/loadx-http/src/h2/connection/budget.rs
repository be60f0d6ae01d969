//! How much the other side may make LoadX do that is of no use to anyone.

use std::time::Duration;

/// Credit that comes back with time and with useful work, up to a largest amount of each.
#[derive(Debug)]
pub(super) struct Budget {
    credit: u32,
    max: u32,
    earned_max: u32,
    per_second: u32,
    /// When the time was last counted.
    counted: Duration,
}

impl Budget {
    /// `max`: the credit at the beginning, and the most that comes back with time. `earned_max`: the most that comes back with work.
    pub(super) fn new(max: u32, earned_max: u32, per_second: u32) -> Self {
        Budget { credit: max, max, earned_max, per_second, counted: Duration::ZERO }
    }

    /// Notes useful work.
    pub(super) fn earn(&mut self, credit: u32) {
        self.credit = self.credit.saturating_add(credit).min(self.earned_max);
    }

    /// Takes credit. Returns false if there is not enough. The time is counted only then, so that `now` may be old otherwise.
    pub(super) fn spend(&mut self, credit: u32, now: Duration) -> bool {
        if self.credit < credit {
            let passed = now.saturating_sub(self.counted).as_secs_f64();
            let earned = passed * f64::from(self.per_second);
            // What is less than one credit must not be lost.
            if earned >= 1.0 {
                self.counted = now;
                self.credit = self.credit.saturating_add(earned as u32).min(self.max);
            }
        }
        let left = self.credit.checked_sub(credit);
        self.credit = left.unwrap_or(self.credit);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_comes_back_with_time_and_with_work() {
        let mut budget = Budget::new(10, 20, 2);
        let second = Duration::from_secs;
        assert!((0..10).all(|_| budget.spend(1, second(0))));
        assert!(!budget.spend(1, second(0)));
        assert!(!budget.spend(1, Duration::from_millis(400)), "less than one");
        assert!(budget.spend(1, Duration::from_millis(500)));
        assert!(!budget.spend(1, Duration::from_millis(600)));
        budget.earn(3);
        assert!(budget.spend(3, Duration::from_millis(600)));
        assert!(budget.spend(10, second(3_600)));
        assert!(!budget.spend(1, second(3_600)), "no more than the largest amount");
        budget.earn(100);
        assert!(budget.spend(20, second(3_600)));
        assert!(!budget.spend(1, second(3_600)), "no more than can be earned");
    }
}
