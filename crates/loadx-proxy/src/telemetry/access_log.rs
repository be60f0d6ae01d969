//! The log of requests: one line each, written by a thread of its own.
//!
//! Workers collect lines and hand them over in batches. When the disk cannot keep up, requests do not
//! wait: lines are lost and counted.

use std::cell::{Cell, RefCell};
use std::time::SystemTime;

use loadx_core::config::LogFormat;
use tokio::sync::Notify;

use super::log_line::{Line, SecondText, Stamp, write_human, write_json};
use super::log_writer::{LogSender, Sent};
use crate::limits::{LOG_BATCH_BYTES, LOG_FLUSH_INTERVAL};

/// One worker's end of the log.
#[derive(Debug)]
pub(crate) struct AccessLog {
    sender: Option<LogSender>,
    batch: RefCell<Vec<u8>>,
    begun: Notify,
    second: RefCell<SecondText>,
    last_batch_lost: Cell<bool>,
}

impl AccessLog {
    pub(crate) fn new(sender: Option<LogSender>) -> Self {
        AccessLog {
            sender,
            batch: RefCell::default(),
            begun: Notify::new(),
            second: RefCell::default(),
            last_batch_lost: Cell::new(false),
        }
    }

    /// Whether lines go anywhere.
    pub(crate) fn is_on(&self) -> bool {
        self.sender.is_some()
    }

    /// Adds a line.
    pub(crate) fn write(&self, line: &Line<'_>) {
        let Some(sender) = &self.sender else { return };
        let mut batch = self.batch.borrow_mut();
        if batch.is_empty() {
            self.begun.notify_one();
        }
        let mut second = self.second.borrow_mut();
        let since_epoch = line.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        second.update(since_epoch.as_secs());
        let time = Stamp { second: &second.text, millis: since_epoch.subsec_millis() };
        match sender.format {
            LogFormat::Human => write_human(&mut batch, &time, line),
            LogFormat::Json => write_json(&mut batch, &time, line),
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
    use std::time::Duration;

    use super::*;
    use crate::request_id::RequestId;

    const ID: RequestId = RequestId::made(0xab);

    fn line(id: &RequestId) -> Line<'_> {
        Line {
            at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_042),
            client: [192, 0, 2, 1].into(),
            method: b"GET",
            target: b"/a\"b\n\xe9",
            status: 200,
            bytes: 13,
            took: Duration::from_micros(1_234),
            route: Some("default"),
            cluster: Some("default"),
            backend: Some("backend-1"),
            tries: 1,
            id,
            error: None,
        }
    }

    fn written(format: LogFormat, line: &Line<'_>) -> String {
        let (sender, receiver) = sync_channel(1);
        let log = AccessLog::new(Some(LogSender::for_test(format, sender)));
        log.write(line);
        log.flush();
        String::from_utf8(receiver.recv().unwrap()).unwrap()
    }

    #[test]
    fn a_line_for_eyes() {
        assert_eq!(
            written(LogFormat::Human, &line(&ID)),
            "2023-11-14T22:13:20.042Z 192.0.2.1 \"GET /a\\\"b\\x0a\\xe9\" 200 13B 1.234ms backend-1 tries=1 id=00000000000000ab\n"
        );
    }

    #[test]
    fn a_line_of_json_is_json() {
        let text = written(LogFormat::Json, &Line { error: Some("gone"), backend: None, ..line(&ID) });
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["target"], "/a\"b\n\u{e9}");
        assert_eq!(json["duration_ms"], 1.234);
        assert_eq!(json["backend"], serde_json::Value::Null);
        assert_eq!(json["error"], "gone");
    }

    #[test]
    fn when_nobody_writes_lines_are_counted_and_nobody_waits() {
        let (sender, _receiver) = sync_channel(1);
        let sender = LogSender::for_test(LogFormat::Human, sender);
        let log = AccessLog::new(Some(sender.clone()));
        for _ in 0..3 {
            log.write(&line(&ID));
            log.write(&line(&ID));
            log.flush();
        }
        assert_eq!(sender.lost(), 4);
    }
}
