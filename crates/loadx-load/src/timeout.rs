//! A time limit that costs almost nothing for quick requests.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer for one request after the other. Only a timer that fires is armed again, because setting the timer for each
/// request would take a large part of the time of a small request.
pub(crate) struct Timeout {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Timeout {
    pub(crate) fn new(limit: Duration) -> Self {
        Timeout { limit, timer: None }
    }

    /// Runs `work` within the limit; `None` when the limit is reached first.
    pub(crate) async fn bound<W: Future>(&mut self, work: W) -> Option<W::Output> {
        let deadline = Instant::now() + self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(output) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            while timer.as_mut().poll(cx).is_ready() {
                if timer.deadline() >= deadline {
                    return Poll::Ready(None);
                }
                timer.as_mut().reset(deadline);
            }
            Poll::Pending
        })
        .await
    }
}
