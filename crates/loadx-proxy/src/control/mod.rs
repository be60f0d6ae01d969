//! The one thread that judges: control holds the desired state, probes backends, takes in what workers report,
//! resolves names, publishes plans and views, and answers the status endpoints.

mod certificates;
mod commands;
mod endpoints;
mod exposition;
mod hand_over;
mod live;
mod memory;
mod observe;
mod probe;
mod reload;
mod resolve;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use loadx_core::plan::{Desired, ProbeToRun};
use loadx_core::{BackendId, ClusterEvent, Event, Evidence, ListenerId, NameAnswer, Observation, SplitMix64, Time};
use tokio::sync::{Mutex, Semaphore, broadcast, mpsc, oneshot};
use tokio::task::spawn_local;

use crate::clock::Clock;
use crate::limits::{CONTROL_QUEUE_MAX, LIVE_INTERVAL, PROBES_MAX};
use crate::messages::{Command, Mailbox, Order, Question, Report};
use crate::net::Network;
use crate::observed::EventRecord;
use crate::shared::Shared;
use crate::telemetry::{Departed, LostLines};
use crate::tls::Handshakes;

use endpoints::{Endpoints, State};
use live::{LastEvents, Moment, Told};
use probe::ProbeRun;
use reload::{ConfigStatus, LeavingListener, NewConfig, Prepared};
use resolve::Resolver;

pub(crate) use reload::OpenLog;

/// What control is made of.
pub(crate) struct Parts<N: Network> {
    pub(crate) net: N,
    pub(crate) clock: Clock,
    pub(crate) desired: Desired,
    pub(crate) shared: Arc<Shared>,
    pub(crate) listening: Vec<(ListenerId, Vec<SocketAddr>)>,
    pub(crate) log: OpenLog,
    pub(crate) mailboxes: Vec<Mailbox<N>>,
    pub(crate) reports: mpsc::Receiver<Report>,
    pub(crate) questions: mpsc::Receiver<Question>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) events: broadcast::Sender<EventRecord>,
    pub(crate) lost_log_lines: Arc<LostLines>,
    pub(crate) seed: u64,
    /// Told once the first views are published.
    pub(crate) ready: oneshot::Sender<()>,
    pub(crate) stop: oneshot::Receiver<()>,
}

impl<N: Network> Parts<N> {
    /// The number of the first plan.
    pub(crate) fn generation(&self) -> u64 {
        self.desired.plan().generation
    }
}

/// Runs control until it is told to stop. Returns the access log, whose last lines the caller waits for.
pub(crate) async fn run<N: Network>(mut parts: Parts<N>) -> OpenLog {
    let (found, mut findings) = mpsc::channel(CONTROL_QUEUE_MAX);
    let mut control = Control {
        net: parts.net.clone(),
        clock: parts.clock,
        desired: parts.desired,
        shared: Arc::clone(&parts.shared),
        mailboxes: parts.mailboxes.clone(),
        rng: SplitMix64::new(parts.seed),
        found,
        probes: Arc::new(Semaphore::new(PROBES_MAX)),
        handshakes: Rc::new(Handshakes::new()),
        resolvers: HashMap::new(),
        asks_default_path: false,
        listening: parts.listening,
        leaving: Vec::new(),
        log: parts.log,
        events: parts.events,
        lost_log_lines: Arc::clone(&parts.lost_log_lines),
        status: ConfigStatus { since: parts.clock.now(), failure: None },
        is_preparing: false,
        waiting: VecDeque::new(),
        last_events: LastEvents::default(),
        told: Rc::default(),
        pages_told: None,
    };
    tokio::select! {
        biased;
        _ = &mut parts.stop => return control.log,
        () = control.resolve_at_start(&mut findings) => {}
    }
    spawn_local(certificates::watch(Arc::clone(&parts.shared)));
    control.publish_views();
    // The caller may have given up waiting.
    let _ = parts.ready.send(());
    let endpoints = Endpoints {
        clock: parts.clock,
        shared: parts.shared,
        mailboxes: parts.mailboxes,
        lost_log_lines: parts.lost_log_lines,
        measured: Rc::default(),
        last_counts: Rc::default(),
    };
    loop {
        control.end_drains();
        control.look();
        control.start_probes();
        let deadline = control.desired.next_deadline();
        tokio::select! {
            biased;
            _ = &mut parts.stop => return control.log,
            Some(finding) = findings.recv() => {
                control.take_in(finding);
                // What else is there already goes into the same view: making one costs.
                while let Ok(finding) = findings.try_recv() {
                    control.take_in(finding);
                }
            }
            Some(Report { backend, observation }) = parts.reports.recv() => {
                control.take_in(Finding::Observed(backend, observation));
            }
            Some(command) = parts.commands.recv() => control.obey(command, &endpoints),
            Some(question) = parts.questions.recv() => control.answer(question, &endpoints),
            () = endpoints.shared.live.wanted() => {
                if control.pages_told.is_none_or(|told| control.clock.now().since(told) >= LIVE_INTERVAL) {
                    control.tell_pages(&endpoints);
                }
            }
            () = sleep_until(control.clock, control.pages_due()) => control.tell_pages(&endpoints),
            () = sleep_until(control.clock, deadline) => {}
        }
        control.publish_views();
    }
}

async fn sleep_until(clock: Clock, deadline: Option<Time>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(clock.instant(deadline)).await,
        None => std::future::pending().await,
    }
}

/// What the tasks of control find out.
#[derive(Debug)]
enum Finding {
    Observed(BackendId, Observation),
    Resolved(BackendId, NameAnswer),
    /// The lookups of the names of a new config have ended.
    Prepared(Prepared),
    /// The drain of removed listeners is over.
    Left(Arc<[ListenerId]>),
    /// A config was taken over, and its former listeners are closed.
    Applied,
}

struct Control<N: Network> {
    net: N,
    clock: Clock,
    desired: Desired,
    shared: Arc<Shared>,
    mailboxes: Vec<Mailbox<N>>,
    rng: SplitMix64,
    found: mpsc::Sender<Finding>,
    probes: Arc<Semaphore>,
    /// The turns of the handshakes of TLS of probes.
    handshakes: Rc<Handshakes>,
    /// The look-ups of each name of the plan.
    resolvers: HashMap<BackendId, Resolver>,
    /// Whether the log has told that probes ask for a path that nobody chose.
    asks_default_path: bool,
    /// The addresses of each listener of the plan.
    listening: Vec<(ListenerId, Vec<SocketAddr>)>,
    /// The listeners that were removed, and the end of their drains.
    leaving: Vec<LeavingListener>,
    log: OpenLog,
    events: broadcast::Sender<EventRecord>,
    lost_log_lines: Arc<LostLines>,
    status: ConfigStatus,
    /// Whether a config is being prepared; the next one waits.
    is_preparing: bool,
    /// The configs that wait, in their order.
    waiting: VecDeque<NewConfig>,
    last_events: LastEvents,
    /// What open pages of the dashboard were told.
    told: Rc<Mutex<Told>>,
    /// When open pages were last told.
    pages_told: Option<Time>,
}

impl<N: Network> Control<N> {
    fn take_in(&mut self, finding: Finding) {
        let now = self.clock.now();
        let events = match finding {
            Finding::Observed(id, observation) => {
                self.tell_of_default_path(&observation);
                let event = self.desired.observe(now, id, &observation, &mut self.rng);
                if let Some(event) = &event {
                    if matches!(event.event, Event::Ejected { .. }) {
                        // Requests that wait for the backend may go elsewhere.
                        self.wake_exchanges();
                    }
                    self.note_standing(id, event.event.is_warning());
                }
                event.into_iter().collect()
            }
            Finding::Resolved(id, answer) => self.desired.resolved(now, id, answer),
            Finding::Prepared(prepared) => return self.take_over(prepared),
            Finding::Left(listeners) => {
                self.leaving.retain(|leaving| !listeners.contains(&leaving.id));
                let departed = Departed { listeners: listeners.to_vec(), ..Departed::default() };
                return self.forget_removed(&[], departed);
            }
            Finding::Applied => return self.prepare_next(),
        };
        self.tell(&events);
        self.forget_removed(&events, Departed::default());
    }

    /// Tells once that backends do not have the path that probes ask for by default.
    fn tell_of_default_path(&mut self, observation: &Observation) {
        if let Evidence::ProbePassed { status: status @ 400.. } = observation.evidence
            && !std::mem::replace(&mut self.asks_default_path, true)
        {
            tracing::info!(
                "a health probe of /health was answered {status}, which counts as alive; \
                 name a path of the application that reports its health: \"health_check_path\" in the config, or \
                 --health-path on the command line"
            );
        }
    }

    /// Makes workers free the counts of what left the plan: the backends of `events`, and what else `departed` has.
    fn forget_removed(&self, events: &[ClusterEvent], mut departed: Departed) {
        let removed = events.iter().filter_map(|event| match &event.event {
            Event::Removed { id, .. } => Some(*id),
            _ => None,
        });
        departed.backends.extend(removed);
        if departed.is_empty() {
            return;
        }
        let departed = Arc::new(departed);
        for mailbox in &self.mailboxes {
            // A worker that ended has no counts to free.
            let _ = mailbox.send(Order::Forget(Arc::clone(&departed)));
        }
    }

    /// Lets workers see the views that changed.
    fn publish_views(&mut self) {
        if self.desired.publish() {
            self.shared.note_published();
        }
    }

    fn state(&self) -> State {
        State {
            clusters: self.desired.snapshot(self.clock.now()),
            drains: self.desired.drains(self.clock.now()),
            listening: self.listening.clone(),
            leaving: self.leaving.clone(),
            config: self.status.clone(),
        }
    }

    fn answer(&self, question: Question, endpoints: &Endpoints<N>) {
        let state = self.state();
        let endpoints = endpoints.clone();
        spawn_local(async move {
            let answer = endpoints.answer(question.asked, &state).await;
            // The client may have left meanwhile.
            let _ = question.reply.send(answer);
        });
    }

    /// When open pages of the dashboard are told again; `None` without open pages.
    fn pages_due(&self) -> Option<Time> {
        self.shared.live.is_watched().then(|| live::due(self.pages_told, self.clock.now()))
    }

    /// Tells open pages of the dashboard what goes on.
    fn tell_pages(&mut self, endpoints: &Endpoints<N>) {
        self.pages_told = Some(self.clock.now());
        let moment = Moment::new(self.clock.now(), self.state(), &self.last_events);
        let (endpoints, told) = (endpoints.clone(), Rc::clone(&self.told));
        spawn_local(async move { endpoints.tell_pages(&told, &moment).await });
    }

    /// Logs events, and sends them to the operators who follow the events.
    fn tell(&mut self, events: &[ClusterEvent]) {
        for event in events {
            if event.event.is_warning() {
                tracing::warn!("{event}");
            } else {
                tracing::info!("{event}");
            }
            let record = EventRecord::from(event);
            self.last_events.add(&record);
            // Without receivers the event is only in the log.
            let _ = self.events.send(record);
        }
    }

    /// Ends the exchanges of backends whose drains are over.
    fn end_drains(&mut self) {
        let over = self.desired.end_drains(self.clock.now());
        if over.is_empty() {
            return;
        }
        self.tell(&over);
        self.wake_exchanges();
    }

    /// Compares the backends, and lets requests leave the backends that no longer answer.
    fn look(&mut self) {
        let events = self.desired.look(self.clock.now());
        if events.iter().any(|event| matches!(event.event, Event::OutlierEjected { .. })) {
            self.wake_exchanges();
        }
        self.tell(&events);
        self.publish_views();
    }

    fn wake_exchanges(&self) {
        for mailbox in &self.mailboxes {
            // A worker that ended has no exchanges.
            let _ = mailbox.send(Order::WakeExchanges);
        }
    }

    fn start_probes(&mut self) {
        for due in self.desired.tick(self.clock.now()) {
            let ProbeToRun { id, policy, authority, addresses, tls_name, transport } = due;
            let (handshakes, shared) = (Rc::clone(&self.handshakes), Arc::clone(&self.shared));
            let clock = self.clock;
            let run = ProbeRun { clock, policy, authority, addresses, tls_name, transport, handshakes, shared };
            let (net, found, places) = (self.net.clone(), self.found.clone(), Arc::clone(&self.probes));
            spawn_local(async move {
                let _place = places.acquire_owned().await;
                let observation = run.run(&net).await;
                tracing::debug!("probe of {}: {}", run.authority, observation.evidence);
                // Control may have stopped meanwhile.
                let _ = found.send(Finding::Observed(id, observation)).await;
            });
        }
    }
}
