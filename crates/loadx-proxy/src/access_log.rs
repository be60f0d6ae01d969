//! The log of requests: one line each, written by a thread of its own.
//!
//! Workers collect lines and hand them over in batches. When the disk cannot keep up, requests do not
//! wait: lines are lost and counted.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use loadx_core::config::{AccessLogConfig, LogFormat};
use tokio::sync::Notify;

use crate::limits::{LOG_BATCH_BYTES, LOG_BATCHES_MAX, LOG_FLUSH_INTERVAL, LOG_LAST_WRITE, LOG_SPARE_BATCHES_MAX};
use crate::request_id::{RequestId, Spelled};
use loadx_http::put_ip;

/// What there is to say about one exchange.
#[derive(Debug)]
pub(crate) struct Line<'l> {
    pub(crate) at: SystemTime,
    pub(crate) client: IpAddr,
    pub(crate) method: &'l [u8],
    pub(crate) target: &'l [u8],
    pub(crate) status: u16,
    /// Content sent to the client, in bytes.
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
    /// The route that the request matched.
    pub(crate) route: Option<&'l str>,
    pub(crate) cluster: Option<&'l str>,
    pub(crate) backend: Option<&'l str>,
    pub(crate) tries: usize,
    pub(crate) id: &'l RequestId,
    /// What went wrong, in a few words.
    pub(crate) error: Option<&'l str>,
}

/// Lines that were lost, over all workers.
#[derive(Debug, Default)]
pub(crate) struct Lost(AtomicU64);

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
    format: LogFormat,
    sender: SyncSender<Vec<u8>>,
    /// What has been written, to be filled again: memory that one thread takes and another gives back wanders.
    spare: Arc<Mutex<Vec<Vec<u8>>>>,
    lost: Arc<Lost>,
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

fn lines_in(batch: &[u8]) -> u64 {
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

/// One worker's end of the log.
#[derive(Debug)]
pub(crate) struct AccessLog {
    batches: Option<Batches>,
    batch: RefCell<Vec<u8>>,
    begun: Notify,
    second: RefCell<SecondText>,
    last_flush_full: Cell<bool>,
}

/// The time of day, spelled out once a second.
#[derive(Debug, Default)]
struct SecondText {
    second: u64,
    text: String,
}

impl AccessLog {
    pub(crate) fn new(batches: Option<Batches>) -> Self {
        AccessLog {
            batches,
            batch: RefCell::default(),
            begun: Notify::new(),
            second: RefCell::default(),
            last_flush_full: Cell::new(false),
        }
    }

    /// Whether lines go anywhere.
    pub(crate) fn is_on(&self) -> bool {
        self.batches.is_some()
    }

    /// Adds a line.
    pub(crate) fn write(&self, line: &Line<'_>) {
        let Some(batches) = &self.batches else { return };
        let mut batch = self.batch.borrow_mut();
        if batch.is_empty() {
            self.begun.notify_one();
        }
        let mut second = self.second.borrow_mut();
        let since_epoch = line.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        second.update(since_epoch.as_secs());
        let time = Stamp { second: &second.text, millis: since_epoch.subsec_millis() };
        match batches.format {
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
        let Some(batches) = &self.batches else { return };
        if self.batch.borrow().is_empty() {
            return;
        }
        let spare = batches.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let next = spare.unwrap_or_else(|| Vec::with_capacity(LOG_BATCH_BYTES + 1_024));
        let batch = self.batch.replace(next);
        if let Err(error) = batches.sender.try_send(batch) {
            let (TrySendError::Full(batch) | TrySendError::Disconnected(batch)) = error;
            batches.lost.0.fetch_add(lines_in(&batch), Ordering::Relaxed);
            if !self.last_flush_full.replace(true) {
                tracing::warn!("the access log cannot keep up, lines are lost; /__status__ counts them");
            }
        } else {
            self.last_flush_full.set(false);
        }
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

impl SecondText {
    fn update(&mut self, second: u64) {
        if self.second != second || self.text.is_empty() {
            self.second = second;
            let time = jiff::Timestamp::from_second(i64::try_from(second).unwrap_or(0)).unwrap_or_default();
            let spelled = time.to_string();
            self.text.clear();
            self.text.push_str(spelled.trim_end_matches('Z'));
        }
    }
}

struct Stamp<'s> {
    second: &'s str,
    millis: u32,
}

impl Stamp<'_> {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.second.as_bytes());
        put_thousandths(out, self.millis);
        out.push(b'Z');
    }
}

// A line is put together by hand: the formatter of the standard library took two thirds of its time.

fn write_human(out: &mut Vec<u8>, time: &Stamp<'_>, line: &Line<'_>) {
    time.put(out);
    out.push(b' ');
    put_ip(out, line.client);
    out.extend_from_slice(b" \"");
    put_escaped(out, line.method, put_hex_escape);
    out.push(b' ');
    put_escaped(out, line.target, put_hex_escape);
    out.extend_from_slice(b"\" ");
    put_number(out, line.status.into());
    out.push(b' ');
    put_number(out, line.bytes);
    out.extend_from_slice(b"B ");
    put_milliseconds(out, line.took);
    out.extend_from_slice(b"ms ");
    out.extend_from_slice(line.backend.unwrap_or("-").as_bytes());
    // The only route of a short config says nothing.
    if let Some(route) = line.route.filter(|route| *route != "default") {
        out.extend_from_slice(b" route=");
        put_escaped(out, route.as_bytes(), put_hex_escape);
    }
    out.extend_from_slice(b" tries=");
    put_number(out, line.tries as u64);
    out.extend_from_slice(b" id=");
    out.extend_from_slice(line.id.spelled(&mut Spelled::default()));
    if let Some(error) = line.error {
        out.extend_from_slice(b" error=\"");
        put_escaped(out, error.as_bytes(), put_hex_escape);
        out.push(b'"');
    }
    out.push(b'\n');
}

fn write_json(out: &mut Vec<u8>, time: &Stamp<'_>, line: &Line<'_>) {
    out.extend_from_slice(b"{\"time\":\"");
    time.put(out);
    out.extend_from_slice(b"\",\"client\":\"");
    put_ip(out, line.client);
    out.extend_from_slice(b"\",\"method\":\"");
    put_escaped(out, line.method, put_unicode_escape);
    out.extend_from_slice(b"\",\"target\":\"");
    put_escaped(out, line.target, put_unicode_escape);
    out.extend_from_slice(b"\",\"status\":");
    put_number(out, line.status.into());
    out.extend_from_slice(b",\"bytes\":");
    put_number(out, line.bytes);
    out.extend_from_slice(b",\"duration_ms\":");
    put_milliseconds(out, line.took);
    put_name(out, b",\"route\":", line.route);
    put_name(out, b",\"cluster\":", line.cluster);
    put_name(out, b",\"backend\":", line.backend);
    out.extend_from_slice(b",\"tries\":");
    put_number(out, line.tries as u64);
    out.extend_from_slice(b",\"id\":\"");
    out.extend_from_slice(line.id.spelled(&mut Spelled::default()));
    out.push(b'"');
    if let Some(error) = line.error {
        out.extend_from_slice(b",\"error\":\"");
        put_escaped(out, error.as_bytes(), put_unicode_escape);
        out.push(b'"');
    }
    out.extend_from_slice(b"}\n");
}

/// A name of the config, or null.
fn put_name(out: &mut Vec<u8>, key: &[u8], name: Option<&str>) {
    out.extend_from_slice(key);
    match name {
        None => out.extend_from_slice(b"null"),
        Some(name) => {
            out.push(b'"');
            put_escaped(out, name.as_bytes(), put_unicode_escape);
            out.push(b'"');
        }
    }
}

/// What a client sent must not forge lines or steer terminals: the quote, the backslash, and everything but
/// visible ASCII is escaped, the last by `escape`.
fn put_escaped(out: &mut Vec<u8>, bytes: &[u8], escape: fn(&mut Vec<u8>, u8)) {
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if bytes.iter().all(is_plain) {
        return out.extend_from_slice(bytes);
    }
    for byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b' '..=b'~' => out.push(*byte),
            _ => escape(out, *byte),
        }
    }
}

fn put_hex_escape(out: &mut Vec<u8>, byte: u8) {
    write!(out, "\\x{byte:02x}").expect(TAKES_ALL);
}

/// As the inside of a JSON string has it; bytes that are not ASCII stand as the characters of Latin-1.
fn put_unicode_escape(out: &mut Vec<u8>, byte: u8) {
    write!(out, "\\u{byte:04x}").expect(TAKES_ALL);
}

fn put_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// A span in milliseconds, with three decimals.
fn put_milliseconds(out: &mut Vec<u8>, span: Duration) {
    let microseconds = u64::try_from((span.as_nanos() + 500) / 1_000).unwrap_or(u64::MAX);
    put_number(out, microseconds / 1_000);
    put_thousandths(out, (microseconds % 1_000) as u32);
}

fn put_thousandths(out: &mut Vec<u8>, thousandths: u32) {
    let digit = |value: u32| b'0' + (value % 10) as u8;
    out.extend_from_slice(&[b'.', digit(thousandths / 100), digit(thousandths / 10), digit(thousandths)]);
}

const TAKES_ALL: &str = "a Vec takes what is written to it";

#[cfg(test)]
mod tests {
    use super::*;

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
        let log = AccessLog::new(Some(Batches { format, sender, spare: Arc::default(), lost: Arc::default() }));
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
        let lost = Arc::<Lost>::default();
        let spare = Arc::default();
        let log = AccessLog::new(Some(Batches { format: LogFormat::Human, sender, spare, lost: Arc::clone(&lost) }));
        for _ in 0..3 {
            log.write(&line(&ID));
            log.write(&line(&ID));
            log.flush();
        }
        assert_eq!(lost.count(), 4);
    }
}
