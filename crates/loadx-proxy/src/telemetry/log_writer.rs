//! The thread that writes the access log.

use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use loadx_core::config::{AccessLogConfig, LogFormat};

use crate::limits::{LOG_BATCHES_MAX, LOG_LAST_WRITE, LOG_SPARE_BATCHES_MAX};

/// Lines that were lost, over all workers.
#[derive(Debug, Default)]
pub(crate) struct Lost(pub(super) AtomicU64);

impl Lost {
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The thread that writes. It ends when all [`Batches`] have been dropped.
#[derive(Debug)]
pub(crate) struct Writer {
    /// Ends when the thread does.
    done: Receiver<()>,
}

/// Where workers leave batches of lines.
#[derive(Clone, Debug)]
pub(crate) struct Batches {
    pub(super) format: LogFormat,
    pub(super) sender: SyncSender<Vec<u8>>,
    /// What has been written, to be filled again: memory that one thread takes and another gives back wanders.
    pub(super) spare: Arc<Mutex<Vec<Vec<u8>>>>,
    pub(super) lost: Arc<Lost>,
}

/// Opens the log and starts its thread.
pub(crate) fn start(config: &AccessLogConfig, lost: &Arc<Lost>) -> io::Result<(Batches, Writer)> {
    let output: Box<dyn Write + Send> = match &config.file {
        None => Box::new(io::stdout()),
        Some(path) => Box::new(File::options().create(true).append(true).open(path)?),
    };
    let (sender, receiver) = sync_channel(LOG_BATCHES_MAX);
    let counter = Arc::clone(lost);
    let spare = Arc::<Mutex<Vec<Vec<u8>>>>::default();
    let emptied = Arc::clone(&spare);
    let (working, done) = sync_channel(0);
    std::thread::Builder::new().name("loadx-log".to_owned()).spawn(move || {
        let _working = working;
        write_all(&receiver, output, &emptied, &counter);
    })?;
    Ok((Batches { format: config.format, sender, spare, lost: Arc::clone(lost) }, Writer { done }))
}

fn write_all(
    receiver: &Receiver<Vec<u8>>,
    mut output: Box<dyn Write + Send>,
    emptied: &Mutex<Vec<Vec<u8>>>,
    lost: &Lost,
) {
    let mut failing = false;
    for mut batch in receiver {
        match output.write_all(&batch).and_then(|()| output.flush()) {
            Ok(()) => failing = false,
            Err(error) => {
                lost.0.fetch_add(lines_in(&batch), Ordering::Relaxed);
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!("the access log cannot be written, lines are lost: {error}");
                }
            }
        }
        batch.clear();
        let mut emptied = emptied.lock().unwrap_or_else(PoisonError::into_inner);
        if emptied.len() < LOG_SPARE_BATCHES_MAX {
            emptied.push(batch);
        }
    }
}

pub(super) fn lines_in(batch: &[u8]) -> u64 {
    batch.iter().filter(|byte| **byte == b'\n').count() as u64
}

impl Writer {
    /// Waits until everything is written, but not for ever: a terminal or pipe that nobody reads must
    /// not keep LoadX from ending.
    pub(crate) fn join(self) {
        if self.done.recv_timeout(LOG_LAST_WRITE) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the last lines of the access log could not be written in time");
        }
    }
}
