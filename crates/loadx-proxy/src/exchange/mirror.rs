//! Copies of requests for another cluster. What that cluster answers is thrown away, and nothing of it can slow or
//! fail the original: a copy is a task of its own, and one that finds no room is not made.

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

/// A request that is sent a second time.
pub(super) struct Copy {
    pub(super) plan: LocalPlan,
    /// The position in the plan of the cluster that gets the copy.
    pub(super) cluster: usize,
    /// The head as backends get it.
    pub(super) head: Vec<u8>,
    pub(super) framing: Framing,
    /// The whole content.
    pub(super) content: Vec<u8>,
    pub(super) trailers: Vec<u8>,
    /// 64 random bits, for the pick.
    pub(super) entropy: u64,
}

/// Asks the backend to close the connection behind its response, by one more field line at the end of a head.
pub(super) fn ask_to_close(head: &mut Vec<u8>) {
    head.truncate(head.len().saturating_sub(2));
    head.extend_from_slice(b"Connection: close\r\n\r\n");
}

/// Sends a copy, if the worker has room for one.
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
        // A copy that takes longer than a backend may be silent is given up as a whole.
        let _ = tokio::time::timeout(limit, carry(&worker, &copy)).await;
        worker.mirrors.set(worker.mirrors.get() - 1);
    });
}

async fn carry<N: Network>(worker: &Rc<Worker<N>>, copy: &Copy) {
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

/// Sends the copy and reads what comes back, up to a bound.
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
