//! Which requests LoadX sends again, and how many of them.

use std::sync::atomic::{AtomicI64, Ordering};

/// When LoadX asks another backend after a backend may have seen the request.
///
/// A request that no backend has seen, because the connection was refused for example, is always sent to another backend.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The statuses with which a response is not passed on while another backend can be asked. Default: 500, 502, 503 and 504.
    pub statuses: Statuses,
    /// The most times that one request is sent again. Default 2: with three attempts, a backend that fails half of its requests
    /// fails one request in eight; each further attempt makes the client wait longer.
    pub resends_max: u32,
    /// Whether requests whose methods are not idempotent are sent again. Default: no, because a backend might do twice what the
    /// client wants once.
    pub non_idempotent: bool,
    /// How many requests of a cluster are sent again.
    pub budget: BudgetPolicy,
}

/// The limit of the requests of a cluster that are sent again, over all workers.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct BudgetPolicy {
    /// The share of the requests, in percent. Default 20: backends that fail get a fifth more requests at most.
    pub percent: u32,
    /// The number for each second, however few requests there are. Default 3.
    pub per_second_min: u32,
}

impl Default for BudgetPolicy {
    fn default() -> Self {
        BudgetPolicy { percent: 20, per_second_min: 3 }
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        let mut statuses = Statuses::default();
        [500, 502, 503, 504].into_iter().for_each(|status| statuses.add(status));
        RetryPolicy { statuses, resends_max: 2, non_idempotent: false, budget: BudgetPolicy::default() }
    }
}

impl RetryPolicy {
    /// The most times that a config may let one request be sent again.
    pub const RESENDS_MAX: u32 = 10;

    /// The policy that sends no request again that a backend may have seen.
    pub fn off() -> Self {
        RetryPolicy { statuses: Statuses::default(), resends_max: 0, ..RetryPolicy::default() }
    }
}

/// A set of statuses from 400 to 599.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Statuses([u64; 4]);

impl Statuses {
    /// Adds a status from 400 to 599; another number changes nothing.
    pub fn add(&mut self, status: u16) {
        if let Some((word, bit)) = Self::place(status) {
            self.0[word] |= bit;
        }
    }

    /// Whether the set has this status.
    pub fn contains(self, status: u16) -> bool {
        Self::place(status).is_some_and(|(word, bit)| self.0[word] & bit != 0)
    }

    /// The statuses in their order.
    pub fn iter(self) -> impl Iterator<Item = u16> {
        (400..600).filter(move |status| self.contains(*status))
    }

    fn place(status: u16) -> Option<(usize, u64)> {
        let index = status.checked_sub(400).filter(|index| *index < 200)?;
        Some((usize::from(index / 64), 1 << (index % 64)))
    }
}

/// The requests of a cluster that may still be sent again. Workers take, control gives each second.
#[derive(Debug)]
pub struct RetryBudget {
    left: AtomicI64,
    /// What was left after control last gave; only control uses this.
    left_then: AtomicI64,
}

impl RetryBudget {
    /// How many seconds of giving are kept while nothing is taken: when a backend stops, all requests that wait for the backend
    /// are sent again at the same moment.
    const SECONDS_KEPT: i64 = 10;

    pub(crate) fn new(policy: &BudgetPolicy) -> Self {
        let start = i64::from(policy.per_second_min) * Self::SECONDS_KEPT;
        RetryBudget { left: AtomicI64::new(start), left_then: AtomicI64::new(start) }
    }

    /// The requests that may still be sent again now.
    pub fn left(&self) -> u64 {
        u64::try_from(self.left.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Takes one request out of the budget; `false` when the budget is used up.
    pub fn take(&self) -> bool {
        // The first load keeps an outage from moving the counter far below zero.
        self.left.load(Ordering::Relaxed) > 0 && self.left.fetch_sub(1, Ordering::Relaxed) > 0
    }

    /// Gives what the `attempts` of the last second allow. Attempts that were retries themselves allow nothing.
    pub(crate) fn give(&self, attempts: u64, policy: &BudgetPolicy) {
        // Control alone raises the number, so that nothing is lost between the load and the addition but what workers take.
        let left = self.left.load(Ordering::Relaxed);
        let taken = self.left_then.load(Ordering::Relaxed) - left;
        let requests = i64::try_from(attempts).unwrap_or(i64::MAX / 100).saturating_sub(taken).max(0);
        let share = requests.saturating_mul(policy.percent.into()) / 100;
        let given = share.max(policy.per_second_min.into());
        let kept = given.saturating_mul(Self::SECONDS_KEPT);
        let raised = left.max(0).saturating_add(given).min(kept.max(left));
        self.left.fetch_add(raised - left, Ordering::Relaxed);
        self.left_then.store(raised, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(budget: &RetryBudget, wanted: usize) -> usize {
        (0..wanted).filter(|_| budget.take()).count()
    }

    #[test]
    fn the_budget_gives_a_share_of_the_requests_and_a_minimum() {
        let policy = BudgetPolicy::default();
        let budget = RetryBudget::new(&policy);
        assert_eq!(taken(&budget, 1_000), 30, "the minimum of ten seconds is there at the start");
        budget.give(5, &policy);
        assert_eq!(taken(&budget, 1_000), 3);
        budget.give(1_003, &policy);
        assert_eq!(taken(&budget, 1_000), 200, "the three retries before allow nothing");
        (0..100).for_each(|_| budget.give(1_000, &policy));
        assert_eq!(taken(&budget, 10_000), 2_000, "what is kept has a limit");
    }

    #[test]
    fn a_second_without_requests_takes_nothing_back() {
        let policy = BudgetPolicy::default();
        let budget = RetryBudget::new(&policy);
        (0..10).for_each(|_| budget.give(1_000, &policy));
        budget.give(0, &policy);
        assert_eq!(taken(&budget, 10_000), 2_000);
    }

    #[test]
    fn a_set_has_the_statuses_that_were_added() {
        let mut statuses = Statuses::default();
        [399, 400, 463, 464, 503, 599, 600].into_iter().for_each(|status| statuses.add(status));
        assert_eq!(statuses.iter().collect::<Vec<_>>(), [400, 463, 464, 503, 599]);
        assert!(!statuses.contains(200) && !statuses.contains(u16::MAX));
    }
}
