//! The thread that writes the access log.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use loadx_core::config::{AccessLogConfig, LogField, LogFilter};
use tokio::sync::oneshot;

use super::log_lines::{Unwritten, count};
use super::log_output::Output;
use super::log_template::LineFormat;
use crate::limits::{LOG_BATCH_BYTES, LOG_BATCHES_MAX, LOG_LAST_WRITE, LOG_SPARE_BATCHES_MAX};

/// The number of lost lines, over all workers.
#[derive(Debug, Default)]
pub(crate) struct LostLines(AtomicU64);

impl LostLines {
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self, lines: usize) {
        self.0.fetch_add(lines as u64, Ordering::Relaxed);
    }
}

/// The writing thread. Ends when all [`LogSender`]s are dropped.
#[derive(Debug)]
pub(crate) struct LogWriter {
    /// Disconnects when the thread ends.
    done: Receiver<()>,
}

/// Sends batches of lines to the writing thread.
#[derive(Clone, Debug)]
pub(crate) struct LogSender {
    pub(super) format: Arc<LineFormat>,
    pub(super) filter: Option<Arc<LogFilter>>,
    pub(super) fields: Arc<[LogField]>,
    sender: SyncSender<Message>,
    /// Written batches for reuse. Without reuse, one thread allocates memory that another thread frees.
    spare: Arc<Mutex<Vec<Vec<u8>>>>,
    lost: Arc<LostLines>,
}

/// A message to the writing thread.
#[derive(Debug)]
pub(super) enum Message {
    /// Lines to write.
    Batch(Vec<u8>),
    /// Reopens the file, and sends the result.
    Reopen(oneshot::Sender<io::Result<()>>),
}

/// Whether the queue of the writing thread had room.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Taken,
    /// The queue is full or the thread has ended; the batch is lost.
    Lost,
}

impl LogSender {
    /// Sends a batch without waiting. Counts the lines of a lost batch.
    pub(super) fn send(&self, batch: Vec<u8>) -> Sent {
        match self.sender.try_send(Message::Batch(batch)) {
            Err(TrySendError::Full(Message::Batch(batch)) | TrySendError::Disconnected(Message::Batch(batch))) => {
                self.lost.add(count(&batch));
                Sent::Lost
            }
            Ok(()) | Err(_) => Sent::Taken,
        }
    }

    /// Reopens the file at its path. The channel returns the result, or closes if the queue of the writing thread is
    /// full.
    pub(crate) fn reopen(&self) -> oneshot::Receiver<io::Result<()>> {
        let (reply, done) = oneshot::channel();
        // Without room, `try_send` drops `reply`, which closes the channel.
        let _ = self.sender.try_send(Message::Reopen(reply));
        done
    }

    /// An empty batch, a reused one if possible.
    pub(super) fn empty_batch(&self) -> Vec<u8> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_else(|| Vec::with_capacity(LOG_BATCH_BYTES + 1_024))
    }
}

/// Opens the log and starts the writing thread.
///
/// # Errors
/// When the file cannot be opened, or the system cannot start the thread.
pub(crate) fn start(config: &AccessLogConfig, lost: &Arc<LostLines>) -> io::Result<(LogSender, LogWriter)> {
    let output = Output::open(config.file.as_deref())?;
    let (sender, receiver) = sync_channel(LOG_BATCHES_MAX);
    let counter = Arc::clone(lost);
    let spare = Arc::<Mutex<Vec<Vec<u8>>>>::default();
    let emptied = Arc::clone(&spare);
    let (working, done) = sync_channel(0);
    std::thread::Builder::new().name("loadx-log".to_owned()).spawn(move || {
        let _working = working;
        write_all(&receiver, output, &emptied, &counter);
    })?;
    Ok((
        LogSender {
            format: Arc::new(LineFormat::of(&config.format)),
            filter: config.filter.clone().map(Arc::new),
            fields: config.fields.as_slice().into(),
            sender,
            spare,
            lost: Arc::clone(lost),
        },
        LogWriter { done },
    ))
}

fn write_all(receiver: &Receiver<Message>, mut output: Output, emptied: &Mutex<Vec<Vec<u8>>>, lost: &LostLines) {
    let mut failing = false;
    for message in receiver {
        let mut batch = match message {
            Message::Batch(batch) => batch,
            Message::Reopen(reply) => {
                // Control may no longer wait for the result.
                let _ = reply.send(output.reopen());
                continue;
            }
        };
        match output.write(&batch) {
            Ok(()) => failing = false,
            Err(Unwritten { lines, error }) => {
                lost.add(lines);
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

impl LogWriter {
    pub(crate) fn is_writing(&self) -> bool {
        self.done.try_recv() == Err(TryRecvError::Empty)
    }

    /// Waits until all lines are written; false if they are not by `deadline`.
    fn ends_by(&self, deadline: Instant) -> bool {
        let rest = deadline.saturating_duration_since(Instant::now());
        self.done.recv_timeout(rest) != Err(RecvTimeoutError::Timeout)
    }
}

/// Waits until all lines of all writers are written, at most [`LOG_LAST_WRITE`] together: a blocked terminal or pipe
/// must not keep LoadX from ending.
pub(crate) fn join(writers: &[LogWriter]) {
    let deadline = Instant::now() + LOG_LAST_WRITE;
    if writers.iter().filter(|writer| !writer.ends_by(deadline)).count() > 0 {
        tracing::warn!("the last lines of the access log were not written in time and may be lost");
    }
}

#[cfg(test)]
impl LogSender {
    /// A sender to a queue of the test.
    pub(super) fn for_test(filter: Option<LogFilter>, sender: SyncSender<Message>) -> Self {
        let format = Arc::new(LineFormat::Human);
        LogSender {
            format,
            filter: filter.map(Arc::new),
            fields: [].into(),
            sender,
            spare: Arc::default(),
            lost: Arc::default(),
        }
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost.count()
    }
}
