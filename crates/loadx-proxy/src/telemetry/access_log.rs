//! The access log: one line per request.
//!
//! Workers collect lines and send them to the writing thread in batches. When the disk is too slow, requests do not
//! wait: lines are lost and counted.

use std::cell::{Cell, RefCell};
use std::time::SystemTime;

use loadx_core::config::LogFilter;
use tokio::sync::Notify;

use super::log_line::{write_human, write_json};
use super::log_template::{LineFormat, write_template};
use super::log_writer::{LogSender, Sent};
use super::record::Record;
use super::wall_clock::WallClock;
use crate::limits::{LOG_BATCH_BYTES, LOG_FLUSH_INTERVAL};

/// The access log of one worker.
#[derive(Debug)]
pub(crate) struct AccessLog {
    sender: RefCell<Option<LogSender>>,
    batch: RefCell<Vec<u8>>,
    begun: Notify,
    clock: RefCell<WallClock>,
    last_batch_lost: Cell<bool>,
}

impl AccessLog {
    pub(crate) fn new(sender: Option<LogSender>) -> Self {
        AccessLog {
            sender: RefCell::new(sender),
            batch: RefCell::default(),
            begun: Notify::new(),
            clock: RefCell::default(),
            last_batch_lost: Cell::new(false),
        }
    }

    /// Adds the line of a record. Sends the batch when it reaches [`LOG_BATCH_BYTES`].
    #[inline]
    pub(crate) fn write(&self, record: &Record<'_>) {
        if self.sender.borrow().is_some() {
            self.write_line(record);
        }
    }

    fn write_line(&self, record: &Record<'_>) {
        let sender = self.sender.borrow();
        let Some(sender) = &*sender else { return };
        if sender.filter.as_ref().is_some_and(|filter| !shows(filter, record)) {
            return;
        }
        let mut batch = self.batch.borrow_mut();
        if batch.is_empty() {
            self.begun.notify_one();
        }
        let mut clock = self.clock.borrow_mut();
        let time = clock.stamp(record.ended, SystemTime::now);
        match &*sender.format {
            LineFormat::Human => write_human(&mut batch, &time, record, &sender.fields),
            LineFormat::Json => write_json(&mut batch, &time, record, &sender.fields),
            LineFormat::Template(template) => write_template(&mut batch, &time, record, template),
        }
        let full = batch.len() >= LOG_BATCH_BYTES;
        drop(batch);
        if full {
            self.flush();
        }
    }

    /// Sends the batch to the writing thread. The batch is lost if the queue is full.
    pub(crate) fn flush(&self) {
        let sender = self.sender.borrow();
        let Some(sender) = &*sender else { return };
        if self.batch.borrow().is_empty() {
            return;
        }
        let batch = self.batch.replace(sender.empty_batch());
        let lost = sender.send(batch) == Sent::Lost;
        if lost && !self.last_batch_lost.get() {
            tracing::warn!("the access log is too slow, lines are lost; /__status__ counts the lost lines");
        }
        self.last_batch_lost.set(lost);
    }

    /// Sends later lines to another writing thread; `None` ends the log.
    pub(crate) fn redirect(&self, sender: Option<LogSender>) {
        self.flush();
        self.sender.replace(sender);
    }

    /// Sends each batch [`LOG_FLUSH_INTERVAL`] after its first line. Never returns.
    pub(crate) async fn flush_regularly(&self) {
        loop {
            self.begun.notified().await;
            tokio::time::sleep(LOG_FLUSH_INTERVAL).await;
            self.flush();
        }
    }
}

/// Whether a filter lets the record into the log.
fn shows(filter: &LogFilter, record: &Record<'_>) -> bool {
    let has_status = filter.statuses.iter().any(|(first, last)| (*first..=*last).contains(&record.status));
    has_status
        || filter.slower_than.is_some_and(|least| record.took() >= least)
        || filter.one_in.is_some_and(|count| record.request.id().bits().is_multiple_of(count))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;
    use std::time::Duration;

    use super::super::testing::{at, refused};
    use super::*;

    #[test]
    fn with_a_full_queue_lines_are_lost_and_counted() {
        let (sender, _receiver) = sync_channel(1);
        let sender = LogSender::for_test(None, sender);
        let log = AccessLog::new(Some(sender.clone()));
        for _ in 0..3 {
            log.write(&refused(at(1), 0, 400));
            log.write(&refused(at(1), 0, 400));
            log.flush();
        }
        assert_eq!(sender.lost(), 4);
    }

    #[test]
    fn a_filter_lets_in_what_any_of_its_conditions_wants() {
        let filter = LogFilter {
            statuses: vec![(404, 404), (500, 599)],
            slower_than: Some(Duration::from_millis(100)),
            one_in: None,
        };
        for (took_ms, status, expected) in
            [(1, 200, false), (1, 404, true), (1, 403, false), (1, 503, true), (99, 200, false), (100, 200, true)]
        {
            assert_eq!(shows(&filter, &refused(at(9), took_ms, status)), expected, "{took_ms} ms, {status}");
        }
        // The id of these records is 0xab.
        for (count, expected) in [(1, true), (2, false), (3, true), (0xab, true), (0xac, false)] {
            let filter = LogFilter { one_in: Some(count), ..LogFilter::default() };
            assert_eq!(shows(&filter, &refused(at(9), 1, 200)), expected, "one in {count}");
        }
    }
}
