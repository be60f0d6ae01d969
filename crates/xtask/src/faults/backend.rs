//! A backend that can be broken: a process that answers after 5 ms, until a line on its standard input names another manner.
//!
//! The backend appends a line to a file for each request that is no probe: the time since the epoch in microseconds, and the
//! value of X-Id or `-`. The file survives a kill.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use clap::Args;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::manner::Manner;

/// The options of the backend.
#[derive(Debug, Args)]
pub(crate) struct BackendArguments {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    file: PathBuf,
}

/// The time of a response.
const SERVICE: Duration = Duration::from_millis(5);

/// How many requests a busy backend works on at a time, and for how long on each.
pub(super) const BUSY: (usize, Duration) = (10, Duration::from_millis(50));

/// The time of a response of a slow backend.
const SLOW_SERVICE: Duration = Duration::from_millis(100);

/// The state that all connections share.
struct State {
    manner: AtomicU32,
    requests: AtomicU64,
    file: File,
    /// The open connections, which a refusal ends.
    open: Mutex<Vec<TcpStream>>,
    /// The requests that a busy backend works on.
    working: Mutex<usize>,
    /// Told when one of them ends.
    idle: Condvar,
}

pub(crate) fn backend(arguments: &BackendArguments) -> io::Result<()> {
    let state = Arc::new(State {
        manner: AtomicU32::new(Manner::Good as u32),
        requests: AtomicU64::new(0),
        file: OpenOptions::new().create(true).append(true).open(&arguments.file)?,
        open: Mutex::default(),
        working: Mutex::default(),
        idle: Condvar::new(),
    });
    let (listen, accepting) = (arguments.listen, Arc::clone(&state));
    std::thread::spawn(move || {
        if let Err(error) = accept(listen, &accepting) {
            eprintln!("the backend at {listen} failed: {error}");
            std::process::exit(2);
        }
    });
    for line in io::stdin().lines() {
        let manner = Manner::named(line?.trim()).ok_or_else(|| io::Error::other("an unknown manner"))?;
        state.manner.store(manner as u32, Ordering::SeqCst);
    }
    // The parent has ended.
    std::process::exit(0);
}

/// Accepts connections; while the backend refuses, there is no listener, and no connection stays open.
fn accept(at: SocketAddr, state: &Arc<State>) -> io::Result<()> {
    loop {
        let listener = TcpListener::bind(at)?;
        listener.set_nonblocking(true)?;
        while state.manner() != Manner::Refuses {
            let wait = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
            poll(&mut [PollFd::new(&listener, PollFlags::IN)], Some(&wait))?;
            while let Ok((stream, _)) = listener.accept() {
                stream.set_nonblocking(false)?;
                stream.set_nodelay(true)?;
                let mut open = state.open.lock().unwrap_or_else(PoisonError::into_inner);
                open.retain(|stream| stream.peer_addr().is_ok());
                open.push(stream.try_clone()?);
                let state = Arc::clone(state);
                std::thread::spawn(move || {
                    // A connection that is to be reset must not be ended before.
                    if !matches!(serve(&stream, &state), Ok(Then::Reset)) {
                        let _ = stream.shutdown(Shutdown::Both);
                    }
                });
            }
        }
        drop(listener);
        for stream in state.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        while state.manner() == Manner::Refuses {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl State {
    fn manner(&self) -> Manner {
        Manner::numbered(self.manner.load(Ordering::SeqCst))
    }

    /// Works on a request as a busy backend does.
    fn work(&self) {
        let working = self.working.lock().unwrap_or_else(PoisonError::into_inner);
        let mut working =
            self.idle.wait_while(working, |working| *working >= BUSY.0).unwrap_or_else(PoisonError::into_inner);
        *working += 1;
        drop(working);
        std::thread::sleep(BUSY.1);
        *self.working.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.idle.notify_one();
    }

    fn note(&self, id: &str) -> io::Result<()> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        (&self.file).write_all(format!("{} {id}\n", now.as_micros()).as_bytes())
    }
}

/// The request line and X-Id of a request; `None` at the end of the connection.
fn head(reader: &mut BufReader<&TcpStream>) -> io::Result<Option<(String, String)>> {
    let (mut first, mut id) = (String::new(), "-".to_owned());
    if reader.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("x-id") => id = value.to_owned(),
            Some(_) => {}
            None => return Ok(Some((first, id))),
        }
    }
}

/// How a connection ends.
enum Then {
    End,
    Reset,
}

fn serve(stream: &TcpStream, state: &State) -> io::Result<Then> {
    let mut reader = BufReader::new(stream);
    while let Some((first, id)) = head(&mut reader)? {
        let is_probe = first.contains(" /health ");
        let number = match is_probe {
            true => 0,
            false => {
                state.note(&id)?;
                state.requests.fetch_add(1, Ordering::SeqCst)
            }
        };
        let manner = match state.manner() {
            // Only the process as a whole fails probes: the application is broken behind its health page.
            manner if is_probe && manner != Manner::Refuses => Manner::Good,
            manner => manner,
        };
        match manner {
            Manner::Busy => state.work(),
            Manner::Slow => std::thread::sleep(SLOW_SERVICE),
            _ => std::thread::sleep(SERVICE),
        }
        let fails = manner == Manner::Fails || (manner == Manner::FailsThreeOfTen && number % 10 < 3);
        let status = if fails { "500 Internal Server Error" } else { "200 OK" };
        let content = "x".repeat(1_000);
        let text = match manner {
            Manner::Refuses => return Ok(Then::End),
            Manner::BreaksHead => format!("HTTP/1.1 {status}\r\nContent-"),
            Manner::BreaksThirdBody if number.is_multiple_of(3) => {
                format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{}", content.len(), &content[..400])
            }
            _ => format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{content}", content.len()),
        };
        let mut writer = stream;
        writer.write_all(text.as_bytes())?;
        if manner == Manner::BreaksHead || (manner == Manner::BreaksThirdBody && number.is_multiple_of(3)) {
            // A reset, and not an end.
            rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO))?;
            std::thread::sleep(Duration::from_millis(1));
            let mut open = state.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.retain(|other| other.peer_addr().ok() != stream.peer_addr().ok());
            return Ok(Then::Reset);
        }
    }
    Ok(Then::End)
}
