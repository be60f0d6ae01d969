//! TCP, by way of the runtime.

use std::io::{self, IoSlice, Read};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::task::{Context, Poll, ready};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};

use super::names::Names;
#[cfg(target_os = "linux")]
use super::splice::KernelPipe;
use super::{Listener, Network, Resolved, Stream};
use crate::limits::{ACCEPT_BACKLOG, UNSENT_BYTES_MAX};

/// The network of the machine.
#[derive(Clone, Debug)]
pub struct Tcp {
    names: Names,
}

impl Tcp {
    /// Reads how the system resolves names.
    ///
    /// # Errors
    /// When the system's configuration cannot be read.
    pub fn new() -> io::Result<Self> {
        Ok(Tcp { names: Names::from_system()? })
    }
}

impl Stream for TcpStream {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }

    /// A read that did not fill the buffer has emptied the socket: the runtime is told so, and the
    /// next wait does not begin with a read that finds nothing. The runtime knows such a read only as
    /// one that would block, hence the detour of the count.
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut short = 0;
        let outcome = self.try_io(Interest::READABLE, || {
            let count = (&*SockRef::from(self)).read(buffer)?;
            if 0 < count && count < buffer.len() {
                short = count;
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(count)
        });
        if short > 0 { Ok(short) } else { outcome }
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_ready(cx)
    }

    fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match pieces {
            [piece] => TcpStream::try_write(self, piece),
            pieces => self.try_write_vectored(pieces),
        }
    }

    /// MSG_MORE holds the bytes back for up to 200 ms, or until the end sends them along with itself.
    #[cfg(target_os = "linux")]
    fn try_write_last(&self, bytes: &[u8]) -> io::Result<usize> {
        let flags = libc::MSG_MORE | libc::MSG_NOSIGNAL;
        self.try_io(Interest::WRITABLE, || SockRef::from(self).send_with_flags(bytes, flags))
    }

    #[cfg(target_os = "linux")]
    fn unconfirmed(&self) -> Option<u64> {
        super::queue::unconfirmed(self).ok()
    }

    #[cfg(not(target_os = "linux"))]
    fn unconfirmed(&self) -> Option<u64> {
        None
    }

    #[cfg(target_os = "linux")]
    type Pipe = KernelPipe;

    #[cfg(target_os = "linux")]
    fn pipe() -> Option<KernelPipe> {
        KernelPipe::new()
    }

    #[cfg(target_os = "linux")]
    fn try_fill(&self, pipe: &KernelPipe, max: usize) -> io::Result<usize> {
        self.try_io(Interest::READABLE, || pipe.fill(self, max))
    }

    #[cfg(target_os = "linux")]
    fn try_drain(&self, pipe: &KernelPipe, count: usize) -> io::Result<usize> {
        self.try_io(Interest::WRITABLE, || pipe.drain(self, count))
    }

    #[cfg(not(target_os = "linux"))]
    type Pipe = std::convert::Infallible;

    #[cfg(not(target_os = "linux"))]
    fn pipe() -> Option<Self::Pipe> {
        None
    }

    #[cfg(not(target_os = "linux"))]
    fn try_fill(&self, pipe: &Self::Pipe, _: usize) -> io::Result<usize> {
        match *pipe {}
    }

    #[cfg(not(target_os = "linux"))]
    fn try_drain(&self, pipe: &Self::Pipe, _: usize) -> io::Result<usize> {
        match *pipe {}
    }

    fn holds_nothing(&self) -> bool {
        // The runtime takes part, to hear of silence; but where it knows of nothing, the system is asked all the same.
        let peek = || SockRef::from(self).peek(&mut [MaybeUninit::uninit()]);
        let mut asked = false;
        let peeked = self.try_io(Interest::READABLE, || {
            asked = true;
            peek()
        });
        let peeked = if asked { peeked } else { peek() };
        matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    fn shut_write(&self) {
        // The other end may be gone already; there is nothing else to be done then.
        let _ = SockRef::from(self).shutdown(Shutdown::Write);
    }

    fn break_off(&self) {
        let _ = self.set_zero_linger();
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        TcpStream::local_addr(self)
    }
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        // TCP_NODELAY comes from the listener, on Linux; elsewhere it is set anew.
        let (stream, peer) = ready!(TcpListener::poll_accept(self, cx))?;
        if !cfg!(target_os = "linux") {
            stream.set_nodelay(true)?;
        }
        Poll::Ready(Ok((stream, peer)))
    }
}

impl Network for Tcp {
    type Stream = TcpStream;
    type Listener = TcpListener;
    type Socket = std::net::TcpListener;
    type Parcel = std::net::TcpStream;

    /// The first socket is bound without SO_REUSEPORT, so that it fails while anybody else holds the
    /// port, another LoadX included. Only then does it allow siblings, which are bound next.
    fn listen(&self, address: SocketAddr, count: usize) -> io::Result<Vec<Self::Socket>> {
        let first = socket(address)?;
        first.bind(&address.into())?;
        first.set_reuse_port(true)?;
        let taken = first.local_addr()?;
        let mut sockets = vec![first];
        for _ in 1..count {
            let sibling = socket(address)?;
            sibling.set_reuse_port(true)?;
            sibling.bind(&taken)?;
            sockets.push(sibling);
        }
        // Listening begins when all are there; a client must not meet a half-built group.
        sockets.iter().try_for_each(|socket| socket.listen(ACCEPT_BACKLOG))?;
        Ok(sockets.into_iter().map(Into::into).collect())
    }

    fn address(&self, socket: &Self::Socket) -> io::Result<SocketAddr> {
        socket.local_addr()
    }

    fn adopt(&self, socket: Self::Socket) -> io::Result<TcpListener> {
        TcpListener::from_std(socket)
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Resolved> {
        self.names.resolve(host, port).await
    }

    fn pack(&self, stream: TcpStream) -> io::Result<Self::Parcel> {
        stream.into_std()
    }

    fn unpack(&self, parcel: Self::Parcel) -> io::Result<TcpStream> {
        TcpStream::from_std(parcel)
    }
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of a former process that are still closing do not hold the port.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // The IPv4 side of a name has a listener of its own.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_tcp_nodelay(true)?;
    // Clients' connections inherit it. Without it the system takes megabytes for a client that reads slowly.
    #[cfg(target_os = "linux")]
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_never_shared() {
        let loopback: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let tcp = Tcp::new().unwrap();
        let first = tcp.listen(loopback, 3).unwrap();
        let taken = tcp.address(&first[0]).unwrap();
        assert!(first.iter().all(|socket| tcp.address(socket).unwrap() == taken));
        assert_eq!(tcp.listen(taken, 3).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert!(tcp.listen(taken, 3).is_ok(), "once let go, it is free at once");
    }
}
