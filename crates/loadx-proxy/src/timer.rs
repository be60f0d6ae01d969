//! One lazily armed timer a connection.
//!
//! Deadlines move with every read and write; the timer does not. It is armed when somebody first
//! waits and, when it fires, re-armed for the deadline of that moment. A busy connection so causes a
//! timer operation now and then, not one a request.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use loadx_core::Time;
use tokio::task::coop::unconstrained;
use tokio::time::Sleep;

use crate::clock::Clock;

/// The timer of one connection's task. Several waits of that task may share it, but no other task.
#[derive(Debug)]
pub(crate) struct Timer {
    clock: Clock,
    sleep: RefCell<Option<Pin<Box<Sleep>>>>,
    /// When the sleep ends. It wakes the task then, whoever waits.
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

    /// The moment at which this timer was last asked what time it is. It stands for now where
    /// nothing was waited for since.
    pub(crate) fn latest(&self) -> Time {
        self.latest.get()
    }

    /// Ready once `deadline` has passed.
    pub(crate) fn poll_expired(&self, cx: &mut Context<'_>, deadline: Time) -> Poll<()> {
        let mut slot = self.sleep.borrow_mut();
        // The usual case: it wakes the task early enough as it is, and has not yet.
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
            // Beyond the task's budget: a sleep that was not looked at for want of it would wake nobody.
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
    async fn a_task_without_budget_is_woken_too() {
        let serving = async {
            let timer = Timer::new(Clock::start());
            let deadline = timer.now() + Duration::from_secs(1);
            let mut looked = false;
            let expired = poll_fn(|cx| {
                while !looked && pin!(tokio::task::coop::consume_budget()).poll(cx).is_ready() {}
                looked = true;
                timer.poll_expired(cx, deadline)
            });
            expired.await;
        };
        let tasks = tokio::task::LocalSet::new();
        let serving = tasks.spawn_local(serving);
        let waiting = tokio::time::timeout(Duration::from_secs(10), serving);
        tasks.run_until(async { waiting.await.expect("the deadline holds").unwrap() }).await;
    }

    #[tokio::test(start_paused = true)]
    async fn deadlines_may_move_either_way() {
        let timer = &Timer::new(Clock::start());
        let began = timer.now();
        let expires = |deadline: Time| poll_fn(move |cx| timer.poll_expired(cx, deadline));
        let elapsed = || timer.now().since(began).as_millis();
        let glance = async |deadline| poll_fn(|cx| Poll::Ready(timer.poll_expired(cx, deadline).is_ready())).await;
        assert!(!glance(began + Duration::from_secs(30)).await);
        assert!(!glance(began + Duration::from_secs(75)).await, "armed for an earlier one");
        expires(began + Duration::from_secs(10)).await;
        assert!((10_000..10_005).contains(&elapsed()), "brought forward: {}", elapsed());
        assert!(glance(began + Duration::from_secs(5)).await, "long past");
        assert!(!glance(began + Duration::from_secs(20)).await);
        expires(began + Duration::from_secs(40)).await;
        assert!((40_000..40_005).contains(&elapsed()), "put off: {}", elapsed());
    }
}
