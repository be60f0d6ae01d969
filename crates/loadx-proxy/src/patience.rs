//! Limits how long LoadX waits for one side of an exchange.

use std::cell::Cell;
use std::time::Duration;

use loadx_core::Time;

use crate::limits::LOOK_AFTER_MAX;
use crate::timer::Timer;

/// A time credit. Waiting for the side uses the credit up; bytes that the side sends or reads refill the credit, at
/// the minimum rate. So a silent side times out after the whole credit, a side below the rate times out later, and a
/// side at the rate never.
#[derive(Debug)]
pub(crate) struct Patience {
    credit: Cell<Duration>,
    /// The minimum rate in bytes per second. With 0, each byte refills the whole credit.
    rate: Cell<u64>,
    used: Cell<Duration>,
    /// Confirmed bytes for which [`moved`](Patience::moved) has not been called yet.
    confirmed_ahead: Cell<u64>,
    /// Since when LoadX waits for the side; `None` if LoadX does not wait.
    waiting_since: Cell<Option<Time>>,
    /// Whether waiting is free, because the side itself waits for LoadX.
    held: Cell<bool>,
}

impl Patience {
    /// A credit for one silence of at most `idle`, without a minimum rate.
    pub(crate) fn idle(idle: Duration) -> Self {
        Patience::with_rate(idle, 0)
    }

    /// A credit with a minimum rate in bytes per second.
    pub(crate) fn with_rate(credit: Duration, rate: u64) -> Self {
        Patience {
            credit: Cell::new(credit),
            rate: Cell::new(rate),
            used: Cell::new(Duration::ZERO),
            confirmed_ahead: Cell::new(0),
            waiting_since: Cell::new(None),
            held: Cell::new(false),
        }
    }

    /// Resets to the state of [`with_rate`](Patience::with_rate).
    pub(crate) fn begin(&self, credit: Duration, rate: u64) {
        self.credit.set(credit);
        self.rate.set(rate);
        self.used.set(Duration::ZERO);
        self.confirmed_ahead.set(0);
        self.waiting_since.set(None);
        self.held.set(false);
    }

    /// A credit that bytes do not refill.
    pub(crate) fn total(credit: Duration) -> Self {
        Patience::with_rate(credit, u64::MAX)
    }

    /// Makes waiting free until [`release`](Patience::release) or until bytes move, while the client waits for a 100.
    pub(crate) fn hold(&self) {
        self.held.set(true);
    }

    /// Ends [`hold`](Patience::hold).
    pub(crate) fn release(&self) {
        self.held.set(false);
    }

    /// Starts or continues a wait, and returns its deadline.
    pub(crate) fn wait(&self, timer: &Timer) -> Time {
        if self.held.get() {
            return timer.now() + self.credit.get();
        }
        let since = self.waiting_since.get().unwrap_or_else(|| timer.now());
        self.waiting_since.set(Some(since));
        since + self.credit.get().saturating_sub(self.used.get())
    }

    /// Whether LoadX waits for the side.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting_since.get().is_some()
    }

    /// The interval between two checks of the send queue, at most [`LOOK_AFTER_MAX`].
    pub(crate) fn check_interval(&self) -> Duration {
        LOOK_AFTER_MAX.min(self.credit.get() / 4)
    }

    /// Records that the peer confirmed bytes in the send queue, and refills the credit. The same number of bytes in
    /// later calls of [`moved`](Patience::moved) does not refill the credit again.
    pub(crate) fn confirmed(&self, bytes: u64, timer: &Timer) {
        self.confirmed_ahead.set(self.confirmed_ahead.get() + bytes);
        self.refill(bytes, timer);
    }

    /// Records that bytes were read from the side or written to it, and ends the wait.
    pub(crate) fn moved(&self, bytes: u64, timer: &Timer) {
        let known = bytes.min(self.confirmed_ahead.get());
        self.confirmed_ahead.set(self.confirmed_ahead.get() - known);
        self.refill(bytes - known, timer);
    }

    fn refill(&self, bytes: u64, timer: &Timer) {
        let waited = self.waiting_since.take();
        self.held.set(false);
        if self.rate.get() == 0 {
            return;
        }
        let waited = waited.map_or(Duration::ZERO, |since| timer.now().since(since));
        let used = self.used.get() + waited;
        if !used.is_zero() {
            let refilled = u128::from(bytes) * 1_000_000_000 / u128::from(self.rate.get());
            self.used.set(used.saturating_sub(Duration::from_nanos(u64::try_from(refilled).unwrap_or(u64::MAX))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    /// After how many seconds a side times out that sends `bytes` every `seconds`; `None` if never.
    async fn timed_out_after(patience: &Patience, seconds: u64, bytes: u64) -> Option<u64> {
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
    async fn without_a_rate_each_byte_refills_the_credit() {
        let patience = Patience::idle(Duration::from_secs(30));
        assert_eq!(timed_out_after(&patience, 29, 1).await, None);
        assert_eq!(timed_out_after(&patience, 31, 1).await, Some(30));
    }

    #[tokio::test(start_paused = true)]
    async fn with_a_rate_a_slow_side_times_out() {
        let slow = || Patience::with_rate(Duration::from_secs(30), 100);
        assert_eq!(timed_out_after(&slow(), 31, 1_000_000).await, Some(30));
        assert_eq!(timed_out_after(&slow(), 10, 1_000).await, None, "exactly the rate");
        assert_eq!(timed_out_after(&slow(), 1, 1).await, Some(30), "far below the rate");
        assert_eq!(timed_out_after(&slow(), 1, 50).await, Some(59), "half the rate gives twice the time");
    }

    #[tokio::test(start_paused = true)]
    async fn confirmed_bytes_refill_the_credit_once() {
        let patience = Patience::with_rate(Duration::from_secs(30), 100);
        let timer = Timer::new(Clock::start());
        let began = patience.wait(&timer);
        tokio::time::sleep(Duration::from_secs(20)).await;
        patience.confirmed(1_500, &timer);
        assert_eq!(patience.wait(&timer), began + Duration::from_secs(15), "20 s used, 15 s refilled");
        patience.moved(1_500, &timer);
        assert_eq!(
            patience.wait(&timer),
            began + Duration::from_secs(15),
            "these bytes have refilled the credit already"
        );
        patience.moved(500, &timer);
        assert_eq!(patience.wait(&timer), began + Duration::from_secs(20));
    }

    #[tokio::test(start_paused = true)]
    async fn a_held_side_has_time_until_bytes_move() {
        let held = Patience::with_rate(Duration::from_secs(30), 100);
        held.hold();
        let timer = Timer::new(Clock::start());
        for _ in 0..10 {
            assert!(held.wait(&timer) > timer.now() + Duration::from_secs(29));
            tokio::time::sleep(Duration::from_secs(20)).await;
        }
        assert!(!held.is_waiting());
        held.moved(1, &timer);
        assert_eq!(timed_out_after(&held, 1, 1).await, Some(30), "the first byte ends the hold");
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_do_not_refill_a_total() {
        assert_eq!(timed_out_after(&Patience::total(Duration::from_secs(2)), 1, 1_000_000_000).await, Some(2));
    }
}
