//! The log of requests: one line each, written by a thread of its own.
//!
//! Workers collect lines and hand them over in batches. When the disk cannot keep up, requests do not
//! wait: lines are lost and counted.

use std::cell::{Cell, RefCell};
use std::time::SystemTime;

use loadx_core::config::LogFormat;
use tokio::sync::Notify;

use super::log_line::{write_human, write_json};
use super::log_writer::{LogSender, Sent};
use super::record::Record;
use super::wall_clock::WallClock;
use crate::limits::{LOG_BATCH_BYTES, LOG_FLUSH_INTERVAL};

/// One worker's end of the log.
#[derive(Debug)]
pub(crate) struct AccessLog {
    sender: Option<LogSender>,
    batch: RefCell<Vec<u8>>,
    begun: Notify,
    clock: RefCell<WallClock>,
    last_batch_lost: Cell<bool>,
}

impl AccessLog {
    pub(crate) fn new(sender: Option<LogSender>) -> Self {
        AccessLog {
            sender,
            batch: RefCell::default(),
            begun: Notify::new(),
            clock: RefCell::default(),
            last_batch_lost: Cell::new(false),
        }
    }

    /// Adds a line.
    pub(crate) fn write(&self, record: &Record<'_>) {
        let Some(sender) = &self.sender else { return };
        let mut batch = self.batch.borrow_mut();
        if batch.is_empty() {
            self.begun.notify_one();
        }
        let mut clock = self.clock.borrow_mut();
        let time = clock.stamp(record.ended, SystemTime::now);
        match sender.format {
            LogFormat::Human => write_human(&mut batch, &time, record, &sender.fields),
            LogFormat::Json => write_json(&mut batch, &time, record, &sender.fields),
        }
        let full = batch.len() >= LOG_BATCH_BYTES;
        drop(batch);
        if full {
            self.flush();
        }
    }

    /// Hands over what was collected; when there is no room for it, it is lost.
    pub(crate) fn flush(&self) {
        let Some(sender) = &self.sender else { return };
        if self.batch.borrow().is_empty() {
            return;
        }
        let batch = self.batch.replace(sender.empty_batch());
        let lost = sender.send(batch) == Sent::Lost;
        if lost && !self.last_batch_lost.get() {
            tracing::warn!("the access log cannot keep up, lines are lost; /__status__ counts them");
        }
        self.last_batch_lost.set(lost);
    }

    /// Hands batches over soon after they have begun, for as long as the worker lives.
    pub(crate) async fn flush_regularly(&self) {
        loop {
            self.begun.notified().await;
            tokio::time::sleep(LOG_FLUSH_INTERVAL).await;
            self.flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::super::testing::{at, refused};
    use super::*;

    #[test]
    fn when_nobody_writes_lines_are_counted_and_nobody_waits() {
        let (sender, _receiver) = sync_channel(1);
        let sender = LogSender::for_test(LogFormat::Human, sender);
        let log = AccessLog::new(Some(sender.clone()));
        for _ in 0..3 {
            log.write(&refused(at(1), 0, 400));
            log.write(&refused(at(1), 0, 400));
            log.flush();
        }
        assert_eq!(sender.lost(), 4);
    }
}
