//! The one thread that judges: it probes backends, takes in what workers report, resolves names,
//! publishes the view that workers pick from, and answers the status endpoints.

mod endpoints;
mod probe;
mod resolve;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use loadx_core::{BackendId, Cluster, Event, NameAnswer, Observation, SplitMix64};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::spawn_local;

use crate::access_log::Lost;
use crate::clock::Clock;
use crate::limits::{CONTROL_QUEUE_MAX, PROBES_MAX};
use crate::messages::{Mailbox, Question, Report};
use crate::net::Network;
use crate::shared::Shared;

/// What control is made of.
pub(crate) struct Parts<N: Network> {
    pub(crate) net: N,
    pub(crate) clock: Clock,
    pub(crate) cluster: Cluster,
    pub(crate) shared: Arc<Shared>,
    pub(crate) listening: Vec<SocketAddr>,
    pub(crate) mailboxes: Vec<Mailbox<N::Parcel>>,
    pub(crate) reports: mpsc::Receiver<Report>,
    pub(crate) questions: mpsc::Receiver<Question>,
    pub(crate) lost_log_lines: Arc<Lost>,
    pub(crate) seed: u64,
    /// Told once the first view is published.
    pub(crate) ready: oneshot::Sender<()>,
    pub(crate) stop: oneshot::Receiver<()>,
}

/// Runs control until it is told to stop.
pub(crate) async fn run<N: Network>(mut parts: Parts<N>) {
    let (found, mut findings) = mpsc::channel(CONTROL_QUEUE_MAX);
    let mut control = Control {
        net: parts.net.clone(),
        clock: parts.clock,
        cluster: parts.cluster,
        shared: Arc::clone(&parts.shared),
        rng: SplitMix64::new(parts.seed),
        found,
        probes: Arc::new(Semaphore::new(PROBES_MAX)),
        doubts: HashMap::new(),
    };
    tokio::select! {
        biased;
        _ = &mut parts.stop => return,
        () = control.resolve_names(&mut findings) => {}
    }
    control.publish();
    // Whoever started this may have given up waiting.
    let _ = parts.ready.send(());
    let desk = endpoints::Desk {
        clock: parts.clock,
        shared: parts.shared,
        listening: parts.listening,
        mailboxes: parts.mailboxes,
        lost_log_lines: parts.lost_log_lines,
        measured: Rc::default(),
    };
    loop {
        control.start_probes();
        let deadline = control.cluster.next_deadline();
        tokio::select! {
            biased;
            _ = &mut parts.stop => return,
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
            Some(question) = parts.questions.recv() => {
                let snapshot = control.cluster.snapshot(control.clock.now());
                let desk = desk.clone();
                spawn_local(async move {
                    let answer = desk.answer(question.endpoint, &snapshot).await;
                    // The client may have left meanwhile.
                    let _ = question.reply.send(answer);
                });
            }
            () = sleep_until(control.clock, deadline) => {}
        }
        control.publish();
    }
}

async fn sleep_until(clock: Clock, deadline: Option<loadx_core::Time>) {
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
}

struct Control<N: Network> {
    net: N,
    clock: Clock,
    cluster: Cluster,
    shared: Arc<Shared>,
    rng: SplitMix64,
    found: mpsc::Sender<Finding>,
    probes: Arc<Semaphore>,
    /// Of each backend that has a name, whether it leads where it should.
    doubts: HashMap<BackendId, Rc<resolve::Doubt>>,
}

impl<N: Network> Control<N> {
    fn take_in(&mut self, finding: Finding) {
        let event = match finding {
            Finding::Observed(id, observation) => {
                let event = self.cluster.observe(self.clock.now(), id, &observation, &mut self.rng);
                if let Some(event) = &event {
                    self.doubt(id, event.is_warning());
                }
                event
            }
            Finding::Resolved(id, answer) => self.cluster.resolved(id, answer),
        };
        if let Some(event) = event {
            tell(&event);
        }
    }

    /// Lets workers see the cluster's view, if it is another one.
    fn publish(&mut self) {
        let view = self.cluster.view();
        if !Arc::ptr_eq(&view, &self.shared.view.load()) {
            self.shared.view.store(view);
        }
    }

    fn start_probes(&mut self) {
        let policy = Arc::new(self.cluster.health_policy().clone());
        for id in self.cluster.tick(self.clock.now()) {
            let (Some(spec), Some(addresses)) = (self.cluster.spec(id), self.cluster.addresses(id)) else { continue };
            let probe =
                probe::Probe { clock: self.clock, policy: Arc::clone(&policy), authority: spec.authority(), addresses };
            let (net, found, places) = (self.net.clone(), self.found.clone(), Arc::clone(&self.probes));
            spawn_local(async move {
                let _place = places.acquire_owned().await;
                let observation = probe.run(&net).await;
                tracing::debug!(backend = probe.authority, "probe: {:?}", observation.evidence);
                // Control may have stopped meanwhile.
                let _ = found.send(Finding::Observed(id, observation)).await;
            });
        }
    }
}

fn tell(event: &Event) {
    if event.is_warning() {
        tracing::warn!("{event}");
    } else {
        tracing::info!("{event}");
    }
}
