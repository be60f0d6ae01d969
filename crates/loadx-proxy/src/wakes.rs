//! Wakers with numbers: a task that polls many things learns which of them to poll.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// The numbers that were woken, and the waker of the task that polls them.
#[derive(Debug, Default)]
pub(crate) struct WakeQueue {
    woken: Mutex<Woken>,
}

#[derive(Debug, Default)]
struct Woken {
    numbers: Vec<u32>,
    waiting: Option<Waker>,
}

/// Puts its number into the queue, once until [`rearm`](NumberedWaker::rearm).
#[derive(Debug)]
pub(crate) struct NumberedWaker {
    number: u32,
    is_queued: AtomicBool,
    queue: Arc<WakeQueue>,
}

impl WakeQueue {
    /// A waker for this number. The caller keeps the waker for the next use of the number.
    pub(crate) fn waker(self: &Arc<Self>, number: u32) -> Arc<NumberedWaker> {
        Arc::new(NumberedWaker { number, is_queued: AtomicBool::new(false), queue: Arc::clone(self) })
    }

    /// Takes the last woken number, or wakes the calling task with the next.
    pub(crate) fn poll_last(&self, cx: &mut Context<'_>) -> Poll<u32> {
        let mut woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        match woken.numbers.pop() {
            Some(number) => Poll::Ready(number),
            None => {
                woken.waiting = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Moves all woken numbers to the end of `numbers`, in the order of their wakes. Wakes the calling task with the next if there
    /// are none.
    pub(crate) fn take_all(&self, cx: &mut Context<'_>, numbers: &mut Vec<u32>) {
        let mut woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        if woken.numbers.is_empty() {
            match &mut woken.waiting {
                Some(waiting) => waiting.clone_from(cx.waker()),
                waiting => *waiting = Some(cx.waker().clone()),
            }
        }
        numbers.append(&mut woken.numbers);
    }
}

impl NumberedWaker {
    /// Lets the next wake put the number into the queue again. Called before what has the number is polled.
    pub(crate) fn rearm(&self) {
        self.is_queued.store(false, Ordering::Relaxed);
    }

    /// Puts the number into the queue without waking the task, which takes the queue before it waits.
    pub(crate) fn enqueue(&self) {
        if !self.is_queued.swap(true, Ordering::Relaxed) {
            self.queue.woken.lock().unwrap_or_else(PoisonError::into_inner).numbers.push(self.number);
        }
    }
}

impl Wake for NumberedWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_queued.swap(true, Ordering::Relaxed) {
            return;
        }
        let waiting = {
            let mut woken = self.queue.woken.lock().unwrap_or_else(PoisonError::into_inner);
            woken.numbers.push(self.number);
            woken.waiting.take()
        };
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }
}
