//! Simulated connections in virtual time.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use loadx_core::Rng as _;
use loadx_proxy::Stream;
use tokio::time::Instant;

use crate::conditions::NetState;

struct Connection {
    id: u64,
    /// The direction from side 0, and the direction from side 1.
    directions: [Direction; 2],
    dropped: [bool; 2],
    /// Whether the drop of the side resets the connection.
    abrupt: [bool; 2],
}

/// One direction.
#[derive(Default)]
struct Direction {
    in_flight: VecDeque<(Instant, Piece)>,
    bytes_in_flight: usize,
    arrived: VecDeque<u8>,
    arrived_ever: u64,
    /// A position in the stream, in bytes, that no read crosses.
    boundary: u64,
    /// Whether the sender has ended the direction.
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

impl Direction {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

/// One end of a connection.
pub(crate) struct SimStream {
    state: NetState,
    connection: Arc<Mutex<Connection>>,
    side: usize,
    local: SocketAddr,
}

impl SimStream {
    /// Makes both ends of connection number `id`, on which side 1 has already sent `greeting`.
    pub(crate) fn pair(state: &NetState, id: u64, locals: [SocketAddr; 2], greeting: Vec<u8>) -> [SimStream; 2] {
        let [near, far] = locals;
        state.lock().open.extend([((id, 0), near), ((id, 1), far)]);
        let greeted =
            Direction { arrived_ever: greeting.len() as u64, arrived: greeting.into(), ..Direction::default() };
        let connection = Arc::new(Mutex::new(Connection {
            id,
            directions: [Direction::default(), greeted],
            dropped: [false; 2],
            abrupt: [false; 2],
        }));
        let end = |side, local| SimStream { state: state.clone(), connection: Arc::clone(&connection), side, local };
        [end(0, near), end(1, far)]
    }

    /// Sends both parts in one piece. With `boundary`, no read crosses the end of `first`.
    pub(crate) fn send_together(&self, first: &[u8], second: &[u8], boundary: bool) {
        let boundary = boundary.then_some(first.len() as u64);
        self.launch(Piece::Bytes { bytes: [first, second].concat(), boundary });
    }

    /// Sends a piece. Pieces of one direction arrive in order.
    fn launch(&self, piece: Piece) {
        let delay = self.state.lock().delay();
        let mut connection = self.connection.lock().unwrap();
        let direction = &mut connection.directions[self.side];
        let last = direction.in_flight.back().map_or_else(Instant::now, |(due, _)| *due);
        let due = last.max(Instant::now() + delay);
        if let Piece::Bytes { bytes, .. } = &piece {
            direction.bytes_in_flight += bytes.len();
        }
        direction.in_flight.push_back((due, piece));
        drop(connection);
        tokio::task::spawn_local(deliver(self.state.clone(), Arc::clone(&self.connection), self.side, due));
    }
}

/// Delivers the next piece that `side` sent, when it is due.
async fn deliver(state: NetState, connection: Arc<Mutex<Connection>>, side: usize, due: Instant) {
    tokio::time::sleep_until(due).await;
    let mut guard = connection.lock().unwrap();
    let id = guard.id;
    let receiver_dropped = guard.dropped[1 - side];
    let direction = &mut guard.directions[side];
    let Some((_, piece)) = direction.in_flight.pop_front() else { return };
    match piece {
        Piece::Bytes { bytes, boundary } => {
            state.lock().note(id, side, bytes.len() as u64);
            direction.bytes_in_flight -= bytes.len();
            if receiver_dropped {
                // Bytes to a dropped end cause a reset.
                let back = &mut guard.directions[1 - side];
                back.reset = true;
                back.arrived.clear();
                guard.directions.iter_mut().for_each(Direction::wake);
                return;
            }
            if !direction.reset {
                if let Some(boundary) = boundary {
                    direction.boundary = direction.arrived_ever + boundary;
                }
                direction.arrived_ever += bytes.len() as u64;
                direction.arrived.extend(bytes);
            }
        }
        Piece::End => {
            state.lock().note(id, side, u64::MAX);
            direction.end_arrived = true;
        }
        Piece::Reset => {
            state.lock().note(id, side, u64::MAX - 1);
            for direction in &mut guard.directions {
                direction.reset = true;
                direction.arrived.clear();
                direction.wake();
            }
            return;
        }
    }
    direction.wake();
}

impl Stream for SimStream {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let spurious = {
            let mut inner = self.state.lock();
            let count = inner.conditions.spurious;
            inner.one_in(count)
        };
        let mut connection = self.connection.lock().unwrap();
        let direction = &mut connection.directions[1 - self.side];
        if spurious || direction.reset || direction.end_arrived || !direction.arrived.is_empty() {
            return Poll::Ready(Ok(()));
        }
        direction.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let cut = {
            let mut inner = self.state.lock();
            let piece = inner.conditions.piece;
            1 + inner.rng.below(piece * 4) as usize
        };
        let mut connection = self.connection.lock().unwrap();
        let direction = &mut connection.directions[1 - self.side];
        if direction.reset {
            return Err(ErrorKind::ConnectionReset.into());
        }
        let read_ever = direction.arrived_ever - direction.arrived.len() as u64;
        let to_boundary = direction.boundary.checked_sub(read_ever).filter(|left| *left > 0).unwrap_or(u64::MAX);
        let count =
            direction.arrived.len().min(buffer.len()).min(cut).min(usize::try_from(to_boundary).unwrap_or(usize::MAX));
        if count == 0 {
            let over = direction.end_arrived || buffer.is_empty();
            return if over { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        for (slot, byte) in buffer.iter_mut().zip(direction.arrived.drain(..count)) {
            *slot = byte;
        }
        if let Some(writer) = direction.writer.take() {
            writer.wake();
        }
        Ok(count)
    }

    fn unconfirmed(&self) -> Option<u64> {
        let connection = self.connection.lock().unwrap();
        let direction = &connection.directions[self.side];
        Some((direction.bytes_in_flight + direction.arrived.len()) as u64)
    }

    type Pipe = RefCell<VecDeque<u8>>;

    fn pipe() -> Option<Self::Pipe> {
        Some(RefCell::default())
    }

    fn try_fill(&self, pipe: &Self::Pipe, max: usize) -> io::Result<usize> {
        let mut pipe = pipe.borrow_mut();
        assert!(pipe.is_empty(), "the pipe is not empty");
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
        let window = self.state.lock().conditions.window;
        let mut connection = self.connection.lock().unwrap();
        let broken = connection.directions[1 - self.side].reset;
        let direction = &mut connection.directions[self.side];
        if broken || direction.reset || direction.ended || direction.bytes_in_flight + direction.arrived.len() < window
        {
            return Poll::Ready(Ok(()));
        }
        direction.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let (conditions, cut, breaks) = {
            let mut inner = self.state.lock();
            let conditions = inner.conditions;
            (conditions, 1 + inner.rng.below(conditions.piece) as usize, inner.one_in(conditions.resets))
        };
        let room = {
            let connection = self.connection.lock().unwrap();
            let direction = &connection.directions[self.side];
            if direction.reset || direction.ended || connection.directions[1 - self.side].reset {
                return Err(ErrorKind::BrokenPipe.into());
            }
            conditions.window.saturating_sub(direction.bytes_in_flight + direction.arrived.len())
        };
        if room == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        if breaks {
            self.launch(Piece::Reset);
        }
        let bytes: Vec<u8> =
            pieces.iter().flat_map(|piece| piece.iter().copied()).take(room.min(conditions.window)).collect();
        let count = bytes.len();
        for piece in bytes.chunks(cut) {
            self.launch(Piece::Bytes { bytes: piece.to_vec(), boundary: None });
        }
        Ok(count)
    }

    fn holds_nothing(&self) -> bool {
        let connection = self.connection.lock().unwrap();
        let direction = &connection.directions[1 - self.side];
        !direction.reset && !direction.end_arrived && direction.arrived.is_empty()
    }

    fn shut_write(&self) {
        let ended = std::mem::replace(&mut self.connection.lock().unwrap().directions[self.side].ended, true);
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
    /// Closes as the system does: unread bytes or `break_off` cause a reset, otherwise the peer reads the end.
    fn drop(&mut self) {
        let abrupt = {
            let mut connection = self.connection.lock().unwrap();
            self.state.lock().open.remove(&(connection.id, self.side));
            connection.dropped[self.side] = true;
            connection.abrupt[self.side] || !connection.directions[1 - self.side].arrived.is_empty()
        };
        // The runtime may have ended.
        if tokio::runtime::Handle::try_current().is_err() || std::thread::panicking() {
            return;
        }
        if abrupt { self.launch(Piece::Reset) } else { self.shut_write() }
    }
}
