//! How an exchange learns that something has come for its stream.

use std::sync::Arc;
use std::task::{Context, Waker};

use crate::wakes::NumberedWaker;

/// Has an exchange polled.
pub(crate) trait Alarm {
    /// Has the exchange polled.
    fn ring(&self);

    /// Notes that the exchange waits, polled with this context.
    fn set(&mut self, cx: &Context<'_>);
}

/// The driver of the connection polls the exchange, in the turn in which the alarm rings.
impl Alarm for Arc<NumberedWaker> {
    fn ring(&self) {
        self.enqueue();
    }

    fn set(&mut self, _: &Context<'_>) {}
}

/// The alarm of an exchange in another task.
#[derive(Debug, Default)]
pub(crate) struct TaskAlarm(Option<Waker>);

impl Alarm for TaskAlarm {
    fn ring(&self) {
        if let Some(waker) = &self.0 {
            waker.wake_by_ref();
        }
    }

    fn set(&mut self, cx: &Context<'_>) {
        match &mut self.0 {
            Some(waker) => waker.clone_from(cx.waker()),
            waker => *waker = Some(cx.waker().clone()),
        }
    }
}
