//! What the tasks of one worker share: its buffers, its idle connections, its counts, its log, and the
//! ways to control and to the other workers.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use loadx_core::config::BackendTransport;
use loadx_core::{BackendId, ListenerId, Observation, ProxyError, Rng as _, SplitMix64};
use loadx_http::h2::Scratch;
use tokio::sync::{mpsc, oneshot};

use crate::buffers::Buffers;
use crate::clock::Clock;
use crate::date::Date;
use crate::downstream::parking::Parking;
use crate::downstream::sessions::Sessions;
use crate::explanations::Explanations;
use crate::incoming::{Incoming, RequestSpans};
use crate::limits::DESERTED_LOOK;
use crate::messages::{Asked, Census, EndpointAnswer, Mailbox, Question, Report};
use crate::net::{Network, PipeOf, Stream as _, StreamOf};
use crate::pipes::Pipes;
use crate::request_id::RequestId;
use crate::shared::{LocalPlan, LocalView, Shared};
use crate::telemetry::{AccessLog, Cause, Holdings, Record, Request, Shard, Spans};
use crate::tls::Handshakes;
use crate::tunnels::Tunnels;
use crate::upstream::h2::Links;
use crate::upstream::pool::Pool;

/// What the tasks of one worker share.
pub(crate) struct Worker<N: Network> {
    pub(crate) net: N,
    pub(crate) clock: Clock,
    pub(crate) buffers: Rc<Buffers>,
    pub(crate) pipes: Pipes<PipeOf<N>>,
    pub(crate) pool: Pool<StreamOf<N>>,
    pub(crate) links: Links<N>,
    pub(crate) metrics: RefCell<Shard>,
    pub(crate) index: usize,
    pub(crate) shared: Arc<Shared>,
    /// The present plan, held by this worker so that taking the plan costs no shared count.
    plan: RefCell<LocalPlan>,
    /// The version at which that was the present plan.
    plan_version: Cell<u64>,
    /// Of each listener that is no more in the present plan and still has clients, the last plan with the listener.
    former_plans: RefCell<Vec<(ListenerId, LocalPlan)>>,
    pub(crate) log: AccessLog,
    pub(crate) spans: Spans,
    date: Date,
    /// The ways to all workers, by index.
    pub(crate) mailboxes: Vec<Mailbox<N>>,
    reports: mpsc::Sender<Report>,
    questions: mpsc::Sender<Question>,
    ids: RefCell<SplitMix64>,
    /// Copies for mirrors that are under way.
    pub(crate) mirrors: Cell<usize>,
    pub(crate) sessions: Rc<Sessions>,
    /// The turns of the handshakes of TLS.
    pub(crate) handshakes: Handshakes,
    pub(crate) parking: Parking<StreamOf<N>>,
    /// The exchanges in HTTP/2 beside the first of their connections.
    pub(crate) further_exchanges: Rc<Cell<usize>>,
    /// The memory that reading HTTP/2 needs meanwhile.
    pub(crate) h2_scratch: RefCell<Scratch>,
    pub(crate) explanations: Explanations,
    /// The tunnels of each backend.
    pub(crate) tunnels: Tunnels,
    is_retired: Cell<bool>,
    /// Clients of sockets that have ended, which wait for a place.
    pub(crate) waiting: Cell<usize>,
}

/// What a worker's context is made of.
pub(crate) struct Parts<N: Network> {
    pub(crate) net: N,
    pub(crate) index: usize,
    pub(crate) clock: Clock,
    pub(crate) shared: Arc<Shared>,
    pub(crate) mailboxes: Vec<Mailbox<N>>,
    pub(crate) reports: mpsc::Sender<Report>,
    pub(crate) questions: mpsc::Sender<Question>,
    pub(crate) log: AccessLog,
    pub(crate) seed: u64,
}

impl<N: Network> Worker<N> {
    pub(crate) fn new(parts: Parts<N>) -> Rc<Self> {
        let Parts { net, index, clock, shared, mailboxes, reports, questions, log, seed } = parts;
        let version = shared.version();
        let plan = LocalPlan::new(shared.plan(), version);
        Rc::new(Worker {
            net,
            clock,
            buffers: Rc::default(),
            pipes: Pipes::new(StreamOf::<N>::pipe),
            pool: Pool::new(),
            links: Links::default(),
            metrics: RefCell::new(Shard::new()),
            mirrors: Cell::new(0),
            sessions: Rc::default(),
            handshakes: Handshakes::new(),
            parking: Parking::new(),
            further_exchanges: Rc::default(),
            h2_scratch: RefCell::default(),
            explanations: Explanations::default(),
            tunnels: Tunnels::default(),
            is_retired: Cell::new(false),
            waiting: Cell::new(0),
            index,
            plan: RefCell::new(plan),
            plan_version: Cell::new(version),
            former_plans: RefCell::default(),
            spans: Spans::new(shared.spans.sender()),
            shared,
            log,
            date: Date::default(),
            mailboxes,
            reports,
            questions,
            ids: RefCell::new(SplitMix64::new(seed)),
        })
    }

    /// The present plan.
    pub(crate) fn plan(&self) -> LocalPlan {
        let version = self.shared.version();
        if self.plan_version.get() != version {
            let published = self.shared.plan();
            let mut held = self.plan.borrow_mut();
            if !held.is(&published) {
                let former = std::mem::replace(&mut *held, LocalPlan::new(published, version));
                let removed = former.listeners.iter().filter(|listener| held.listener(listener.id).is_none());
                self.former_plans.borrow_mut().extend(removed.map(|listener| (listener.id, former.clone())));
            }
            self.plan_version.set(version);
        }
        self.plan.borrow().clone()
    }

    /// The plan by which a request on this listener is served, and the position of the listener in the plan: the present
    /// plan, or the last plan with the listener. None for a listener that was removed before a client came.
    pub(crate) fn plan_for(&self, listener: ListenerId) -> Option<(LocalPlan, usize)> {
        let present = self.plan();
        if let Some(position) = present.listener(listener) {
            return Some((present, position));
        }
        let former = self.former_plans.borrow();
        let (_, plan) = former.iter().find(|(id, _)| *id == listener)?;
        Some((plan.clone(), plan.listener(listener)?))
    }

    /// Closes the clients of listeners whose drain is over, and drops the plans that were kept for these listeners.
    pub(crate) fn cut(&self, listeners: &[ListenerId]) {
        let count = self.sessions.cut_listeners(listeners);
        if count > 0 {
            tracing::warn!("the drain of a removed listener is over; {count} of its clients are cut");
        }
        self.former_plans.borrow_mut().retain(|(id, _)| !listeners.contains(id));
    }

    /// The backends of a cluster that are in rotation now.
    pub(crate) fn view(&self, plan: &LocalPlan, cluster: usize) -> LocalView {
        plan.view(cluster, self.shared.version())
    }

    /// The text of Date now.
    pub(crate) fn date(&self) -> Rc<str> {
        self.date.at(self.net.time_of_day())
    }

    /// Closes idle connections to backends out of rotation, and those that are too old.
    pub(crate) fn sweep_pool(&self) {
        let plan = self.plan();
        let views: Vec<LocalView> = (0..plan.clusters.len()).map(|cluster| self.view(&plan, cluster)).collect();
        let present: HashMap<BackendId, (&[SocketAddr], &Arc<BackendTransport>)> = views
            .iter()
            .zip(&plan.clusters)
            .flat_map(|(view, slot)| view.backends().iter().map(move |backend| (backend, &slot.transport)))
            .map(|(backend, transport)| (backend.id(), (backend.addresses(), transport)))
            .collect();
        let idle = plan.process.timeouts.backend_keepalive;
        let now = self.clock.now();
        self.pool.sweep(now, idle, |backend| present.get(&backend).copied());
        self.links.sweep(now, idle, |backend| present.get(&backend).copied());
    }

    /// Closes the connection of one client that has nothing to do; false when there is none.
    pub(crate) fn shed(&self) -> bool {
        self.parking.shed() || self.sessions.shed()
    }

    /// Ends each connection with its next response, because another process serves new connections.
    pub(crate) fn retire(&self) {
        self.is_retired.set(true);
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.is_retired.get()
    }

    /// Waits until no client is left.
    pub(crate) async fn is_deserted(&self) {
        while !self.parking.is_empty() || !self.sessions.are_all_ended() || self.waiting.get() > 0 {
            // Parked clients leave without a notice.
            let _ = tokio::time::timeout(DESERTED_LOOK, self.sessions.next_end()).await;
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.sessions.is_stopping()
    }

    /// Whether a connection of HTTP/2 with a running exchange may begin another one. So the exchanges of all clients are at most twice
    /// as many as `max_connections`, whatever clients do with streams.
    pub(crate) fn may_begin_further(&self) -> bool {
        let most = self.plan().process.max_connections.div_ceil(self.mailboxes.len());
        self.further_exchanges.get() < most
    }

    /// 64 random bits.
    pub(crate) fn entropy(&self) -> u64 {
        self.ids.borrow_mut().next_u64()
    }

    pub(crate) fn next_request_id(&self) -> RequestId {
        RequestId::made(self.entropy())
    }

    /// Whether a connection may serve another request after the one it serves now.
    pub(crate) fn keeps_connections(&self) -> bool {
        !self.must_close() && !self.is_retired()
    }

    /// Whether connections must close although their last response may have promised to keep them. A worker that is
    /// retired keeps its promise: the client may be sending the next request, which would be lost.
    pub(crate) fn must_close(&self) -> bool {
        self.is_stopping() || self.shared.places.is_awaited() || self.shared.is_short_of_memory()
    }

    /// Tells control how a backend failed. When control cannot keep up, the report is dropped: the
    /// next failure brings another.
    pub(crate) fn report(&self, backend: BackendId, observation: Observation) {
        let _ = self.reports.try_send(Report { backend, observation });
    }

    /// Counts the client connections and the tunnels.
    pub(crate) fn census(&self) -> Census {
        let mut connections = BTreeMap::new();
        let mut count = |listener| *connections.entry(listener).or_default() += 1;
        self.sessions.listeners(&mut count);
        self.parking.listeners(&mut count);
        Census { connections, tunnels: self.tunnels.counts() }
    }

    /// What was counted so far, and what is held now.
    pub(crate) fn measure(&self) -> Shard {
        let mut shard = self.metrics.borrow().clone();
        shard.holdings = Holdings {
            idle_to_backends: self.pool.len(),
            h2_to_backends: self.links.len(),
            buffers: self.buffers.lent(),
            pipes: self.pipes.lent(),
        };
        shard
    }

    /// Has control answer an endpoint.
    pub(crate) async fn ask(&self, asked: Asked) -> EndpointAnswer {
        let (reply, answer) = oneshot::channel();
        if self.questions.send(Question { asked, reply }).await.is_ok()
            && let Ok(answer) = answer.await
        {
            return answer;
        }
        EndpointAnswer::json(503, b"{\"status\":\"stopping\"}\n".to_vec())
    }

    /// Counts and logs the end of an exchange.
    pub(crate) fn account(&self, record: &Record<'_>) {
        self.metrics.borrow_mut().record(record);
        self.log.write(record);
        if let Request::Accepted(Incoming { trace: Some(trace), .. }) = record.request
            && let Some(RequestSpans { own, attempts }) = &trace.spans
        {
            let (_, caller) = trace.parent.ids();
            let parent = (!trace.is_begun).then_some(caller);
            self.spans.add(record, trace.parent, parent, *own, &attempts.borrow());
        }
    }

    /// Counts and logs a request that was refused before it became an exchange.
    pub(crate) fn log_refusal(
        &self,
        (listener, client): (ListenerId, IpAddr),
        id: &RequestId,
        (method, target, host): (&[u8], &[u8], Option<&[u8]>),
        reply: &ProxyError,
        content: u64,
    ) {
        let now = self.clock.now();
        let plan = self.plan_for(listener);
        let listener_name = plan.as_ref().map(|(plan, position)| &*plan.listeners[*position].name);
        let request = Request::Refused { listener, listener_name, client, id, line: (method, target), host };
        self.account(&Record {
            content,
            error: Some(Cause::of(reply)),
            ..Record::new(request, now, now, reply.status)
        });
    }
}
