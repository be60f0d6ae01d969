//! The way for operators into a running proxy: commands to control, what control sees, and the events.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use loadx_core::config::Config;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::error::ApplyError;
use crate::explanations::Explanation;
use crate::live::BackendAction;
use crate::messages::{Applied, Asked, Command, EndpointAnswer, HandedOver, Question};
use crate::observed::{EventRecord, Observed};
use crate::shared::Shared;
use crate::telemetry::{LostSpans, MetricsFormat, SpanBatch};

/// Sends commands to a running proxy. A handle does not keep the proxy running.
#[derive(Clone, Debug)]
pub struct Handle {
    command: mpsc::Sender<Command>,
    events: broadcast::Sender<EventRecord>,
    shared: Arc<Shared>,
}

impl Handle {
    pub(crate) fn new(
        command: mpsc::Sender<Command>,
        events: broadcast::Sender<EventRecord>,
        shared: Arc<Shared>,
    ) -> Self {
        Handle { command, events, shared }
    }

    /// Lets requests with the field X-LoadX-Explain ask for an explanation, if `check` accepts its value.
    pub fn explain_for(&self, check: impl Fn(&[u8]) -> bool + Send + Sync + 'static) {
        self.shared.explain.set(check);
    }

    /// The number of lost spans.
    pub fn lost_spans(&self) -> Arc<LostSpans> {
        Arc::clone(self.shared.spans.lost())
    }

    /// The explanations of the last requests that failed, were sent again or asked for one, the oldest first.
    ///
    /// # Errors
    /// When the proxy is stopping.
    pub async fn explanations(&self) -> Result<Vec<Explanation>, ApplyError> {
        self.ask(Command::Explanations).await
    }

    /// The spans of traced requests from now on, for the task that sends them; `None` if somebody gets them already.
    pub fn spans(&self) -> Option<mpsc::Receiver<SpanBatch>> {
        self.shared.spans.take_receiver()
    }

    /// What goes on, as JSON each second: what pages need at first, and the messages from now on. `None` when as many follow
    /// already as may.
    pub fn live(&self) -> Option<(String, broadcast::Receiver<Arc<str>>)> {
        self.shared.live.subscribe()
    }

    /// What pages of the dashboard want of backends from now on. Without a receiver the pages cannot change anything. `None` if
    /// there is a receiver already.
    pub fn dashboard_actions(&self) -> Option<mpsc::Receiver<BackendAction>> {
        self.shared.live.actions()
    }

    /// Applies another config. What did not change keeps its health, counts and connections; exchanges that run
    /// keep the plan that they began with; clients of a listener that is no more in the config have the shutdown grace
    /// of the former config to finish.
    ///
    /// # Errors
    /// When a listener or the access log cannot be opened, or the proxy is stopping; nothing has changed then.
    pub async fn apply(&self, config: Config) -> Result<Applied, ApplyError> {
        self.ask(|reply| Command::Apply(Box::new(config), reply)).await?
    }

    /// What control and the workers see now.
    ///
    /// # Errors
    /// When the proxy is stopping.
    pub async fn observe(&self) -> Result<Observed, ApplyError> {
        Ok(*self.ask(Command::Observe).await?)
    }

    /// All metrics, in this format.
    ///
    /// # Errors
    /// When the proxy is stopping.
    pub async fn metrics(&self, format: MetricsFormat) -> Result<EndpointAnswer, ApplyError> {
        self.ask(|reply| Command::Metrics(Question { asked: Asked::Metrics(format), reply })).await
    }

    /// Opens the file of the access log anew, by its name: after the file was renamed, lines go to a new file.
    ///
    /// # Errors
    /// When the file cannot be opened, or the proxy is stopping; lines go on to the former file then.
    pub async fn reopen_log(&self) -> Result<(), ApplyError> {
        self.ask(Command::ReopenLog).await?
    }

    /// What another process needs to go on with the work of this one. This proxy goes on meanwhile.
    ///
    /// # Errors
    /// When the system has no room for the descriptors, or the proxy is stopping.
    pub async fn hand_over(&self) -> io::Result<HandedOver> {
        self.ask(Command::HandOver).await.map_err(io::Error::other)?
    }

    /// Shows in `/__status__` that a later config could not be applied, with the reason.
    pub fn note_failure(&self, reason: String) {
        // A proxy that is stopping shows nothing any more.
        let _ = self.send(Command::NoteFailure(reason));
    }

    /// Tells how much memory the process uses, and how much its control group, with the limit of the group; in bytes. When
    /// little is left (of the group, or of `max_memory` of the config), the proxy takes no new work.
    pub fn note_memory(&self, used: u64, of_group: Option<(u64, u64)>) {
        // The next note comes soon.
        let _ = self.send(Command::NoteMemory { used, of_group });
    }

    /// The events from now on. A receiver that is too slow loses the oldest events, and is told their number.
    pub fn events(&self) -> broadcast::Receiver<EventRecord> {
        self.events.subscribe()
    }

    /// Adds an event for all receivers.
    pub fn tell(&self, event: EventRecord) {
        // Without receivers the event is only in the log.
        let _ = self.events.send(event);
    }

    /// Whether control answers within `limit`.
    pub fn answers_within(&self, limit: Duration) -> bool {
        let (reply, answer) = std::sync::mpsc::sync_channel(1);
        self.send(Command::Ping(reply)).is_ok() && answer.recv_timeout(limit).is_ok()
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, ApplyError> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply))?;
        answer.await.map_err(|_| ApplyError::Stopping)
    }

    fn send(&self, command: Command) -> Result<(), ApplyError> {
        self.command.try_send(command).map_err(|_| ApplyError::Stopping)
    }
}
