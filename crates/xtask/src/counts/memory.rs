//! A network in memory and in one thread, so that a whole exchange can be counted without system calls.

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use loadx_proxy::{Listener, Network, Resolved, Stream};

/// A network whose streams deliver all bytes at once.
#[derive(Clone, Default)]
pub(super) struct Memory {
    listening: Arc<Mutex<HashMap<SocketAddr, Socket>>>,
}

/// A listener for one address. Connections never leave their thread; to satisfy the trait of the network, only the
/// number of a connection crosses threads.
#[derive(Clone)]
pub(super) struct Socket {
    address: SocketAddr,
}

thread_local! {
    static QUEUES: RefCell<HashMap<SocketAddr, Queue>> = RefCell::default();
}

#[derive(Default)]
struct Queue {
    arrived: Vec<MemoryStream>,
    waker: Option<Waker>,
}

pub(super) struct MemoryListener {
    address: SocketAddr,
}

/// One end of a connection.
pub(super) struct MemoryStream {
    incoming: Rc<RefCell<Way>>,
    outgoing: Rc<RefCell<Way>>,
}

/// One direction of a connection.
#[derive(Default)]
struct Way {
    bytes: Vec<u8>,
    taken: usize,
    ended: bool,
    waker: Option<Waker>,
}

impl MemoryStream {
    fn pair() -> (MemoryStream, MemoryStream) {
        let (up, down) = (Rc::<RefCell<Way>>::default(), Rc::<RefCell<Way>>::default());
        (
            MemoryStream { incoming: Rc::clone(&down), outgoing: Rc::clone(&up) },
            MemoryStream { incoming: up, outgoing: down },
        )
    }

    /// Writes all of `bytes`; the buffer has no limit.
    pub(super) fn send(&self, bytes: &[u8]) {
        let mut way = self.outgoing.borrow_mut();
        way.bytes.extend_from_slice(bytes);
        way.wake();
    }

    /// Waits for bytes, and reads all of them. 0 is the end.
    pub(super) async fn receive(&self, buffer: &mut [u8]) -> usize {
        std::future::poll_fn(|cx| {
            let mut way = self.incoming.borrow_mut();
            if way.is_silent() { way.wait(cx) } else { Poll::Ready(way.take(buffer)) }
        })
        .await
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        let mut way = self.outgoing.borrow_mut();
        way.ended = true;
        way.wake();
    }
}

impl Way {
    fn is_silent(&self) -> bool {
        self.taken == self.bytes.len() && !self.ended
    }

    fn take(&mut self, buffer: &mut [u8]) -> usize {
        let count = buffer.len().min(self.bytes.len() - self.taken);
        buffer[..count].copy_from_slice(&self.bytes[self.taken..self.taken + count]);
        self.taken += count;
        if self.taken == self.bytes.len() {
            self.bytes.clear();
            self.taken = 0;
        }
        count
    }

    fn wait<T>(&mut self, cx: &Context<'_>) -> Poll<T> {
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => self.waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Stream for MemoryStream {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut way = self.incoming.borrow_mut();
        if way.is_silent() { way.wait(cx) } else { Poll::Ready(Ok(())) }
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut way = self.incoming.borrow_mut();
        if way.is_silent() { Err(ErrorKind::WouldBlock.into()) } else { Ok(way.take(buffer)) }
    }

    fn poll_writable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut way = self.outgoing.borrow_mut();
        for piece in pieces {
            way.bytes.extend_from_slice(piece);
        }
        way.wake();
        Ok(pieces.iter().map(|piece| piece.len()).sum())
    }

    fn unconfirmed(&self) -> Option<u64> {
        None
    }

    type Pipe = Infallible;

    fn pipe() -> Option<Infallible> {
        None
    }

    fn try_fill(&self, pipe: &Infallible, _: usize) -> io::Result<usize> {
        match *pipe {}
    }

    fn try_drain(&self, pipe: &Infallible, _: usize) -> io::Result<usize> {
        match *pipe {}
    }

    fn holds_nothing(&self) -> bool {
        self.incoming.borrow().is_silent()
    }

    fn shut_write(&self) {
        let mut way = self.outgoing.borrow_mut();
        way.ended = true;
        way.wake();
    }

    fn break_off(&self) {}

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Err(ErrorKind::Unsupported.into())
    }
}

impl Listener for MemoryListener {
    type Stream = MemoryStream;

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(MemoryStream, SocketAddr)>> {
        QUEUES.with_borrow_mut(|queues| {
            let queue = queues.entry(self.address).or_default();
            match queue.arrived.pop() {
                Some(stream) => Poll::Ready(Ok((stream, SocketAddr::from(([10, 0, 0, 9], 50_000))))),
                None => {
                    queue.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
    }
}

impl Network for Memory {
    type Stream = MemoryStream;
    type Listener = MemoryListener;
    type Socket = Socket;
    type Parcel = ();

    fn listen(&self, address: SocketAddr, count: usize) -> io::Result<Vec<Socket>> {
        let mut listening = self.listening.lock().map_err(|_| ErrorKind::Other)?;
        listening.insert(address, Socket { address });
        Ok(vec![Socket { address }; count])
    }

    fn address(&self, socket: &Socket) -> io::Result<SocketAddr> {
        Ok(socket.address)
    }

    fn adopt(&self, socket: Socket) -> io::Result<MemoryListener> {
        Ok(MemoryListener { address: socket.address })
    }

    fn connect(&self, address: SocketAddr) -> impl Future<Output = io::Result<MemoryStream>> {
        let (near, far) = MemoryStream::pair();
        QUEUES.with_borrow_mut(|queues| {
            let queue = queues.entry(address).or_default();
            queue.arrived.push(far);
            if let Some(waker) = queue.waker.take() {
                waker.wake();
            }
        });
        std::future::ready(Ok(near))
    }

    async fn resolve(&self, _: &str, _: u16) -> io::Result<Resolved> {
        Err(ErrorKind::Unsupported.into())
    }

    fn pack(&self, _: MemoryStream) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }

    fn unpack(&self, (): ()) -> io::Result<MemoryStream> {
        Err(ErrorKind::Unsupported.into())
    }
}
