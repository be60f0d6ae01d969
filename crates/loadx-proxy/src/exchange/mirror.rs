//! Copies of requests for another cluster. LoadX discards the responses. A copy cannot delay the original request or
//! make it fail: each copy is a separate task, and above [`MIRRORS_MAX`] no copy is made.

use std::rc::Rc;

use loadx_core::{Attempts, Choice, Ended, Outcome};
use loadx_http::Framing;

use crate::buffers::Input;
use crate::context::Worker;
use crate::h1::BodyWriter;
use crate::io::{Waiting, fill};
use crate::limits::{MIRROR_RESPONSE_BYTES_MAX, MIRRORS_MAX};
use crate::net::Network;
use crate::patience::Patience;
use crate::shared::LocalPlan;
use crate::sides::{BodySink as _, Piece};
use crate::timer::Timer;
use crate::upstream::connect;

/// A copy of a request.
pub(super) struct Copy {
    pub(super) plan: LocalPlan,
    /// The position in the plan of the cluster that gets the copy.
    pub(super) cluster: usize,
    /// The head, encoded for a backend.
    pub(super) head: Vec<u8>,
    pub(super) framing: Framing,
    /// The whole content.
    pub(super) content: Vec<u8>,
    pub(super) trailers: Vec<u8>,
    /// 64 random bits, for the pick.
    pub(super) entropy: u64,
}

/// Appends `Connection: close` to an encoded head.
pub(super) fn ask_to_close(head: &mut Vec<u8>) {
    head.truncate(head.len().saturating_sub(2));
    head.extend_from_slice(b"Connection: close\r\n\r\n");
}

/// Sends a copy in a new task, unless [`MIRRORS_MAX`] copies of this worker are in progress.
pub(super) fn send<N: Network>(worker: &Rc<Worker<N>>, copy: Copy) {
    if worker.mirrors.get() >= MIRRORS_MAX {
        worker.metrics.borrow_mut().mirrors_skipped += 1;
        return;
    }
    worker.mirrors.set(worker.mirrors.get() + 1);
    worker.metrics.borrow_mut().mirrored += 1;
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        let limit = copy.plan.clusters[copy.cluster].attempt.response;
        // A copy has as much time in total as a backend has for its silence.
        let _ = tokio::time::timeout(limit, send_copy(&worker, &copy)).await;
        worker.mirrors.set(worker.mirrors.get() - 1);
    });
}

async fn send_copy<N: Network>(worker: &Rc<Worker<N>>, copy: &Copy) {
    let began = worker.clock.now();
    let view = worker.view(&copy.plan, copy.cluster);
    let Choice::Picked(pick) = Attempts::new(began).choose(view, began, copy.entropy, None) else { return };
    let id = pick.backend().id();
    let outcome = match connect::connect(worker, (&copy.plan, copy.cluster), pick.backend()).await {
        Ok(connection) => exchange(worker, copy, &connection.stream).await,
        Err(failure) => failure.outcome(),
    };
    let took = worker.clock.now().since(began);
    if let Some(observation) = pick.finish(Ended::unanswered(outcome, took)) {
        worker.report(id, observation);
    }
}

/// Sends the copy and reads the response, up to [`MIRROR_RESPONSE_BYTES_MAX`].
async fn exchange<N: Network>(worker: &Rc<Worker<N>>, copy: &Copy, stream: &N::Stream) -> Outcome {
    let timer = Timer::new(worker.clock);
    let waiting = Waiting { timer: &timer, buffers: &worker.buffers };
    let patience = Patience::idle(copy.plan.clusters[copy.cluster].attempt.response);
    let mut writer = BodyWriter::new(stream, waiting, &patience, None);
    writer.framing = copy.framing;
    writer.head.extend_from_slice(&copy.head);
    if writer.send(Piece { content: &copy.content, end: Some(&copy.trailers) }).await.is_err() {
        return Outcome::Broke;
    }
    let mut input = Input::default();
    let mut left = MIRROR_RESPONSE_BYTES_MAX;
    while left > 0 {
        match fill(stream, &mut input, waiting, &patience).await {
            Ok(0) => return Outcome::Answered,
            Ok(count) => {
                left = left.saturating_sub(count);
                input.consume(count);
            }
            Err(_) => return Outcome::Broke,
        }
    }
    Outcome::Cancelled
}
