//! Copies of requests for another cluster. LoadX discards the responses. A copy cannot delay the original request or
//! make it fail: each copy is a separate task, and above [`MIRRORS_MAX`] no copy is made.

use std::rc::Rc;
use std::time::Duration;

use loadx_core::config::BackendProtocol;
use loadx_core::{Attempts, Backend, Choice, Ended, Outcome, RetryPolicy};
use loadx_http::{Framing, Response};

use crate::buffers::Input;
use crate::context::Worker;
use crate::h1::BodyWriter;
use crate::io::{Waiting, fill};
use crate::limits::{MIRROR_RESPONSE_BYTES_MAX, MIRRORS_MAX};
use crate::net::{Network, StreamOf};
use crate::patience::Patience;
use crate::shared::{LocalPlan, LocalView};
use crate::sides::{BodySink as _, BodySource as _, Piece, RequestSink as _, ResponseSource as _};
use crate::timer::Timer;
use crate::upstream::connect;
use crate::upstream::h2::{self, Target};

/// A copy of a request.
pub(super) struct Copy {
    pub(super) plan: LocalPlan,
    /// The position in the plan of the cluster that gets the copy.
    pub(super) cluster: usize,
    /// The header of the PROXY protocol, if the cluster gets one.
    pub(super) proxy_header: Option<Vec<u8>>,
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
        send_copy(&worker, &copy).await;
        worker.mirrors.set(worker.mirrors.get() - 1);
    });
}

async fn send_copy<N: Network>(worker: &Rc<Worker<N>>, copy: &Copy) {
    let cluster = &copy.plan.clusters[copy.cluster];
    let began = worker.clock.now();
    let view = worker.view(&copy.plan, copy.cluster);
    let Choice::Picked(pick) = Attempts::new(began, RetryPolicy::off()).choose(view.clone(), began, copy.entropy, None)
    else {
        worker.metrics.borrow_mut().record_copy(cluster, None, None, Duration::ZERO);
        return;
    };
    // A copy has as much time in total as a backend has for its silence.
    let attempt = async {
        match cluster.transport.protocol {
            BackendProtocol::Http1 => attempt_over_h1(worker, copy, pick.backend()).await,
            BackendProtocol::Http2 => attempt_over_h2(worker, copy, &view, pick.index()).await,
        }
    };
    let attempt = tokio::time::timeout(cluster.attempt.response, attempt).await;
    let (outcome, status) = attempt.unwrap_or((Outcome::Cancelled, None));
    let took = worker.clock.now().since(began);
    worker.metrics.borrow_mut().record_copy(cluster, Some(pick.backend()), status, took);
    let id = pick.backend().id();
    let ended = Ended { outcome, status: status.unwrap_or_default(), first_byte: took, took };
    if let Some(observation) = pick.finish(ended) {
        worker.report(id, observation);
    }
}

/// Returns the outcome, and the status of the response if there was a response.
async fn attempt_over_h1<N: Network>(worker: &Rc<Worker<N>>, copy: &Copy, backend: &Backend) -> (Outcome, Option<u16>) {
    match connect::connect(worker, (&copy.plan, copy.cluster), backend, copy.proxy_header.as_deref()).await {
        Ok(connection) => exchange_over_h1(worker, copy, &connection.stream).await,
        Err(failure) => (failure.outcome(), None),
    }
}

/// Sends the copy and reads the response, up to [`MIRROR_RESPONSE_BYTES_MAX`].
async fn exchange_over_h1<N: Network>(
    worker: &Rc<Worker<N>>,
    copy: &Copy,
    stream: &StreamOf<N>,
) -> (Outcome, Option<u16>) {
    let timer = Timer::new(worker.clock);
    let waiting = Waiting { timer: &timer, buffers: &worker.buffers };
    let patience = Patience::idle(copy.plan.clusters[copy.cluster].attempt.response);
    let mut writer = BodyWriter::new(stream, waiting, &patience, None);
    writer.framing = copy.framing;
    writer.head.extend_from_slice(&copy.head);
    if writer.send(Piece { content: &copy.content, end: Some(&copy.trailers) }).await.is_err() {
        return (unanswered(), None);
    }
    let mut input = Input::default();
    let mut left = MIRROR_RESPONSE_BYTES_MAX;
    let mut line = StatusLine::default();
    while left > 0 {
        match fill(stream, &mut input, waiting, &patience).await {
            Ok(0) => break,
            Ok(count) => {
                line.take(input.bytes());
                left = left.saturating_sub(count);
                input.consume(count);
            }
            Err(_) => return (unanswered(), None),
        }
    }
    let status = line.status();
    (if status.is_some() { Outcome::Answered } else { unanswered() }, status)
}

fn unanswered() -> Outcome {
    Outcome::Broke("no complete response to the copy of a request".into())
}

/// Returns the outcome, and the status of the response if there was a response. `backend`: the position of the backend in the view.
async fn attempt_over_h2<N: Network>(
    worker: &Rc<Worker<N>>,
    copy: &Copy,
    view: &LocalView,
    backend: usize,
) -> (Outcome, Option<u16>) {
    let (plan, cluster) = (&copy.plan, copy.cluster);
    let open = worker.links.lease(&view.backends()[backend], &plan.clusters[cluster].transport);
    let target = || Target { plan: plan.clone(), cluster, view: view.clone(), backend };
    let lease = match open {
        Some(lease) => lease,
        None => match worker.links.open(worker, target).await {
            Ok(lease) => lease,
            Err(failure) => return (failure.outcome(), None),
        },
    };
    let timer = Timer::new(worker.clock);
    let patience = Patience::idle(plan.clusters[cluster].attempt.response);
    let parts = h2::ConversationParts { timer: &timer, patience: &patience, to_head: copy.head.starts_with(b"HEAD ") };
    let mut conversation = h2::Conversation::new(lease);
    let (mut request, mut response) = conversation.halves(&parts);
    request.text(&copy.head);
    if request.body().send(Piece { content: &copy.content, end: Some(&copy.trailers) }).await.is_err() {
        return (unanswered(), None);
    }
    let status = loop {
        // The copy as a whole has a limit.
        match response.head(|| patience.wait(&timer), |response: &Response<'_, '_>| response.status()).await {
            Ok(100..=199) => {}
            Ok(status) => break status,
            Err(failure) => return (failure.outcome(), None),
        }
    };
    let mut left = MIRROR_RESPONSE_BYTES_MAX;
    while left > 0 && !response.body().is_consumed() {
        if response.body().next().await.is_err() {
            return (unanswered(), Some(status));
        }
        left = left.saturating_sub(response.body().consume());
    }
    (Outcome::Answered, Some(status))
}

/// The beginning of a response, up to its status code. LoadX discards the rest.
#[derive(Default)]
struct StatusLine {
    bytes: [u8; "HTTP/1.1 200".len()],
    length: usize,
}

impl StatusLine {
    fn take(&mut self, bytes: &[u8]) {
        let room = &mut self.bytes[self.length..];
        let count = room.len().min(bytes.len());
        room[..count].copy_from_slice(&bytes[..count]);
        self.length += count;
    }

    fn status(&self) -> Option<u16> {
        let code = self.bytes.strip_prefix(b"HTTP/1.")?.get(2..)?;
        std::str::from_utf8(code).ok()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_read_from_pieces() {
        let status = |pieces: &[&str]| {
            let mut line = StatusLine::default();
            pieces.iter().for_each(|piece| line.take(piece.as_bytes()));
            line.status()
        };
        assert_eq!(status(&["HTTP/1.1 503 Service Unavailable\r\n\r\n"]), Some(503));
        assert_eq!(status(&["HTTP/1", ".0 2", "0", "4\r\n"]), Some(204));
        assert_eq!(status(&[]), None);
        assert_eq!(status(&["HTTP/1.1 20"]), None);
        assert_eq!(status(&["SSH-2.0-OpenSSH"]), None);
    }
}
