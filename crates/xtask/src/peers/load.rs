//! The load: a client of one thread that keeps many connections busy at little cost, and checks every answer.

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::processes::wait;
use hdrhistogram::Histogram;
use loadx_http::{BodyDecoder, FieldSlots, Parsed, parse_response};
use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// What one read may take, in bytes.
const READ_BYTES: usize = 256 * 1024;

/// Connections that are opened at the same time when all of them are to be held.
const OPENING_MAX: usize = 32;

const TIMER: Token = Token(usize::MAX);

/// What the load does.
#[derive(Clone, Debug)]
pub(super) struct Work {
    pub(super) target: SocketAddr,
    pub(super) connections: usize,
    pub(super) head: Vec<u8>,
    pub(super) upload_bytes: u64,
    /// Content that every answer must have.
    pub(super) content_bytes: u64,
    pub(super) manner: Manner,
}

/// When a connection sends its next request.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(super) enum Manner {
    /// When its last one is answered.
    Closed,
    /// The same, on a new connection each time.
    Churn,
    /// When its turn comes: so many requests a second, over all connections. Response times count from the
    /// moment when a request was due.
    Rate(f64),
    /// Never: one request, and then silence.
    Hold,
}

/// What the load has done so far.
#[derive(Debug, Default)]
pub(super) struct Counters {
    done: AtomicU64,
    errors: AtomicU64,
    recording: AtomicBool,
    stop: AtomicBool,
}

impl Counters {
    /// Answers that were whole and right.
    pub(super) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Anything else that came of a request.
    pub(super) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }
}

/// A load that runs.
pub(super) struct Load {
    counters: Arc<Counters>,
    thread: JoinHandle<io::Result<Histogram<u64>>>,
}

impl Load {
    /// Starts one in a thread of its own, on one processor.
    pub(super) fn start(work: Work, processor: usize) -> io::Result<Load> {
        let counters = Arc::<Counters>::default();
        let shared = Arc::clone(&counters);
        let thread = std::thread::Builder::new().name("load".to_owned()).spawn(move || {
            super::processes::pin(processor)?;
            Driver::new(work, shared)?.run()
        })?;
        Ok(Load { counters, thread })
    }

    /// What it has done, also once it has ended.
    pub(super) fn counted(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// From now on response times count.
    pub(super) fn record(&self) {
        self.counters.recording.store(true, Ordering::Relaxed);
    }

    /// Ends it. The response times, in microseconds.
    pub(super) fn stop(self) -> io::Result<Histogram<u64>> {
        self.counters.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| io::Error::other("the load panicked"))?
    }
}

struct Driver {
    work: Work,
    counters: Arc<Counters>,
    poll: Poll,
    connections: HashMap<usize, Connection>,
    next_token: usize,
    buffer: Vec<u8>,
    upload: Vec<u8>,
    times: Histogram<u64>,
    /// Connections that wait for their turn.
    free: VecDeque<usize>,
    next_due: Instant,
}

struct Connection {
    stream: TcpStream,
    /// When the request was due; none while there is none.
    began: Option<Instant>,
    /// Bytes of the request that have left.
    sent: u64,
    /// What was read of a response head that is not whole yet.
    pending: Vec<u8>,
    body: Option<BodyDecoder>,
    content: u64,
    /// The answer is whole; only the end of the connection is to come.
    answered: bool,
    /// Whether the connection may carry another request, by the last answer.
    persistent: bool,
}

/// What became of a connection's turn.
enum Turn {
    Waits,
    Done,
    Broken,
}

impl Driver {
    fn new(work: Work, counters: Arc<Counters>) -> io::Result<Driver> {
        Ok(Driver {
            work,
            counters,
            poll: Poll::new()?,
            connections: HashMap::new(),
            next_token: 0,
            buffer: vec![0; READ_BYTES],
            upload: vec![b'u'; READ_BYTES],
            times: Histogram::new_with_bounds(1, 60_000_000, 3).map_err(io::Error::other)?,
            free: VecDeque::new(),
            next_due: Instant::now(),
        })
    }

    fn run(mut self) -> io::Result<Histogram<u64>> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK).map_err(io::Error::from)?;
        self.poll.registry().register(&mut SourceFd(&timer.as_raw_fd()), TIMER, Interest::READABLE)?;
        let at_once = if self.work.manner == Manner::Hold { OPENING_MAX } else { self.work.connections };
        for _ in 0..at_once.min(self.work.connections) {
            self.open()?;
        }
        self.next_due = Instant::now();
        let mut events = Events::with_capacity(1_024);
        while !self.counters.stop.load(Ordering::Relaxed) {
            self.arm(&timer)?;
            wait(&mut self.poll, &mut events, Some(Duration::from_millis(50)))?;
            for event in &events {
                match event.token() {
                    TIMER => drop(rustix::io::read(&timer, &mut [0u8; 8])),
                    Token(token) => self.advance(token)?,
                }
            }
            self.begin_due()?;
        }
        Ok(self.times)
    }

    /// Wakes the thread when the next request is due.
    fn arm(&self, timer: &impl std::os::fd::AsFd) -> io::Result<()> {
        let (Manner::Rate(_), false) = (self.work.manner, self.free.is_empty()) else { return Ok(()) };
        let wait = self.next_due.saturating_duration_since(Instant::now()).max(Duration::from_micros(1));
        let once = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() },
        };
        timerfd_settime(timer, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }

    fn begin_due(&mut self) -> io::Result<()> {
        let Manner::Rate(rate) = self.work.manner else { return Ok(()) };
        while self.next_due <= Instant::now() {
            let Some(token) = self.free.pop_front() else { return Ok(()) };
            let due = self.next_due;
            self.next_due += Duration::from_secs_f64(1.0 / rate);
            if let Some(connection) = self.connections.get_mut(&token) {
                connection.begin(due);
                self.advance(token)?;
            }
        }
        Ok(())
    }

    fn open(&mut self) -> io::Result<()> {
        let mut stream = TcpStream::connect(self.work.target)?;
        let token = self.next_token;
        self.next_token += 1;
        self.poll.registry().register(&mut stream, Token(token), Interest::READABLE | Interest::WRITABLE)?;
        let mut connection = Connection {
            stream,
            began: None,
            sent: 0,
            pending: Vec::new(),
            body: None,
            content: 0,
            answered: false,
            persistent: true,
        };
        match self.work.manner {
            Manner::Rate(_) => self.free.push_back(token),
            _ => connection.begin(Instant::now()),
        }
        self.connections.insert(token, connection);
        Ok(())
    }

    fn advance(&mut self, token: usize) -> io::Result<()> {
        loop {
            let Some(connection) = self.connections.get_mut(&token) else { return Ok(()) };
            let began = connection.began;
            let turn = connection.advance(&self.work, &mut self.buffer, &self.upload);
            let persistent = connection.persistent;
            match turn {
                Turn::Waits => return Ok(()),
                Turn::Broken => {
                    self.counters.errors.fetch_add(1, Ordering::Relaxed);
                    self.connections.remove(&token);
                    return self.open();
                }
                Turn::Done => {
                    self.counters.done.fetch_add(1, Ordering::Relaxed);
                    if let (true, Some(began)) = (self.counters.recording.load(Ordering::Relaxed), began) {
                        self.times.saturating_record(began.elapsed().as_micros() as u64);
                    }
                }
            }
            match self.work.manner {
                Manner::Closed if persistent => {
                    if let Some(connection) = self.connections.get_mut(&token) {
                        connection.begin(Instant::now());
                    }
                }
                Manner::Closed | Manner::Churn => {
                    self.connections.remove(&token);
                    return self.open();
                }
                Manner::Rate(_) => {
                    self.free.push_back(token);
                    return Ok(());
                }
                Manner::Hold if self.connections.len() < self.work.connections => return self.open(),
                Manner::Hold => return Ok(()),
            }
        }
    }
}

impl Connection {
    fn begin(&mut self, due: Instant) {
        self.began = Some(due);
        self.sent = 0;
        self.content = 0;
        self.body = None;
        self.answered = false;
    }

    fn advance(&mut self, work: &Work, buffer: &mut [u8], upload: &[u8]) -> Turn {
        if self.began.is_none() {
            return Turn::Waits;
        }
        match self.send(work, upload).and_then(|sent| if sent { self.receive(work, buffer) } else { Ok(false) }) {
            Ok(false) => Turn::Waits,
            Ok(true) => {
                self.began = None;
                Turn::Done
            }
            Err(error) if error.kind() == ErrorKind::NotConnected => Turn::Waits,
            Err(_) => Turn::Broken,
        }
    }

    /// Whether all of the request has left.
    fn send(&mut self, work: &Work, upload: &[u8]) -> io::Result<bool> {
        let head_bytes = work.head.len() as u64;
        let all = head_bytes + work.upload_bytes;
        while self.sent < all {
            let piece = if self.sent < head_bytes {
                &work.head[self.sent as usize..]
            } else {
                &upload[..upload.len().min((all - self.sent) as usize)]
            };
            match self.stream.write(piece) {
                Ok(count) => self.sent += count as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Whether the answer is whole.
    fn receive(&mut self, work: &Work, buffer: &mut [u8]) -> io::Result<bool> {
        loop {
            let count = match self.stream.read(buffer) {
                Ok(0) if self.answered => return Ok(true),
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            };
            if self.take(&mut buffer[..count])? {
                if self.content != work.content_bytes {
                    return Err(ErrorKind::InvalidData.into());
                }
                if work.manner != Manner::Churn {
                    return Ok(true);
                }
                self.answered = true;
            }
            if count < buffer.len() && !self.answered {
                return Ok(false);
            }
        }
    }

    fn take(&mut self, bytes: &mut [u8]) -> io::Result<bool> {
        if self.body.is_some() {
            return self.take_body(bytes);
        }
        if self.pending.is_empty() && memchr::memmem::find(bytes, b"\r\n\r\n").is_some() {
            return self.take_head(bytes);
        }
        self.pending.extend_from_slice(bytes);
        if memchr::memmem::find(&self.pending, b"\r\n\r\n").is_none() {
            return Ok(false);
        }
        let mut whole = std::mem::take(&mut self.pending);
        self.take_head(&mut whole)
    }

    fn take_head(&mut self, bytes: &mut [u8]) -> io::Result<bool> {
        let (framing, length) = {
            let mut slots = FieldSlots::new();
            match parse_response(bytes, false, &mut slots) {
                Ok(Parsed::Complete(response, length)) if response.status() == 200 => {
                    self.persistent = response.persistent();
                    (response.framing(), length)
                }
                _ => return Err(ErrorKind::InvalidData.into()),
            }
        };
        self.body = Some(BodyDecoder::new(framing));
        self.take_body(&mut bytes[length..])
    }

    fn take_body(&mut self, bytes: &mut [u8]) -> io::Result<bool> {
        let Some(decoder) = &mut self.body else { return Ok(false) };
        let decoded = decoder.decode(bytes).map_err(|_| ErrorKind::InvalidData)?;
        self.content += decoded.content as u64;
        if decoded.consumed < bytes.len() {
            return Err(ErrorKind::InvalidData.into());
        }
        Ok(decoder.is_complete())
    }
}
