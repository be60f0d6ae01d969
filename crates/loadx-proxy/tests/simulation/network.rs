//! A network in virtual time with faults: it delays bytes, splits messages, wakes readers without bytes, stalls and
//! resets.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use loadx_core::Rng as _;
use loadx_proxy::{Listener, Network, Resolved, Stream as _};

use crate::conditions::{Conditions, NetState};
use crate::stream::SimStream;

#[derive(Clone)]
pub(crate) struct SimNet {
    state: NetState,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    listening: BTreeMap<SocketAddr, Arc<Mutex<Group>>>,
    /// The bytes that the acceptor sends first, by address.
    greetings: BTreeMap<SocketAddr, Vec<u8>>,
    /// The addresses at which nothing answers, not even with a refusal.
    vanished: BTreeSet<SocketAddr>,
    next_port: u16,
    next_connection: u64,
}

/// The listeners of one address.
struct Group {
    /// Accepted connections by listener; `None` after the listener was dropped.
    queues: Vec<Option<VecDeque<(SimStream, SocketAddr)>>>,
    wakers: Vec<Option<Waker>>,
}

impl SimNet {
    pub(crate) fn new(seed: u64, conditions: Conditions) -> Self {
        let inner = Inner {
            listening: BTreeMap::new(),
            greetings: BTreeMap::new(),
            vanished: BTreeSet::new(),
            next_port: 20_000,
            next_connection: 0,
        };
        SimNet { state: NetState::new(seed, conditions), inner: Arc::new(Mutex::new(inner)) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// The ends of connections that are not dropped: connection number and local address.
    pub(crate) fn open(&self) -> Vec<(u64, SocketAddr)> {
        self.state.lock().open.iter().map(|((connection, _), local)| (*connection, *local)).collect()
    }

    pub(crate) fn trace(&self) -> u64 {
        self.state.lock().trace
    }

    /// Ends the faults.
    pub(crate) fn end_faults(&self) {
        let mut state = self.state.lock();
        state.conditions = Conditions { spurious: 0, resets: 0, stalls: 0, ..state.conditions };
    }

    /// Makes later connections to `address` begin with these bytes from the acceptor.
    pub(crate) fn greet(&self, address: SocketAddr, greeting: &str) {
        self.inner().greetings.insert(address, greeting.as_bytes().to_vec());
    }

    /// Whether new connections to `address` get no answer from now on.
    pub(crate) fn set_vanished(&self, address: SocketAddr, has_vanished: bool) {
        let vanished = &mut self.inner().vanished;
        match has_vanished {
            true => vanished.insert(address),
            false => vanished.remove(&address),
        };
    }

    /// Whether connections to an address begin with bytes from the acceptor.
    pub(crate) fn greets(&self) -> bool {
        !self.inner().greetings.is_empty()
    }

    /// Both ends of another connection, which no listener accepts.
    pub(crate) fn pair(&self, locals: [SocketAddr; 2]) -> [SimStream; 2] {
        let id = {
            let mut inner = self.inner();
            inner.next_connection += 1;
            inner.next_connection
        };
        SimStream::pair(&self.state, id, locals, Vec::new())
    }

    pub(crate) async fn connect_from(&self, from: SocketAddr, to: SocketAddr) -> io::Result<SimStream> {
        let delay = self.state.lock().delay();
        tokio::time::sleep(delay).await;
        if self.inner().vanished.contains(&to) {
            std::future::pending::<()>().await;
        }
        let group = self.inner().listening.get(&to).cloned().ok_or(ErrorKind::ConnectionRefused)?;
        let open: Vec<usize> = {
            let group = group.lock().unwrap();
            (0..group.queues.len()).filter(|queue| group.queues[*queue].is_some()).collect()
        };
        let chosen = self.state.lock().rng.below(open.len() as u64) as usize;
        let queue = *open.get(chosen).ok_or(ErrorKind::ConnectionRefused)?;
        let (id, greeting) = {
            let mut inner = self.inner();
            inner.next_connection += 1;
            (inner.next_connection, inner.greetings.get(&to).cloned().unwrap_or_default())
        };
        let [near, far] = SimStream::pair(&self.state, id, [from, to], greeting);
        let waker = {
            let mut group = group.lock().unwrap();
            group.queues[queue].as_mut().expect("the listener is open").push_back((far, from));
            group.wakers[queue].take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(near)
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
    /// Closes the listener and resets the connections that were not accepted.
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

/// A listener that no worker uses yet.
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

    fn time_of_day(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

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
