//! Applying another config: control does everything that can fail first, then publishes the new plan.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use loadx_core::config::{AccessLogConfig, Config};
use loadx_core::plan::{ListenerPlan, Plan};
use loadx_core::{ClusterId, ListenerId, NameAnswer, RouteId, Time};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, spawn_local};

use super::resolve::{Answers, look_up};
use super::{Control, Finding};
use crate::error::{ApplyError, StartError};
use crate::limits::{LISTENER_CLOSE, LOG_REOPEN, RESOLVE_AT_START};
use crate::listening::{self, Listening, Opened};
use crate::messages::{Applied, Order};
use crate::net::Network;
use crate::telemetry::{self, Departed, LogSender, LogWriter};
use crate::tls::TlsBackends;
use crate::worker;

/// A config to apply. The sender gets the result.
pub(super) type NewConfig = (Box<Config>, oneshot::Sender<Result<Applied, ApplyError>>);

/// A config whose names have been looked up.
#[derive(Debug)]
pub(super) struct Prepared {
    new: NewConfig,
    answers: Answers,
}

/// The access log that is written.
#[derive(Debug, Default)]
pub(crate) struct OpenLog {
    pub(crate) config: Option<AccessLogConfig>,
    pub(crate) sender: Option<LogSender>,
    /// The thread that writes the log, and those of former logs that may still write their last lines.
    writers: Vec<LogWriter>,
}

/// A listener that was removed and may still have clients.
#[derive(Clone, Debug)]
pub(super) struct LeavingListener {
    pub(super) id: ListenerId,
    pub(super) addresses: Vec<SocketAddr>,
    /// When LoadX closes the connections.
    pub(super) until: Time,
}

/// What the status shows of the config.
#[derive(Clone, Debug)]
pub(super) struct ConfigStatus {
    /// When the present config was taken over.
    pub(super) since: Time,
    /// When and why a later config was not taken over.
    pub(super) failure: Option<(Time, String)>,
}

impl<N: Network> Control<N> {
    /// Looks up the names of a config that are new, and then lets the config be taken over: a plan with backends that
    /// have no address yet would have requests fail that the former plan could serve.
    pub(super) fn prepare(&mut self, new_config: NewConfig) {
        let config = &new_config.0;
        let known: HashSet<(Arc<str>, u16)> =
            self.desired.names().into_iter().map(|name| (name.host, name.port)).collect();
        let named = config.backends().filter(|(_, backend)| backend.literal_addresses().is_none());
        let new: HashSet<(Arc<str>, u16)> = named
            .map(|(_, backend)| (Arc::clone(&backend.host), backend.port))
            .filter(|name| !known.contains(name))
            .collect();
        self.is_preparing = true;
        // A name that moves to another cluster goes on with the addresses that are known.
        let mut answers: Answers =
            self.desired.known_addresses().map(|(name, addresses)| (name, NameAnswer::Addresses(addresses))).collect();
        let (net, found) = (self.net.clone(), self.found.clone());
        spawn_local(async move {
            let mut look_ups = JoinSet::new();
            for (host, port) in new {
                let net = net.clone();
                look_ups.spawn_local(async move {
                    let answer = tokio::time::timeout(RESOLVE_AT_START, look_up(&net, &host, port)).await;
                    Some(((host, port), answer.ok()?.0))
                });
            }
            answers.extend(look_ups.join_all().await.into_iter().flatten());
            // Control may have stopped meanwhile.
            let _ = found.send(Finding::Prepared(Prepared { new: new_config, answers })).await;
        });
    }

    /// Makes a config the plan, or tells why not.
    pub(super) fn take_over(&mut self, prepared: Prepared) {
        let Prepared { new: (config, reply), answers } = prepared;
        match self.apply(&config, &answers) {
            Ok((applied, closing)) => self.finish_closing(closing, applied, reply),
            Err(error) => {
                self.status.failure = Some((self.clock.now(), error.to_string()));
                // The caller may have given up waiting.
                let _ = reply.send(Err(error));
                self.prepare_next();
            }
        }
    }

    /// Prepares the config that has waited longest, if there is one.
    pub(super) fn prepare_next(&mut self) {
        self.is_preparing = false;
        if let Some(next) = self.waiting.pop_front() {
            self.prepare(next);
        }
    }

    /// Answers when workers have closed the sockets of the removed listeners, of which `closing` tells by its end. The next
    /// config waits for that, because the config may need the addresses.
    fn finish_closing(
        &mut self,
        mut closing: mpsc::Receiver<()>,
        applied: Applied,
        reply: oneshot::Sender<Result<Applied, ApplyError>>,
    ) {
        let found = self.found.clone();
        spawn_local(async move {
            // Workers only drop their senders.
            let _ = tokio::time::timeout(LISTENER_CLOSE, closing.recv()).await;
            // Control may have stopped, and the caller may have given up waiting.
            let _ = found.send(Finding::Applied).await;
            let _ = reply.send(Ok(applied));
        });
    }

    fn apply(&mut self, config: &Config, answers: &Answers) -> Result<(Applied, mpsc::Receiver<()>), ApplyError> {
        let opened = self.open_listeners(config)?;
        let matched = self.desired.matching_listeners(config);
        let tls = self.shared.tls.prepare(config, |index| matched[index]).map_err(ApplyError::Open)?;
        let tls_to_backends = TlsBackends::prepare(config).map_err(ApplyError::Open)?;
        let log = self.open_log(config)?;
        // Nothing can fail from here on.
        let former = Arc::clone(self.desired.plan());
        let events = self.desired.apply(self.clock.now(), config);
        self.follow_names(answers);
        self.desired.publish();
        let plan = Arc::clone(self.desired.plan());
        self.shared.places.resize(former.process.max_connections, plan.process.max_connections);
        // Before the plan: a client of a new listener must find its TLS. A listener that is removed keeps its TLS.
        let present = plan.listeners.iter().map(|listener| listener.id);
        let gone = former.listeners.iter().filter(|listener| plan.listener(listener.id).is_none());
        let leaving = self.leaving.iter().map(|leaving| leaving.id).chain(gone.map(|listener| listener.id));
        self.shared.tls.replace(present.zip(tls), leaving);
        let transports = plan.clusters.iter().map(|cluster| &cluster.transport);
        self.shared.tls_to_backends.add(transports.zip(tls_to_backends));
        self.shared.publish(Arc::clone(&plan));
        self.listen(opened);
        let closing = self.leave(&former, &plan);
        self.reconnect(&former, &plan);
        if let Some(log) = log {
            self.mailboxes.iter().for_each(|mailbox| drop(mailbox.send(Order::Log(log.sender.clone()))));
            self.log.replace_with(log);
        }
        self.tell(&events);
        self.forget_removed(&events, departed(&former, &plan));
        self.status = ConfigStatus { since: self.clock.now(), failure: None };
        let applied = Applied { generation: plan.generation, after_restart: self.after_restart(config) };
        Ok((applied, closing))
    }

    /// Takes the addresses of the listeners that are new, in the order of [`new_listeners`].
    ///
    /// [`new_listeners`]: loadx_core::plan::Desired::new_listeners
    fn open_listeners(&self, config: &Config) -> Result<Vec<Opened<N::Socket>>, ApplyError> {
        let workers = self.mailboxes.len();
        let new = self.desired.new_listeners(config);
        new.map(|listener| listening::open(&self.net, listener, workers).map_err(|error| self.explain(error))).collect()
    }

    /// Names the listener of LoadX itself that holds the port of a new listener, if there is one.
    fn explain(&self, error: StartError) -> ApplyError {
        let in_use = match &error {
            StartError::Listen { address, error, .. } if error.kind() == io::ErrorKind::AddrInUse => Some(*address),
            _ => None,
        };
        let mut held = self.listening.iter().flat_map(|(_, addresses)| addresses);
        match in_use.and_then(|new| Some((new, held.find(|old| old.port() == new.port())?))) {
            Some((new, old)) => ApplyError::Overlap(new, *old),
            None => ApplyError::Open(error),
        }
    }

    /// Opens the access log of the config, if the config has another one than is open.
    fn open_log(&self, config: &Config) -> Result<Option<OpenLog>, ApplyError> {
        if config.access_log == self.log.config {
            return Ok(None);
        }
        OpenLog::open(config, &self.lost_log_lines).map(Some).map_err(ApplyError::Open)
    }

    /// Makes workers accept clients on the listeners that are new in the plan.
    fn listen(&mut self, opened: Vec<Opened<N::Socket>>) {
        let known: HashSet<ListenerId> = self.listening.iter().map(|(id, _)| *id).collect();
        let ids = self.desired.plan().listeners.iter().map(|listener| listener.id);
        let new: Vec<ListenerId> = ids.filter(|id| !known.contains(id)).collect();
        let mut by_worker: Vec<Vec<(ListenerId, N::Socket)>> = self.mailboxes.iter().map(|_| Vec::new()).collect();
        for (id, Opened { addresses, by_worker: sockets }) in new.into_iter().zip(opened) {
            let plan = self.desired.plan();
            let tls = plan.listener(id).is_some_and(|position| plan.listeners[position].tls);
            for address in &addresses {
                tracing::info!("listening on {}", Listening { address: *address, tls });
            }
            self.listening.push((id, addresses));
            for (worker, sockets) in by_worker.iter_mut().zip(sockets) {
                worker.extend(sockets.into_iter().map(|socket| (id, socket)));
            }
        }
        for (mailbox, sockets) in self.mailboxes.iter().zip(by_worker).filter(|(_, sockets)| !sockets.is_empty()) {
            // A worker that ended accepts no clients.
            let _ = mailbox.send(Order::Listen(sockets));
        }
    }

    /// Makes clients connect again whose host now asks for another certificate.
    fn reconnect(&self, former: &Plan, plan: &Plan) {
        let has_changed = |listener: &&ListenerPlan| {
            let former = former.listener(listener.id).map(|position| &former.listeners[position]);
            former.is_some_and(|former| former.client_rules != listener.client_rules)
        };
        if plan.listeners.iter().any(|listener| has_changed(&listener)) {
            for mailbox in &self.mailboxes {
                // A worker that ended has no connections.
                let _ = mailbox.send(Order::Reconnect);
            }
        }
    }

    /// Makes workers close the sockets of the listeners that left the plan, and closes the connections that are still
    /// open there after the shutdown grace. The receiver ends when all workers have closed the sockets.
    fn leave(&mut self, former: &Plan, plan: &Plan) -> mpsc::Receiver<()> {
        let (open, closing) = mpsc::channel(1);
        let gone = former.listeners.iter().filter(|listener| plan.listener(listener.id).is_none());
        let gone: Arc<[ListenerId]> = gone.map(|listener| listener.id).collect();
        if gone.is_empty() {
            return closing;
        }
        let grace = former.process.timeouts.shutdown_grace;
        let until = self.clock.now() + grace;
        for (id, addresses) in self.listening.extract_if(.., |(id, _)| gone.contains(id)) {
            self.leaving.push(LeavingListener { id, addresses: addresses.clone(), until });
            for address in addresses {
                tracing::info!("no longer listening on {address}; running requests have {} s", grace.as_secs_f64());
            }
        }
        for mailbox in &self.mailboxes {
            // A worker that ended has no sockets.
            let _ = mailbox.send(Order::Leave(Arc::clone(&gone), open.clone()));
        }
        let (mailboxes, found) = (self.mailboxes.clone(), self.found.clone());
        spawn_local(async move {
            tokio::time::sleep(grace).await;
            mailboxes.iter().for_each(|mailbox| drop(mailbox.send(Order::Cut(Arc::clone(&gone)))));
            // Control may have stopped meanwhile.
            let _ = found.send(Finding::Left(gone)).await;
        });
        closing
    }

    /// Settings that take effect only after a restart.
    fn after_restart(&self, config: &Config) -> Vec<String> {
        let (running, wanted) = (self.mailboxes.len(), worker::count(config));
        let notes = (wanted != running)
            .then(|| format!("\"workers\" stays {running}, not {wanted}: worker threads are started once"));
        notes.into_iter().collect()
    }

    pub(super) fn reopen_log(&self, reply: oneshot::Sender<Result<(), ApplyError>>) {
        let Some((sender, config)) = self.log.sender.as_ref().zip(self.log.config.as_ref()) else {
            let _ = reply.send(Ok(()));
            return;
        };
        let (done, file) = (sender.reopen(), config.file.clone());
        spawn_local(async move {
            let busy = || io::Error::other("the thread that writes the log does not answer");
            let outcome = tokio::time::timeout(LOG_REOPEN, done).await;
            let outcome = outcome.ok().and_then(Result::ok).unwrap_or_else(|| Err(busy()));
            let outcome = outcome.map_err(|error| {
                let file = file.unwrap_or_else(|| "standard output".into());
                ApplyError::Open(StartError::LogFile(file, error))
            });
            // The caller may have given up waiting.
            let _ = reply.send(outcome);
        });
    }
}

impl OpenLog {
    /// Opens the access log of a config.
    ///
    /// # Errors
    /// When the file cannot be opened, or no thread can be started.
    pub(crate) fn open(config: &Config, lost: &Arc<telemetry::LostLines>) -> Result<Self, StartError> {
        let Some(log) = &config.access_log else { return Ok(OpenLog::default()) };
        let (sender, writer) = telemetry::start_log(log, lost).map_err(|error| {
            StartError::LogFile(log.file.clone().unwrap_or_else(|| "standard output".into()), error)
        })?;
        Ok(OpenLog { config: Some(log.clone()), sender: Some(sender), writers: vec![writer] })
    }

    /// Makes workers write to another access log. The thread of the former log ends when no worker sends to that thread.
    fn replace_with(&mut self, next: OpenLog) {
        let former = std::mem::replace(self, next);
        self.writers.extend(former.writers.into_iter().filter(LogWriter::is_writing));
    }

    /// Waits for the last lines, also those of former logs, once no worker writes any more.
    pub(crate) fn finish(self) {
        // The thread of a log ends when its last sender is dropped.
        drop(self.sender);
        telemetry::join_logs(&self.writers);
    }
}

/// The clusters and routes of a plan that the next plan does not have. A removed listener keeps its counts: it still serves the
/// clients that it has.
fn departed(former: &Plan, next: &Plan) -> Departed {
    let clusters: BTreeSet<ClusterId> = next.clusters.iter().map(|cluster| cluster.id).collect();
    let routes: BTreeSet<RouteId> = next.route_ids.iter().copied().collect();
    Departed {
        clusters: former.clusters.iter().map(|cluster| cluster.id).filter(|id| !clusters.contains(id)).collect(),
        routes: former.route_ids.iter().copied().filter(|id| !routes.contains(id)).collect(),
        ..Departed::default()
    }
}
