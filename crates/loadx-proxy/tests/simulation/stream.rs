//! Connections between two ends in virtual time.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use loadx_core::Rng as _;
use loadx_proxy::Stream;
use tokio::time::Instant;

use crate::weather::Fate;

struct Connection {
    id: u64,
    /// What side 0 sends, and what side 1 sends.
    ways: [Way; 2],
    dropped: [bool; 2],
    abrupt: [bool; 2],
}

/// One direction.
#[derive(Default)]
struct Way {
    under_way: VecDeque<(Instant, Piece)>,
    bytes_under_way: usize,
    arrived: VecDeque<u8>,
    arrived_ever: u64,
    /// How much has arrived when no read goes on.
    boundary: u64,
    /// The end was sent.
    ended: bool,
    end_arrived: bool,
    reset: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

enum Piece {
    Bytes { bytes: Vec<u8>, boundary: Option<u64> },
    End,
    Reset,
}

impl Way {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

/// One end of a connection.
pub(crate) struct SimStream {
    fate: Fate,
    connection: Arc<Mutex<Connection>>,
    side: usize,
    local: SocketAddr,
}

impl SimStream {
    /// Both ends of connection number `id`, on which side 1 has said `greeting` first.
    pub(crate) fn pair(fate: &Fate, id: u64, locals: [SocketAddr; 2], greeting: Vec<u8>) -> [SimStream; 2] {
        let [near, far] = locals;
        fate.drawn().open.extend([((id, 0), near), ((id, 1), far)]);
        let greeted = Way { arrived_ever: greeting.len() as u64, arrived: greeting.into(), ..Way::default() };
        let connection = Arc::new(Mutex::new(Connection {
            id,
            ways: [Way::default(), greeted],
            dropped: [false; 2],
            abrupt: [false; 2],
        }));
        let end = |side, local| SimStream { fate: fate.clone(), connection: Arc::clone(&connection), side, local };
        [end(0, near), end(1, far)]
    }

    /// Sends both in one piece, which arrives as one; with a `boundary` no read goes beyond the first.
    pub(crate) fn send_together(&self, first: &[u8], second: &[u8], boundary: bool) {
        let boundary = boundary.then_some(first.len() as u64);
        self.launch(Piece::Bytes { bytes: [first, second].concat(), boundary });
    }

    /// Puts a piece under way. Pieces of one direction arrive in order.
    fn launch(&self, piece: Piece) {
        let delay = self.fate.drawn().delay();
        let mut connection = self.connection.lock().unwrap();
        let way = &mut connection.ways[self.side];
        let last = way.under_way.back().map_or_else(Instant::now, |(due, _)| *due);
        let due = last.max(Instant::now() + delay);
        if let Piece::Bytes { bytes, .. } = &piece {
            way.bytes_under_way += bytes.len();
        }
        way.under_way.push_back((due, piece));
        drop(connection);
        tokio::task::spawn_local(deliver(self.fate.clone(), Arc::clone(&self.connection), self.side, due));
    }
}

/// Delivers the next piece that `side` sent, when it is due.
async fn deliver(fate: Fate, connection: Arc<Mutex<Connection>>, side: usize, due: Instant) {
    tokio::time::sleep_until(due).await;
    let mut guard = connection.lock().unwrap();
    let id = guard.id;
    let receiver_dropped = guard.dropped[1 - side];
    let way = &mut guard.ways[side];
    let Some((_, piece)) = way.under_way.pop_front() else { return };
    match piece {
        Piece::Bytes { bytes, boundary } => {
            fate.drawn().note(id, side, bytes.len() as u64);
            way.bytes_under_way -= bytes.len();
            if receiver_dropped {
                // Nobody is there any more: the sender is told so.
                let back = &mut guard.ways[1 - side];
                back.reset = true;
                back.arrived.clear();
                guard.ways.iter_mut().for_each(Way::wake);
                return;
            }
            if !way.reset {
                if let Some(boundary) = boundary {
                    way.boundary = way.arrived_ever + boundary;
                }
                way.arrived_ever += bytes.len() as u64;
                way.arrived.extend(bytes);
            }
        }
        Piece::End => {
            fate.drawn().note(id, side, u64::MAX);
            way.end_arrived = true;
        }
        Piece::Reset => {
            fate.drawn().note(id, side, u64::MAX - 1);
            for way in &mut guard.ways {
                way.reset = true;
                way.arrived.clear();
                way.wake();
            }
            return;
        }
    }
    way.wake();
}

impl Stream for SimStream {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let spurious = {
            let mut inner = self.fate.drawn();
            let count = inner.weather.spurious;
            inner.one_in(count)
        };
        let mut connection = self.connection.lock().unwrap();
        let way = &mut connection.ways[1 - self.side];
        if spurious || way.reset || way.end_arrived || !way.arrived.is_empty() {
            return Poll::Ready(Ok(()));
        }
        way.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let cut = {
            let mut inner = self.fate.drawn();
            let piece = inner.weather.piece;
            1 + inner.rng.below(piece * 4) as usize
        };
        let mut connection = self.connection.lock().unwrap();
        let way = &mut connection.ways[1 - self.side];
        if way.reset {
            return Err(ErrorKind::ConnectionReset.into());
        }
        let read_ever = way.arrived_ever - way.arrived.len() as u64;
        let to_boundary = way.boundary.checked_sub(read_ever).filter(|left| *left > 0).unwrap_or(u64::MAX);
        let count =
            way.arrived.len().min(buffer.len()).min(cut).min(usize::try_from(to_boundary).unwrap_or(usize::MAX));
        if count == 0 {
            let over = way.end_arrived || buffer.is_empty();
            return if over { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        for (slot, byte) in buffer.iter_mut().zip(way.arrived.drain(..count)) {
            *slot = byte;
        }
        if let Some(writer) = way.writer.take() {
            writer.wake();
        }
        Ok(count)
    }

    fn unconfirmed(&self) -> Option<u64> {
        let connection = self.connection.lock().unwrap();
        let way = &connection.ways[self.side];
        Some((way.bytes_under_way + way.arrived.len()) as u64)
    }

    type Pipe = RefCell<VecDeque<u8>>;

    fn pipe() -> Option<Self::Pipe> {
        Some(RefCell::default())
    }

    fn try_fill(&self, pipe: &Self::Pipe, max: usize) -> io::Result<usize> {
        let mut pipe = pipe.borrow_mut();
        assert!(pipe.is_empty(), "a pipe is lent empty, and emptied before it is filled again");
        let mut bytes = vec![0; max.min(64 * 1024)];
        let count = self.try_read(&mut bytes)?;
        pipe.extend(&bytes[..count]);
        Ok(count)
    }

    fn try_drain(&self, pipe: &Self::Pipe, count: usize) -> io::Result<usize> {
        let mut pipe = pipe.borrow_mut();
        let bytes: Vec<u8> = pipe.iter().take(count).copied().collect();
        let written = self.try_write(&[IoSlice::new(&bytes)])?;
        pipe.drain(..written);
        Ok(written)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let window = self.fate.drawn().weather.window;
        let mut connection = self.connection.lock().unwrap();
        let broken = connection.ways[1 - self.side].reset;
        let way = &mut connection.ways[self.side];
        if broken || way.reset || way.ended || way.bytes_under_way + way.arrived.len() < window {
            return Poll::Ready(Ok(()));
        }
        way.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let (weather, cut, breaks) = {
            let mut inner = self.fate.drawn();
            let weather = inner.weather;
            (weather, 1 + inner.rng.below(weather.piece) as usize, inner.one_in(weather.resets))
        };
        let room = {
            let connection = self.connection.lock().unwrap();
            let way = &connection.ways[self.side];
            if way.reset || way.ended || connection.ways[1 - self.side].reset {
                return Err(ErrorKind::BrokenPipe.into());
            }
            weather.window.saturating_sub(way.bytes_under_way + way.arrived.len())
        };
        if room == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        if breaks {
            self.launch(Piece::Reset);
        }
        let bytes: Vec<u8> =
            pieces.iter().flat_map(|piece| piece.iter().copied()).take(room.min(weather.window)).collect();
        let count = bytes.len();
        for piece in bytes.chunks(cut) {
            self.launch(Piece::Bytes { bytes: piece.to_vec(), boundary: None });
        }
        Ok(count)
    }

    fn holds_nothing(&self) -> bool {
        let connection = self.connection.lock().unwrap();
        let way = &connection.ways[1 - self.side];
        !way.reset && !way.end_arrived && way.arrived.is_empty()
    }

    fn shut_write(&self) {
        let ended = std::mem::replace(&mut self.connection.lock().unwrap().ways[self.side].ended, true);
        if !ended {
            self.launch(Piece::End);
        }
    }

    fn break_off(&self) {
        self.connection.lock().unwrap().abrupt[self.side] = true;
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }
}

impl Drop for SimStream {
    /// As the system closes: what was not read, or a wish for it, makes it a reset.
    fn drop(&mut self) {
        let abrupt = {
            let mut connection = self.connection.lock().unwrap();
            self.fate.drawn().open.remove(&(connection.id, self.side));
            connection.dropped[self.side] = true;
            connection.abrupt[self.side] || !connection.ways[1 - self.side].arrived.is_empty()
        };
        // The world may be over.
        if tokio::runtime::Handle::try_current().is_err() || std::thread::panicking() {
            return;
        }
        if abrupt { self.launch(Piece::Reset) } else { self.shut_write() }
    }
}
