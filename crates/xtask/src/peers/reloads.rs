//! What reloads do to clients: a program reloads its config again and again while clients send requests, keep idle
//! connections, and read long responses.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::PeersArguments;
use super::case::{self, Case};
use super::contender::Contender;
use super::lab::{LOAD_PROCESSOR, Lab, Stage, work};
use super::load::{Load, Manner, Work};
use super::origin::CONTENT_BYTES_MAX;
use super::sections::PEERS;
use crate::Trouble;

/// The number of reloads.
const RELOADS: u32 = 20;

/// The time between two reloads.
const PAUSE: Duration = Duration::from_millis(250);

/// The time after the last reload, in which old processes may end.
const REST: Duration = Duration::from_secs(2);

/// The requests per second, over all connections of the load.
const RATE: f64 = 2_000.0;

/// The connections that have sent one request and are idle during the reloads.
const IDLE: usize = 50;

/// The responses that clients read slowly during the reloads.
const DOWNLOADS: usize = 4;

/// The bytes of a download that a client reads between two reloads; the response is longer than all of them.
const PIECE_BYTES: usize = 64 * 1024;

/// What the clients of a contender met.
struct Outcome {
    done: u64,
    /// Requests without a complete response, and requests whose idle connection was closed under them.
    failed: u64,
    p50_us: u64,
    p999_us: u64,
    max_us: u64,
    idle_closed: usize,
    downloads_cut: usize,
    processes: usize,
    memory_bytes: u64,
}

/// Measures what reloads that change the backends between two and three do.
pub(super) fn reloads(lab: &Lab, _: &PeersArguments) -> Result<String, Trouble> {
    let mut table = format!(
        "| {RELOADS} reloads, {RATE:.0} requests/s | failed requests | p50 µs | p99.9 µs | longest ms | idle connections closed, of {IDLE} | downloads cut, of {DOWNLOADS} | processes at the end | memory at the end, MiB |\n|---|---|---|---|---|---|---|---|---|\n"
    );
    for contender in lab.contenders(&PEERS) {
        for count in [0, RELOADS] {
            let outcome = measure(lab, &contender, count)?;
            let name = if count == 0 { format!("{}, no reload", contender.name()) } else { contender.name() };
            let _ = writeln!(
                table,
                "| {name} | {} of {} | {} | {} | {:.1} | {} | {} | {} | {:.1} |",
                outcome.failed,
                outcome.done + outcome.failed,
                outcome.p50_us,
                outcome.p999_us,
                outcome.max_us as f64 / 1_000.0,
                outcome.idle_closed,
                outcome.downloads_cut,
                outcome.processes,
                outcome.memory_bytes as f64 / 1_048_576.0,
            );
        }
    }
    Ok(table)
}

fn measure(lab: &Lab, contender: &Contender, count: u32) -> Result<Outcome, Trouble> {
    let stage = Stage::USUAL;
    let running = lab.start_reloadable(contender, &stage)?;
    let small = Case { connections: 64, ..case::small() };
    let load = Load::start(Work { manner: Manner::Rate(RATE), ..work(&small, running.address)? }, LOAD_PROCESSOR)?;
    let idle = (0..IDLE).map(|_| idle_connection(running.address)).collect::<io::Result<Vec<_>>>()?;
    let mut downloads = (0..DOWNLOADS).map(|_| Download::begin(running.address)).collect::<io::Result<Vec<_>>>()?;
    std::thread::sleep(PAUSE);
    load.record();
    for reload in 0..RELOADS {
        if reload < count {
            lab.configure(contender, &running, &stage, if reload % 2 == 0 { 2 } else { 3 })?;
            running.process.signal(contender.reload_signal())?;
        }
        std::thread::sleep(PAUSE);
        downloads.iter_mut().for_each(Download::advance);
    }
    std::thread::sleep(REST);
    downloads.iter_mut().for_each(Download::advance);
    let counted = load.counted();
    let (processes, memory_bytes) = (running.process.count(), running.process.resident());
    let times = load.stop()?;
    Ok(Outcome {
        done: counted.done(),
        failed: counted.errors(),
        p50_us: times.value_at_quantile(0.5),
        p999_us: times.value_at_quantile(0.999),
        max_us: times.max(),
        idle_closed: idle.iter().filter(|stream| is_closed(stream)).count(),
        downloads_cut: downloads.iter().filter(|download| download.is_cut).count(),
        processes,
        memory_bytes,
    })
}

/// A connection that has sent one request and read the response.
fn idle_connection(address: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
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
    Ok(stream)
}

fn is_closed(stream: &TcpStream) -> bool {
    let mut byte = [0];
    let peeked = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut byte));
    !matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock)
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
