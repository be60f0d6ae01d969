//! The connection between two processes after the new one has taken over: reports one way, changes of backends the other.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::channel::Channel;
use super::{Report, Update};

/// The way to a process that retires, in the process that took over.
#[derive(Debug)]
pub(crate) struct FormerLink {
    /// The last report; `None` once the process has ended.
    last: Arc<Mutex<Option<Report>>>,
    outbox: Arc<Outbox>,
}

/// The newest change of backends, until the other process has got it.
#[derive(Debug, Default)]
struct Outbox {
    state: Mutex<OutboxState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct OutboxState {
    update: Option<Update>,
    is_closed: bool,
}

impl FormerLink {
    /// Begins to read the reports, and to send changes of backends, each in a thread: a process that is slow must not hold
    /// up an operator.
    pub(super) fn new(mut channel: Channel) -> io::Result<Self> {
        channel.wait_for_ever()?;
        let mut reading = channel.try_clone()?;
        let last = Arc::new(Mutex::new(Some(Report::default())));
        let outbox = Arc::<Outbox>::default();
        let (shared, to_close) = (Arc::clone(&last), Arc::clone(&outbox));
        std::thread::Builder::new().name("loadx-former".to_owned()).spawn(move || {
            while let Ok(report) = reading.receive::<Report>() {
                *shared.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
            }
            *shared.lock().unwrap_or_else(PoisonError::into_inner) = None;
            to_close.close();
        })?;
        let sending = Arc::clone(&outbox);
        std::thread::Builder::new().name("loadx-updates".to_owned()).spawn(move || {
            while let Some(update) = sending.next() {
                if let Err(error) = channel.send(&update) {
                    tracing::warn!("a former process of LoadX does not learn of changes of backends any more: {error}");
                    // Half a message may have been sent.
                    channel.shut();
                    return;
                }
            }
        })?;
        Ok(FormerLink { last, outbox })
    }

    /// The last report; `None` once the process has ended.
    pub(crate) fn report(&self) -> Option<Report> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends a change of backends. A former change that has not been sent is left out.
    pub(crate) fn send(&self, update: &Update) {
        self.outbox.state().update = Some(update.clone());
        self.outbox.changed.notify_one();
    }
}

impl Drop for FormerLink {
    fn drop(&mut self) {
        self.outbox.close();
    }
}

impl Outbox {
    fn state(&self) -> MutexGuard<'_, OutboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.state().is_closed = true;
        self.changed.notify_one();
    }

    /// The next change; `None` when there will be none.
    fn next(&self) -> Option<Update> {
        let waits = |state: &mut OutboxState| state.update.is_none() && !state.is_closed;
        let state = self.changed.wait_while(self.state(), waits);
        state.unwrap_or_else(PoisonError::into_inner).update.take()
    }
}

/// The way to the process that took over, in the process that retires.
#[derive(Debug)]
pub(crate) struct SuccessorLink(Channel);

impl SuccessorLink {
    /// Calls `each` with each change of backends, in a thread.
    pub(super) fn new(channel: Channel) -> io::Result<Self> {
        channel.wait_for_ever()?;
        Ok(SuccessorLink(channel))
    }

    /// Calls `each` with each change of backends, in a thread of its own, until the other process ends.
    pub(crate) fn on_update(&self, mut each: impl FnMut(Update) + Send + 'static) -> io::Result<()> {
        let mut reading = self.0.try_clone()?;
        std::thread::Builder::new().name("loadx-successor".to_owned()).spawn(move || {
            while let Ok(update) = reading.receive::<Update>() {
                each(update);
            }
        })?;
        Ok(())
    }

    /// Tells what still runs. A process that has ended needs no report.
    pub(crate) fn report(&mut self, report: &Report) {
        let _ = self.0.send(report);
    }
}
