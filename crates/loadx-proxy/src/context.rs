//! What the tasks of one worker share: its buffers, its idle connections, its counts, its log, and the
//! ways to control and to the other workers.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use loadx_core::{Backend, BackendId, Observation, ProxyError, Rng as _, SplitMix64, Time};
use loadx_http::Request;
use tokio::sync::{mpsc, oneshot};

use crate::access_log::{AccessLog, Line};
use crate::buffers::Buffers;
use crate::clock::Clock;
use crate::date::Date;
use crate::incoming::Incoming;
use crate::messages::{Endpoint, Mailbox, Question, Report};
use crate::metrics::{Ending, Holdings, Shard};
use crate::net::Network;
use crate::parking::Parking;
use crate::pipes::Pipes;
use crate::pool::Pool;
use crate::request_id::RequestId;
use crate::sessions::Sessions;
use crate::shared::{LocalView, Settings, Shared};

/// What the tasks of one worker share.
pub(crate) struct Worker<N: Network> {
    pub(crate) net: N,
    pub(crate) clock: Clock,
    pub(crate) buffers: Rc<Buffers>,
    pub(crate) pipes: Pipes<N::Stream>,
    pub(crate) pool: Pool<N::Stream>,
    pub(crate) metrics: RefCell<Shard>,
    pub(crate) index: usize,
    pub(crate) shared: Arc<Shared>,
    /// The published view, held by this worker so that taking it costs no shared count.
    view: RefCell<LocalView>,
    pub(crate) log: AccessLog,
    pub(crate) date: Date,
    /// The ways to all workers, by index.
    pub(crate) mailboxes: Vec<Mailbox<N::Parcel>>,
    reports: mpsc::Sender<Report>,
    questions: mpsc::Sender<Question>,
    ids: RefCell<SplitMix64>,
    pub(crate) sessions: Rc<Sessions>,
    pub(crate) parking: Parking<N::Stream>,
}

/// What a worker's context is made of.
pub(crate) struct Parts<N: Network> {
    pub(crate) net: N,
    pub(crate) index: usize,
    pub(crate) clock: Clock,
    pub(crate) shared: Arc<Shared>,
    pub(crate) mailboxes: Vec<Mailbox<N::Parcel>>,
    pub(crate) reports: mpsc::Sender<Report>,
    pub(crate) questions: mpsc::Sender<Question>,
    pub(crate) log: AccessLog,
    pub(crate) seed: u64,
}

impl<N: Network> Worker<N> {
    pub(crate) fn new(parts: Parts<N>) -> Rc<Self> {
        let Parts { net, index, clock, shared, mailboxes, reports, questions, log, seed } = parts;
        let view = LocalView::new(shared.view.load_full());
        let pool = Pool::new();
        pool.follow(&view);
        Rc::new(Worker {
            net,
            clock,
            buffers: Rc::default(),
            pipes: Pipes::new(),
            pool,
            metrics: RefCell::new(Shard::new()),
            sessions: Rc::default(),
            parking: Parking::new(),
            index,
            view: RefCell::new(view),
            shared,
            log,
            date: Date::default(),
            mailboxes,
            reports,
            questions,
            ids: RefCell::new(SplitMix64::new(seed)),
        })
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// The backends in rotation. A new view also closes idle connections to those that left.
    pub(crate) fn view(&self) -> LocalView {
        let published = self.shared.view.load();
        let mut held = self.view.borrow_mut();
        if !held.is(&published) {
            let now = LocalView::new(Arc::clone(&published));
            self.pool.follow(&now);
            *held = now;
        }
        held.clone()
    }

    /// Closes the connection of one client that has nothing to do; false when there is none.
    pub(crate) fn shed(&self) -> bool {
        self.parking.shed() || self.sessions.shed()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.sessions.is_stopping()
    }

    pub(crate) fn next_request_id(&self) -> RequestId {
        RequestId(self.ids.borrow_mut().next_u64())
    }

    /// Whether a connection may serve another request after the one it serves now.
    pub(crate) fn keeps_connections(&self) -> bool {
        !self.is_stopping() && !self.shared.places.is_awaited()
    }

    /// Tells control how a backend failed. When control cannot keep up, the report is dropped: the
    /// next failure brings another.
    pub(crate) fn report(&self, backend: BackendId, observation: Observation) {
        let _ = self.reports.try_send(Report { backend, observation });
    }

    /// The endpoint that the request asks for, if it asks for one that is on.
    pub(crate) fn endpoint(&self, request: &Request<'_, '_>) -> Option<Endpoint> {
        let path = request.path_and_query();
        if !path.starts_with("/__") || !matches!(request.method(), "GET" | "HEAD") {
            return None;
        }
        let endpoint = Endpoint::of_path(path.split('?').next().unwrap_or(path))?;
        (endpoint != Endpoint::Metrics || self.settings().metrics).then_some(endpoint)
    }

    /// What was counted so far, and what is held now.
    pub(crate) fn measure(&self) -> Shard {
        let mut shard = self.metrics.borrow().clone();
        shard.holdings =
            Holdings { idle_to_backends: self.pool.len(), buffers: self.buffers.lent(), pipes: self.pipes.lent() };
        shard
    }

    /// Has control answer an endpoint.
    pub(crate) async fn ask(&self, endpoint: Endpoint) -> (u16, Vec<u8>) {
        let (reply, answer) = oneshot::channel();
        if self.questions.send(Question { endpoint, reply }).await.is_ok()
            && let Ok(answer) = answer.await
        {
            return answer;
        }
        (503, b"{\"status\":\"stopping\"}\n".to_vec())
    }

    /// Counts and logs an exchange that ended.
    pub(crate) fn account(&self, account: &Account<'_>) {
        let Account { now, incoming, status, broke_off, content, backend, tries, error, switched_at } = *account;
        let took = now.since(incoming.began);
        let to_answer = switched_at.map_or(took, |switched_at| switched_at.since(incoming.began));
        let mut metrics = self.metrics.borrow_mut();
        metrics.retries += tries.saturating_sub(1) as u64;
        metrics.record(&Ending { now, took: to_answer, status, error: status >= 500 || broke_off, backend });
        drop(metrics);
        if !self.log.is_on() {
            return;
        }
        self.log.write(&Line {
            at: SystemTime::now(),
            client: incoming.client,
            method: incoming.method(),
            target: incoming.target(),
            status,
            bytes: content,
            took,
            backend: backend.map(Backend::name),
            tries,
            id: incoming.id,
            error,
        });
    }

    /// Counts and logs a request that was refused before it became an exchange.
    pub(crate) fn log_refusal(
        &self,
        client: IpAddr,
        id: RequestId,
        (method, target): (&[u8], &[u8]),
        reply: &ProxyError,
        bytes: u64,
    ) {
        let now = self.clock.now();
        let took = Duration::ZERO;
        let error = reply.status >= 500;
        self.metrics.borrow_mut().record(&Ending { now, took, status: reply.status, error, backend: None });
        self.log.write(&Line {
            at: SystemTime::now(),
            client,
            method,
            target,
            status: reply.status,
            bytes,
            took,
            backend: None,
            tries: 0,
            id,
            error: Some(&reply.message),
        });
    }
}

/// An exchange that ended, as it is counted and logged.
#[derive(Debug)]
pub(crate) struct Account<'a> {
    /// When it ended.
    pub(crate) now: Time,
    pub(crate) incoming: &'a Incoming,
    pub(crate) status: u16,
    /// Whether the client got only part of the response.
    pub(crate) broke_off: bool,
    /// Content sent to the client, in bytes.
    pub(crate) content: u64,
    pub(crate) backend: Option<&'a Backend>,
    pub(crate) tries: usize,
    pub(crate) error: Option<&'a str>,
    /// When the connection became a tunnel: its hours are no response time.
    pub(crate) switched_at: Option<Time>,
}
