//! One lazily armed timer per connection.
//!
//! Each read and write moves the deadline. The first wait arms the timer; only a firing timer is rearmed, for the
//! present deadline. So a busy connection does not need a timer operation per request.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use loadx_core::Time;
use tokio::task::coop::unconstrained;
use tokio::time::Sleep;

use crate::clock::Clock;

/// The timer of one connection's task. Only waits of that task may share the timer.
#[derive(Debug)]
pub(crate) struct Timer {
    clock: Clock,
    sleep: RefCell<Option<Pin<Box<Sleep>>>>,
    /// When the sleep ends and wakes the task.
    armed: Cell<Time>,
    latest: Cell<Time>,
}

impl Timer {
    pub(crate) fn new(clock: Clock) -> Self {
        let latest = Cell::new(clock.now());
        Timer { clock, sleep: RefCell::new(None), armed: Cell::new(Time::ZERO), latest }
    }

    pub(crate) fn now(&self) -> Time {
        let now = self.clock.now();
        self.latest.set(now);
        now
    }

    /// The last result of [`now`](Timer::now). Saves a read of the clock if the task has not waited since.
    pub(crate) fn latest(&self) -> Time {
        self.latest.get()
    }

    /// Takes over the time that another timer has just read.
    pub(crate) fn follow(&self, now: Time) {
        self.latest.set(now);
    }

    /// Ready once `deadline` has passed.
    pub(crate) fn poll_expired(&self, cx: &mut Context<'_>, deadline: Time) -> Poll<()> {
        let mut slot = self.sleep.borrow_mut();
        // The common case: the timer is armed early enough and has not fired.
        if let Some(sleep) = &*slot
            && self.armed.get() <= deadline
            && !sleep.is_elapsed()
        {
            return Poll::Pending;
        }
        let at = self.clock.instant(deadline);
        let sleep = slot.get_or_insert_with(|| {
            self.armed.set(deadline);
            Box::pin(tokio::time::sleep_until(at))
        });
        loop {
            // Without a budget: a sleep that is not polled for lack of budget does not register the waker.
            let fired = pin!(unconstrained(sleep.as_mut())).poll(cx).is_ready();
            if fired && self.now() >= deadline {
                return Poll::Ready(());
            }
            if self.armed.get() <= deadline && !sleep.is_elapsed() {
                return Poll::Pending;
            }
            sleep.as_mut().reset(at);
            self.armed.set(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn the_timer_wakes_a_task_without_budget() {
        let serving = async {
            let timer = Timer::new(Clock::start());
            let deadline = timer.now() + Duration::from_secs(1);
            let mut polled = false;
            let expired = poll_fn(|cx| {
                while !polled && pin!(tokio::task::coop::consume_budget()).poll(cx).is_ready() {}
                polled = true;
                timer.poll_expired(cx, deadline)
            });
            expired.await;
        };
        let tasks = tokio::task::LocalSet::new();
        let serving = tasks.spawn_local(serving);
        let waiting = tokio::time::timeout(Duration::from_secs(10), serving);
        tasks.run_until(async { waiting.await.expect("the timer wakes the task").unwrap() }).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_may_become_earlier_or_later() {
        let timer = &Timer::new(Clock::start());
        let began = timer.now();
        let expires = |deadline: Time| poll_fn(move |cx| timer.poll_expired(cx, deadline));
        let elapsed = || timer.now().since(began).as_millis();
        let is_expired = async |deadline| poll_fn(|cx| Poll::Ready(timer.poll_expired(cx, deadline).is_ready())).await;
        assert!(!is_expired(began + Duration::from_secs(30)).await);
        assert!(!is_expired(began + Duration::from_secs(75)).await, "armed for an earlier deadline");
        expires(began + Duration::from_secs(10)).await;
        assert!((10_000..10_005).contains(&elapsed()), "an earlier deadline: {}", elapsed());
        assert!(is_expired(began + Duration::from_secs(5)).await, "a deadline in the past");
        assert!(!is_expired(began + Duration::from_secs(20)).await);
        expires(began + Duration::from_secs(40)).await;
        assert!((40_000..40_005).contains(&elapsed()), "a later deadline: {}", elapsed());
    }
}
