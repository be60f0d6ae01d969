//! What changes of a running program do to clients: reloads, changes of backends, and upgrades of the binary, while clients
//! send requests, open connections, upload, read long responses, and keep idle connections and WebSockets open.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::PeersArguments;
use super::case::{self, Case, Upload};
use super::contender::Contender;
use super::lab::{LOAD_PROCESSOR, Lab, Reloadable, Stage, work};
use super::load::{Load, Manner, Work};
use super::origin::CONTENT_BYTES_MAX;
use crate::Trouble;

/// The time between two steps; each step has a reload, ten changes, or nothing.
const PAUSE: Duration = Duration::from_millis(250);

/// The number of steps.
const STEPS: u32 = 100;

/// The steps between two upgrades.
const UPGRADE_EACH: u32 = 10;

/// The changes of backends in a step.
const CHANGES_EACH: u32 = 10;

/// The time after the last step, in which old processes may end.
const REST: Duration = Duration::from_secs(2);

/// The requests per second on connections that stay open, and on new connections.
const RATE: f64 = 1_000.0;
const CHURN_RATE: f64 = 100.0;

/// The uploads of 1 MiB per second.
const UPLOAD_RATE: f64 = 4.0;

/// The connections that have sent one request and are idle.
const IDLE: usize = 50;

/// The WebSockets, each of which carries a message in every step.
const SOCKETS: usize = 20;

/// The responses that clients read slowly.
const DOWNLOADS: usize = 4;

/// The bytes of a download that a client reads in a step: the response of 128 MiB is longer than all of them.
const PIECE_BYTES: usize = 1024 * 1024;

/// What happens in the steps.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Change {
    Nothing,
    Reloads,
    Backends,
    Upgrades,
}

impl Change {
    fn about(self) -> String {
        match self {
            Change::Nothing => "no change".to_owned(),
            Change::Reloads => format!("{STEPS} reloads"),
            Change::Backends => format!("{} changes of backends", STEPS * CHANGES_EACH),
            Change::Upgrades => format!("{} upgrades of the binary", STEPS / UPGRADE_EACH),
        }
    }
}

/// What the clients of a contender met.
struct Outcome {
    done: u64,
    /// Requests without a complete response, and requests whose idle connection was closed under them.
    failed: u64,
    /// The same, on new connections and for uploads.
    others_failed: u64,
    others_done: u64,
    p999_us: u64,
    /// The longest time between two responses on a connection that sends the next request at once.
    pause: Duration,
    idle_closed: usize,
    sockets_closed: usize,
    downloads_cut: usize,
    memory_bytes: u64,
}

/// Measures what changes do.
pub(super) fn reloads(lab: &Lab, _: &PeersArguments) -> Result<String, Trouble> {
    let mut table = format!(
        "| {RATE:.0} requests/s, {CHURN_RATE:.0} new connections/s, {UPLOAD_RATE:.0} uploads/s, for {:.0} s | failed requests | failed uploads and new connections | WebSockets closed, of {SOCKETS} | downloads cut, of {DOWNLOADS} | idle connections closed, of {IDLE} | longest pause of a connection, ms | p99.9 ms | memory at the end, MiB |\n|---|---|---|---|---|---|---|---|---|\n",
        (PAUSE * STEPS + REST).as_secs_f64()
    );
    for contender in lab.contenders(&[Contender::Nginx, Contender::Haproxy(16), Contender::Caddy]) {
        let mut changes = vec![Change::Nothing, Change::Reloads];
        if matches!(contender, Contender::LoadX(..)) {
            changes.extend([Change::Backends, Change::Upgrades]);
        }
        for change in changes {
            let outcome = match measure(lab, &contender, change) {
                Ok(outcome) => outcome,
                // The other rows are of use without this one.
                Err(error) => {
                    eprintln!("{}, {}: {error}", contender.name(), change.about());
                    continue;
                }
            };
            let _ = writeln!(
                table,
                "| {}, {} | {} of {} | {} of {} | {} | {} | {} | {:.1} | {:.1} | {:.1} |",
                contender.name(),
                change.about(),
                outcome.failed,
                outcome.done + outcome.failed,
                outcome.others_failed,
                outcome.others_done + outcome.others_failed,
                outcome.sockets_closed,
                outcome.downloads_cut,
                outcome.idle_closed,
                outcome.pause.as_secs_f64() * 1_000.0,
                outcome.p999_us as f64 / 1_000.0,
                outcome.memory_bytes as f64 / 1_048_576.0,
            );
        }
    }
    Ok(table)
}

fn measure(lab: &Lab, contender: &Contender, change: Change) -> Result<Outcome, Trouble> {
    let stage = Stage::USUAL;
    let reloadable = lab.start_reloadable(contender, &stage)?;
    let address = reloadable.running.address;
    let start = |case: &Case, connections: usize, manner: Manner| -> Result<Load, Trouble> {
        let case = Case { connections, manner, ..case.clone() };
        Ok(Load::start(Work { manner, ..work(&case, address)? }, LOAD_PROCESSOR)?)
    };
    let upload = Case { upload: Upload::Length(1024 * 1024), ..case::small() };
    let load = start(&case::small(), 64, Manner::Rate(RATE))?;
    let others =
        [start(&case::small(), 8, Manner::ChurnRate(CHURN_RATE))?, start(&upload, 4, Manner::Rate(UPLOAD_RATE))?];
    let idle = (0..IDLE).map(|_| idle_connection(address)).collect::<io::Result<Vec<_>>>()?;
    let mut downloads = (0..DOWNLOADS).map(|_| Download::begin(address)).collect::<io::Result<Vec<_>>>()?;
    let mut sockets = (0..SOCKETS).map(|_| WebSocket::open(address)).collect::<io::Result<Vec<_>>>()?;
    std::thread::sleep(PAUSE);
    load.record();
    let fast = Fast::start(address)?;
    let mut successors = Successors::default();
    for step in 0..STEPS {
        apply(lab, contender, (&reloadable, &stage), change, step, &mut successors)?;
        std::thread::sleep(PAUSE);
        downloads.iter_mut().for_each(Download::advance);
        sockets.iter_mut().for_each(WebSocket::advance);
    }
    std::thread::sleep(REST);
    sockets.iter_mut().for_each(WebSocket::advance);
    downloads.iter_mut().for_each(Download::advance);
    let pause = fast.stop();
    let counted = load.counted();
    let others_counted: Vec<_> = others.iter().map(Load::counted).collect();
    let memory_bytes = reloadable.running.process.resident_with(&successors.0);
    let times = load.stop()?;
    for other in others {
        other.stop()?;
    }
    Ok(Outcome {
        done: counted.done(),
        failed: counted.errors(),
        others_done: others_counted.iter().map(|counted| counted.done()).sum(),
        others_failed: others_counted.iter().map(|counted| counted.errors()).sum(),
        p999_us: times.value_at_quantile(0.999),
        pause,
        idle_closed: idle.iter().filter(|stream| is_closed(stream)).count(),
        sockets_closed: sockets.iter().filter(|socket| socket.is_closed).count(),
        downloads_cut: downloads.iter().filter(|download| download.is_cut).count(),
        memory_bytes,
    })
}

fn apply(
    lab: &Lab,
    contender: &Contender,
    (reloadable, stage): (&Reloadable, &Stage),
    change: Change,
    step: u32,
    successors: &mut Successors,
) -> Result<(), Trouble> {
    match change {
        Change::Nothing => {}
        Change::Reloads => lab.reload(contender, reloadable, stage, step + 1)?,
        Change::Backends => {
            let first = lab.first_backend();
            for number in 0..CHANGES_EACH {
                let weight = (1 + (step + number) % 9).to_string();
                match number % 5 {
                    0 => lab.ctl(&["drain", &first])?,
                    1 => lab.ctl(&["ready", &first])?,
                    2 => lab.ctl(&["add", "127.9.9.9:1", "--weight", "1"])?,
                    3 => lab.ctl(&["remove", "127.9.9.9:1"])?,
                    _ => lab.ctl(&["weight", &first, &weight])?,
                };
            }
        }
        Change::Upgrades if step.is_multiple_of(UPGRADE_EACH) => {
            let told = lab.ctl(&["upgrade"])?;
            let pid = told.split([' ', ',']).nth(1).and_then(|pid| pid.parse().ok());
            successors.0.push(pid.ok_or("loadx ctl upgrade names no process")?);
        }
        Change::Upgrades => {}
    }
    Ok(())
}

/// The processes that took over. Dropping ends them.
#[derive(Default)]
struct Successors(Vec<u32>);

impl Drop for Successors {
    fn drop(&mut self) {
        for pid in self.0.iter().filter_map(|pid| rustix::process::Pid::from_raw(*pid as i32)) {
            // It may have ended already.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

/// A client that sends the next request a millisecond after each response, and measures the longest time between two
/// responses.
pub(super) struct Fast {
    stop: Arc<AtomicBool>,
    longest_us: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Fast {
    pub(super) fn start(address: SocketAddr) -> io::Result<Fast> {
        let (stop, longest_us) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stopped, longest) = (Arc::clone(&stop), Arc::clone(&longest_us));
        let mut stream = idle_connection(address)?;
        let thread = std::thread::spawn(move || {
            let mut last = Instant::now();
            while !stopped.load(Ordering::Relaxed) {
                // A connection that ended is counted among the failed requests of the load; here only the time counts.
                if request(&mut stream).is_err() {
                    match idle_connection(address) {
                        Ok(next) => stream = next,
                        Err(_) => continue,
                    }
                }
                longest.fetch_max(last.elapsed().as_micros() as u64, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
                last = Instant::now();
            }
        });
        Ok(Fast { stop, longest_us, thread })
    }

    pub(super) fn stop(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        // The thread panics only if this program has a defect, which its message tells.
        let _ = self.thread.join();
        Duration::from_micros(self.longest_us.load(Ordering::Relaxed))
    }
}

/// A connection that has sent one request and read the response.
fn idle_connection(address: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    request(&mut stream)?;
    Ok(stream)
}

fn request(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: app.example.com\r\n\r\n")?;
    let mut response = Vec::new();
    let mut buffer = [0; 1_024];
    while !response.ends_with(b"Hello, World!") {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        response.extend_from_slice(&buffer[..count]);
    }
    Ok(())
}

fn is_closed(stream: &TcpStream) -> bool {
    let mut byte = [0];
    let peeked = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut byte));
    !matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock)
}

/// A WebSocket whose server sends every message back.
struct WebSocket {
    stream: TcpStream,
    is_closed: bool,
}

impl WebSocket {
    fn open(address: SocketAddr) -> io::Result<WebSocket> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(
            b"GET /socket HTTP/1.1\r\nHost: app.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )?;
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        match head.starts_with(b"HTTP/1.1 101") {
            true => Ok(WebSocket { stream, is_closed: false }),
            false => Err(io::Error::other(String::from_utf8_lossy(&head).into_owned())),
        }
    }

    fn advance(&mut self) {
        let mut message = *b"message";
        let echoed = self.stream.write_all(&message).and_then(|()| self.stream.read_exact(&mut message));
        self.is_closed |= echoed.is_err();
    }
}

/// A response that a client reads slowly.
struct Download {
    stream: TcpStream,
    is_cut: bool,
}

impl Download {
    fn begin(address: SocketAddr) -> io::Result<Download> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let request = format!("GET /bytes/{CONTENT_BYTES_MAX} HTTP/1.1\r\nHost: app.example.com\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        Ok(Download { stream, is_cut: false })
    }

    fn advance(&mut self) {
        let mut piece = vec![0; PIECE_BYTES];
        self.is_cut |= self.stream.read_exact(&mut piece).is_err();
    }
}
