//! The floor: a bare relay, which does not parse the bytes. Its cost is the least cost of any proxy.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use crate::processes::wait;
use clap::{Args, ValueEnum};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// The most bytes of one read; the pipe of a splice holds up to 16 times as many.
const PIECE_BYTES: usize = 64 * 1024;

const PIPE_BYTES: usize = 1024 * 1024;

/// How a relay moves bytes.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Means {
    /// Through a buffer of the process
    Copy,
    /// Through a pipe, without copying
    Splice,
}

/// The options of `cargo xtask floor`.
#[derive(Debug, Args)]
pub(crate) struct FloorArguments {
    /// The way to move bytes
    #[arg(long)]
    means: Means,
    #[arg(long)]
    listen: SocketAddr,
    /// The backends, used in turn
    #[arg(long, required = true)]
    to: Vec<SocketAddr>,
}

/// Relays until the process ends.
pub(crate) fn run(arguments: &FloorArguments) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(arguments.listen)?;
    poll.registry().register(&mut listener, Token(usize::MAX), Interest::READABLE)?;
    let mut buffer = vec![0; PIECE_BYTES];
    let mut pairs: HashMap<usize, Pair> = HashMap::new();
    let mut next = 0;
    let mut events = Events::with_capacity(1_024);
    loop {
        wait(&mut poll, &mut events, None)?;
        for event in &events {
            let number = event.token().0;
            if number == usize::MAX {
                while let Ok((client, _)) = listener.accept() {
                    let pair =
                        Pair::open(&poll, client, arguments.to[next % arguments.to.len()], next, arguments.means)?;
                    pairs.insert(next, pair);
                    next += 1;
                }
                continue;
            }
            let Some(pair) = pairs.get_mut(&(number / 2)) else { continue };
            // An event of one side means readable or writable; each direction tries to move bytes.
            let moved = if event.is_readable() { pair.carry(number % 2, &mut buffer) } else { Ok(()) };
            let flushed = if event.is_writable() { pair.carry(1 - number % 2, &mut buffer) } else { Ok(()) };
            if moved.and(flushed).is_err() {
                pairs.remove(&(number / 2));
            }
        }
    }
}

/// The connections to a client and a backend, and the bytes under way in each direction.
struct Pair {
    ends: [TcpStream; 2],
    ways: [Way; 2],
}

/// One direction.
enum Way {
    Copying { waiting: Vec<u8> },
    Splicing { pipe: (OwnedFd, OwnedFd), held: usize },
}

impl Way {
    fn new(means: Means) -> io::Result<Way> {
        Ok(match means {
            Means::Copy => Way::Copying { waiting: Vec::new() },
            Means::Splice => {
                let pipe = pipe_with(PipeFlags::NONBLOCK)?;
                fcntl_setpipe_size(&pipe.1, PIPE_BYTES)?;
                Way::Splicing { pipe, held: 0 }
            }
        })
    }
}

impl Pair {
    fn open(poll: &Poll, client: TcpStream, to: SocketAddr, number: usize, means: Means) -> io::Result<Pair> {
        let mut ends = [client, TcpStream::connect(to)?];
        for (side, end) in ends.iter_mut().enumerate() {
            end.set_nodelay(true)?;
            poll.registry().register(end, Token(number * 2 + side), Interest::READABLE | Interest::WRITABLE)?;
        }
        Ok(Pair { ends, ways: [Way::new(means)?, Way::new(means)?] })
    }

    /// Moves the available bytes from one end to the other. An error, or the end of one connection, ends both
    /// connections.
    fn carry(&mut self, from: usize, buffer: &mut [u8]) -> io::Result<()> {
        let (source, sink) = (&self.ends[from], &self.ends[1 - from]);
        match &mut self.ways[from] {
            Way::Copying { waiting } => copy(source, sink, waiting, buffer),
            Way::Splicing { pipe, held } => move_by_splice(source, sink, pipe, held),
        }
    }
}

fn copy(mut source: &TcpStream, mut sink: &TcpStream, waiting: &mut Vec<u8>, buffer: &mut [u8]) -> io::Result<()> {
    loop {
        while !waiting.is_empty() {
            match sink.write(waiting) {
                Ok(count) => drop(waiting.drain(..count)),
                Err(error) if would_block(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        let count = match source.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if would_block(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        match sink.write(&buffer[..count]) {
            Ok(written) => waiting.extend_from_slice(&buffer[written..count]),
            Err(error) if would_block(&error) => waiting.extend_from_slice(&buffer[..count]),
            Err(error) => return Err(error),
        }
        if count < buffer.len() && waiting.is_empty() {
            return Ok(());
        }
    }
}

fn move_by_splice(source: &TcpStream, sink: &TcpStream, pipe: &(OwnedFd, OwnedFd), held: &mut usize) -> io::Result<()> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    loop {
        while *held > 0 {
            match splice(&pipe.0, None, sink, None, *held, flags).map_err(io::Error::from) {
                Ok(count) => *held -= count,
                Err(error) if would_block(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        match splice(source, None, &pipe.1, None, PIPE_BYTES, flags).map_err(io::Error::from) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => *held = count,
            Err(error) if would_block(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn would_block(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected)
}
