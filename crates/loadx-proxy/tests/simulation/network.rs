//! A network in virtual time that does to streams what networks do: it delays, cuts messages anywhere,
//! wakes readers for nothing, stalls and resets. All of it follows from one seed.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use loadx_core::{Rng as _, SplitMix64};
use loadx_proxy::{Listener, Network, Resolved, Stream};
use tokio::time::Instant;

/// How bad a network is.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Weather {
    /// The longest delay of a piece.
    pub(crate) delay: Duration,
    /// The largest piece, in bytes.
    pub(crate) piece: u64,
    /// Bytes that may be under way in one direction.
    pub(crate) window: usize,
    /// One in so many looks at a stream finds it ready for nothing; 0 is never.
    pub(crate) spurious: u64,
    /// One in so many pieces is a reset instead; 0 is never.
    pub(crate) resets: u64,
    /// One in so many pieces is held up for up to a minute; 0 is never.
    pub(crate) stalls: u64,
}

#[derive(Clone)]
pub(crate) struct SimNet(Arc<Mutex<Inner>>);

struct Inner {
    rng: SplitMix64,
    weather: Weather,
    listening: BTreeMap<SocketAddr, Arc<Mutex<Group>>>,
    /// What is said first on connections to an address.
    greetings: BTreeMap<SocketAddr, Vec<u8>>,
    next_port: u16,
    next_connection: u64,
    /// The ends of connections that nobody has dropped: number, side, and where they are.
    open: BTreeMap<(u64, usize), SocketAddr>,
    /// A fold of all that happened, to compare two runs by.
    trace: u64,
}

/// The listeners of one address.
struct Group {
    /// None once nobody takes from it any more.
    queues: Vec<Option<VecDeque<(SimStream, SocketAddr)>>>,
    wakers: Vec<Option<Waker>>,
}

impl SimNet {
    pub(crate) fn new(seed: u64, weather: Weather) -> Self {
        SimNet(Arc::new(Mutex::new(Inner {
            rng: SplitMix64::new(seed),
            weather,
            listening: BTreeMap::new(),
            greetings: BTreeMap::new(),
            next_port: 20_000,
            next_connection: 0,
            open: BTreeMap::new(),
            trace: 0,
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// Ends of connections that nobody has dropped.
    pub(crate) fn open(&self) -> Vec<(u64, SocketAddr)> {
        self.inner().open.iter().map(|((connection, _), local)| (*connection, *local)).collect()
    }

    pub(crate) fn trace(&self) -> u64 {
        self.inner().trace
    }

    /// From now on nothing goes wrong any more.
    pub(crate) fn calm(&self) {
        let mut inner = self.inner();
        inner.weather = Weather { spurious: 0, resets: 0, stalls: 0, ..inner.weather };
    }

    /// From now on connections to `address` begin with these bytes from there.
    pub(crate) fn greet(&self, address: SocketAddr, greeting: &str) {
        self.inner().greetings.insert(address, greeting.as_bytes().to_vec());
    }

    pub(crate) async fn connect_from(&self, from: SocketAddr, to: SocketAddr) -> io::Result<SimStream> {
        let delay = self.inner().delay();
        tokio::time::sleep(delay).await;
        let group = self.inner().listening.get(&to).cloned().ok_or(ErrorKind::ConnectionRefused)?;
        let open: Vec<usize> = {
            let group = group.lock().unwrap();
            (0..group.queues.len()).filter(|queue| group.queues[*queue].is_some()).collect()
        };
        let chosen = self.inner().rng.below(open.len() as u64) as usize;
        let queue = *open.get(chosen).ok_or(ErrorKind::ConnectionRefused)?;
        let (near, far) = self.pair(from, to);
        let waker = {
            let mut group = group.lock().unwrap();
            group.queues[queue].as_mut().expect("it is open").push_back((far, from));
            group.wakers[queue].take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(near)
    }

    fn pair(&self, from: SocketAddr, to: SocketAddr) -> (SimStream, SimStream) {
        let mut inner = self.inner();
        inner.next_connection += 1;
        let id = inner.next_connection;
        inner.open.extend([((id, 0), from), ((id, 1), to)]);
        let greeting = inner.greetings.get(&to).cloned().unwrap_or_default();
        let greeted = Way { arrived_ever: greeting.len() as u64, arrived: greeting.into(), ..Way::default() };
        let connection = Arc::new(Mutex::new(Connection {
            id,
            ways: [Way::default(), greeted],
            dropped: [false; 2],
            abrupt: [false; 2],
        }));
        let end = |side, local| SimStream { net: self.clone(), connection: Arc::clone(&connection), side, local };
        (end(0, from), end(1, to))
    }
}

impl Inner {
    fn one_in(&mut self, count: u64) -> bool {
        count > 0 && self.rng.below(count) == 0
    }

    fn delay(&mut self) -> Duration {
        let stalls = self.weather.stalls;
        if self.one_in(stalls) {
            return Duration::from_millis(self.rng.below(60_000));
        }
        Duration::from_micros(self.rng.below(self.weather.delay.as_micros() as u64 + 1))
    }

    fn note(&mut self, connection: u64, side: usize, what: u64) {
        let seen = [connection, side as u64, what];
        self.trace =
            seen.iter().fold(self.trace, |trace, part| (trace ^ part).wrapping_mul(0x0100_0000_01b3).rotate_left(17));
    }
}

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
    net: SimNet,
    connection: Arc<Mutex<Connection>>,
    side: usize,
    local: SocketAddr,
}

impl SimStream {
    /// Sends both in one piece, which arrives as one; with a `boundary` no read goes beyond the first.
    pub(crate) fn send_together(&self, first: &[u8], second: &[u8], boundary: bool) {
        let boundary = boundary.then_some(first.len() as u64);
        self.launch(Piece::Bytes { bytes: [first, second].concat(), boundary });
    }

    /// Puts a piece under way. Pieces of one direction arrive in order.
    fn launch(&self, piece: Piece) {
        let delay = self.net.inner().delay();
        let mut connection = self.connection.lock().unwrap();
        let way = &mut connection.ways[self.side];
        let last = way.under_way.back().map_or_else(Instant::now, |(due, _)| *due);
        let due = last.max(Instant::now() + delay);
        if let Piece::Bytes { bytes, .. } = &piece {
            way.bytes_under_way += bytes.len();
        }
        way.under_way.push_back((due, piece));
        drop(connection);
        tokio::task::spawn_local(deliver(self.net.clone(), Arc::clone(&self.connection), self.side, due));
    }
}

/// Delivers the next piece that `side` sent, when it is due.
async fn deliver(net: SimNet, connection: Arc<Mutex<Connection>>, side: usize, due: Instant) {
    tokio::time::sleep_until(due).await;
    let mut guard = connection.lock().unwrap();
    let id = guard.id;
    let receiver_dropped = guard.dropped[1 - side];
    let way = &mut guard.ways[side];
    let Some((_, piece)) = way.under_way.pop_front() else { return };
    match piece {
        Piece::Bytes { bytes, boundary } => {
            net.inner().note(id, side, bytes.len() as u64);
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
            net.inner().note(id, side, u64::MAX);
            way.end_arrived = true;
        }
        Piece::Reset => {
            net.inner().note(id, side, u64::MAX - 1);
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
            let mut inner = self.net.inner();
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
            let mut inner = self.net.inner();
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
        let window = self.net.inner().weather.window;
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
            let mut inner = self.net.inner();
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
            self.net.inner().open.remove(&(connection.id, self.side));
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

/// A listener in use.
pub(crate) struct SimListener {
    net: SimNet,
    address: SocketAddr,
    group: Arc<Mutex<Group>>,
    index: usize,
}

impl Drop for SimListener {
    /// Nobody listens here any more; connections that nobody has accepted are dropped, and with them reset.
    fn drop(&mut self) {
        let (left, over) = {
            let mut group = self.group.lock().unwrap();
            (group.queues[self.index].take(), group.queues.iter().all(Option::is_none))
        };
        if over {
            self.net.inner().listening.remove(&self.address);
        }
        for (stream, _) in left.into_iter().flatten() {
            stream.break_off();
        }
    }
}

impl Listener for SimListener {
    type Stream = SimStream;

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(SimStream, SocketAddr)>> {
        let mut group = self.group.lock().unwrap();
        if let Some(client) = group.queues[self.index].as_mut().and_then(VecDeque::pop_front) {
            return Poll::Ready(Ok(client));
        }
        group.wakers[self.index] = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// A listener that nobody uses yet.
pub(crate) struct SimSocket {
    group: Arc<Mutex<Group>>,
    index: usize,
    address: SocketAddr,
}

impl Network for SimNet {
    type Stream = SimStream;
    type Listener = SimListener;
    type Socket = SimSocket;
    type Parcel = SimStream;

    fn listen(&self, address: SocketAddr, count: usize) -> io::Result<Vec<SimSocket>> {
        let group = Group { queues: (0..count).map(|_| Some(VecDeque::new())).collect(), wakers: vec![None; count] };
        let group = Arc::new(Mutex::new(group));
        let mut inner = self.inner();
        if inner.listening.contains_key(&address) {
            return Err(ErrorKind::AddrInUse.into());
        }
        inner.listening.insert(address, Arc::clone(&group));
        Ok((0..count).map(|index| SimSocket { group: Arc::clone(&group), index, address }).collect())
    }

    fn address(&self, socket: &SimSocket) -> io::Result<SocketAddr> {
        Ok(socket.address)
    }

    fn adopt(&self, socket: SimSocket) -> io::Result<SimListener> {
        Ok(SimListener { net: self.clone(), address: socket.address, group: socket.group, index: socket.index })
    }

    fn connect(&self, address: SocketAddr) -> impl Future<Output = io::Result<SimStream>> {
        let from = {
            let mut inner = self.inner();
            inner.next_port = inner.next_port.wrapping_add(1);
            SocketAddr::from(([10, 0, 0, 1], inner.next_port))
        };
        self.connect_from(from, address)
    }

    async fn resolve(&self, _host: &str, _port: u16) -> io::Result<Resolved> {
        Err(ErrorKind::Unsupported.into())
    }

    fn pack(&self, stream: SimStream) -> io::Result<SimStream> {
        Ok(stream)
    }

    fn unpack(&self, parcel: SimStream) -> io::Result<SimStream> {
        Ok(parcel)
    }
}
