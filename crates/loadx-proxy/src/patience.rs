//! How long one side of an exchange may keep LoadX waiting.

use std::cell::Cell;
use std::time::Duration;

use loadx_core::Time;

use crate::limits::LOOK_AFTER_MAX;
use crate::timer::Timer;

/// A credit of time. Waiting for the side uses it up; what the side moves earns it back, at the least
/// rate that is asked of it. So one that is silent is given up after the whole credit, one that trickles
/// a while later, and one that keeps the rate never.
#[derive(Debug)]
pub(crate) struct Patience {
    credit: Cell<Duration>,
    /// Bytes a second. With 0 any byte earns all of the credit back.
    rate: Cell<u64>,
    used: Cell<Duration>,
    /// Bytes that were seen to move before they were written off.
    ahead: Cell<u64>,
    /// Since when it is waited for.
    waiting_since: Cell<Option<Time>>,
    /// Whether it is not the side's turn.
    held: Cell<bool>,
}

impl Patience {
    /// For a side that may be silent for `idle` at a time.
    pub(crate) fn idle(idle: Duration) -> Self {
        Patience::with_rate(idle, 0)
    }

    /// For a side that must move `rate` bytes a second on the whole, and may be silent for `credit`.
    pub(crate) fn with_rate(credit: Duration, rate: u64) -> Self {
        Patience {
            credit: Cell::new(credit),
            rate: Cell::new(rate),
            used: Cell::new(Duration::ZERO),
            ahead: Cell::new(0),
            waiting_since: Cell::new(None),
            held: Cell::new(false),
        }
    }

    /// Begins anew, as [`with_rate`](Patience::with_rate).
    pub(crate) fn begin(&self, credit: Duration, rate: u64) {
        self.credit.set(credit);
        self.rate.set(rate);
        self.used.set(Duration::ZERO);
        self.ahead.set(0);
        self.waiting_since.set(None);
        self.held.set(false);
    }

    /// For a side that has so much time and no more.
    pub(crate) fn total(credit: Duration) -> Self {
        Patience::with_rate(credit, u64::MAX)
    }

    /// Until it is [released](Patience::release), or moves all the same, waiting costs the side nothing: it
    /// waits itself.
    pub(crate) fn hold(&self) {
        self.held.set(true);
    }

    /// From now on it is the side's turn.
    pub(crate) fn release(&self) {
        self.held.set(false);
    }

    /// Notes that LoadX waits now, and returns until when it may.
    pub(crate) fn wait(&self, timer: &Timer) -> Time {
        if self.held.get() {
            return timer.now() + self.credit.get();
        }
        let since = self.waiting_since.get().unwrap_or_else(|| timer.now());
        self.waiting_since.set(Some(since));
        since + self.credit.get().saturating_sub(self.used.get())
    }

    /// Whether LoadX waits for the side at the moment.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting_since.get().is_some()
    }

    /// How long it is waited for before somebody looks whether the side moves unnoticed.
    pub(crate) fn look_after(&self) -> Duration {
        LOOK_AFTER_MAX.min(self.credit.get() / 4)
    }

    /// Notes that the side takes bytes that were left with the system for it. When as many more have moved,
    /// they are not counted again.
    pub(crate) fn seen(&self, bytes: u64, timer: &Timer) {
        self.ahead.set(self.ahead.get() + bytes);
        self.earn(bytes, timer);
    }

    /// Notes that the side moved so many bytes, whether or not it was waited for.
    pub(crate) fn moved(&self, bytes: u64, timer: &Timer) {
        let known = bytes.min(self.ahead.get());
        self.ahead.set(self.ahead.get() - known);
        self.earn(bytes - known, timer);
    }

    fn earn(&self, bytes: u64, timer: &Timer) {
        let waited = self.waiting_since.take();
        self.held.set(false);
        if self.rate.get() == 0 {
            return;
        }
        let waited = waited.map_or(Duration::ZERO, |since| timer.now().since(since));
        let used = self.used.get() + waited;
        if !used.is_zero() {
            let earned = u128::from(bytes) * 1_000_000_000 / u128::from(self.rate.get());
            self.used.set(used.saturating_sub(Duration::from_nanos(u64::try_from(earned).unwrap_or(u64::MAX))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    /// A side that sends `bytes` every `seconds`: after how many seconds it is given up, if it is.
    async fn given_up(patience: &Patience, seconds: u64, bytes: u64) -> Option<u64> {
        let timer = Timer::new(Clock::start());
        let began = timer.now();
        for _ in 0..10_000 {
            let deadline = patience.wait(&timer);
            let arrives = timer.now() + Duration::from_secs(seconds);
            tokio::time::sleep(arrives.min(deadline).since(timer.now())).await;
            if deadline < arrives {
                return Some(timer.now().since(began).as_secs());
            }
            patience.moved(bytes, &timer);
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_it_and_any_byte_is_enough_without_a_rate() {
        let patience = Patience::idle(Duration::from_secs(30));
        assert_eq!(given_up(&patience, 29, 1).await, None);
        assert_eq!(given_up(&patience, 31, 1).await, Some(30));
    }

    #[tokio::test(start_paused = true)]
    async fn with_a_rate_a_trickle_ends_too() {
        let slow = || Patience::with_rate(Duration::from_secs(30), 100);
        assert_eq!(given_up(&slow(), 31, 1_000_000).await, Some(30));
        assert_eq!(given_up(&slow(), 10, 1_000).await, None, "just the rate");
        assert_eq!(given_up(&slow(), 1, 1).await, Some(30), "next to nothing");
        assert_eq!(given_up(&slow(), 1, 50).await, Some(59), "half the rate has twice the time");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_seen_to_move_is_counted_once() {
        let patience = Patience::with_rate(Duration::from_secs(30), 100);
        let timer = Timer::new(Clock::start());
        let began = patience.wait(&timer);
        tokio::time::sleep(Duration::from_secs(20)).await;
        patience.seen(1_500, &timer);
        assert_eq!(patience.wait(&timer), began + Duration::from_secs(15), "20 s waited, 15 s earned");
        patience.moved(1_500, &timer);
        assert_eq!(patience.wait(&timer), began + Duration::from_secs(15), "earned already");
        patience.moved(500, &timer);
        assert_eq!(patience.wait(&timer), began + Duration::from_secs(20));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_held_has_time_until_it_moves() {
        let held = Patience::with_rate(Duration::from_secs(30), 100);
        held.hold();
        let timer = Timer::new(Clock::start());
        for _ in 0..10 {
            assert!(held.wait(&timer) > timer.now() + Duration::from_secs(29));
            tokio::time::sleep(Duration::from_secs(20)).await;
        }
        assert!(!held.is_waiting());
        held.moved(1, &timer);
        assert_eq!(given_up(&held, 1, 1).await, Some(30), "it cannot trickle behind its own word");
    }

    #[tokio::test(start_paused = true)]
    async fn a_total_is_never_earned_back() {
        assert_eq!(given_up(&Patience::total(Duration::from_secs(2)), 1, 1_000_000_000).await, Some(2));
    }
}
