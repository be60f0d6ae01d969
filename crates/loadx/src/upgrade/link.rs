//! The connection between two processes after the new one has taken over: reports one way, changes of backends the other.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::channel::Channel;
use super::{Report, SEND_MAX, Update};

/// The way to a process that retires, in the process that took over.
#[derive(Debug)]
pub(crate) struct FormerLink {
    channel: Mutex<Channel>,
    /// The last report; `None` once the process has ended.
    last: Arc<Mutex<Option<Report>>>,
}

impl FormerLink {
    /// Begins to read the reports.
    pub(super) fn new(channel: Channel) -> io::Result<Self> {
        channel.wait_for_ever(SEND_MAX)?;
        let mut reading = channel.try_clone()?;
        let last = Arc::new(Mutex::new(Some(Report::default())));
        let shared = Arc::clone(&last);
        std::thread::Builder::new().name("loadx-former".to_owned()).spawn(move || {
            while let Ok(report) = reading.receive::<Report>() {
                *shared.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
            }
            *shared.lock().unwrap_or_else(PoisonError::into_inner) = None;
        })?;
        Ok(FormerLink { channel: Mutex::new(channel), last })
    }

    /// The last report; `None` once the process has ended.
    pub(crate) fn report(&self) -> Option<Report> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends a change of backends.
    pub(crate) fn send(&self, update: &Update) {
        let mut channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = channel.send(update)
            && self.report().is_some()
        {
            tracing::warn!("a former process of LoadX did not learn of the change of backends: {error}");
        }
    }
}

/// The way to the process that took over, in the process that retires.
#[derive(Debug)]
pub(crate) struct SuccessorLink(Channel);

impl SuccessorLink {
    /// Calls `each` with each change of backends, in a thread.
    pub(super) fn new(channel: Channel) -> io::Result<Self> {
        channel.wait_for_ever(SEND_MAX)?;
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
