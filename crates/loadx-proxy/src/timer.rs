//! One lazily armed timer a connection.
//!
//! Deadlines move with every read and write; the timer does not. It is armed when somebody first
//! waits and, when it fires, re-armed for the deadline of that moment. A busy connection so causes a
//! timer operation now and then, not one a request.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use loadx_core::Time;
use tokio::time::Sleep;

use crate::clock::Clock;

/// The timer of one connection's task. Several waits of that task may share it.
#[derive(Debug)]
pub(crate) struct Timer {
    clock: Clock,
    sleep: RefCell<Option<Pin<Box<Sleep>>>>,
}

impl Timer {
    pub(crate) fn new(clock: Clock) -> Self {
        Timer { clock, sleep: RefCell::new(None) }
    }

    pub(crate) fn now(&self) -> Time {
        self.clock.now()
    }

    /// Ready once `deadline` has passed.
    pub(crate) fn poll_expired(&self, cx: &mut Context<'_>, deadline: Time) -> Poll<()> {
        let at = self.clock.instant(deadline);
        let mut slot = self.sleep.borrow_mut();
        let sleep = slot.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if sleep.deadline() > at {
            sleep.as_mut().reset(at);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if self.clock.now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(at);
        }
    }
}
