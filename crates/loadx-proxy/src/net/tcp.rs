//! TCP sockets of the operating system, registered with Tokio.

use std::io::{self, IoSlice, Read};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use loadx_core::config::ListenerConfig;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};

use super::inherited::{Inherited, InheritedSocket};
use super::names::Names;
#[cfg(target_os = "linux")]
use super::splice::KernelPipe;
use super::{Listener, Network, Resolved, Stream};
use crate::limits::{ACCEPT_BACKLOG, UNSENT_BYTES_MAX};

/// The network of the operating system.
#[derive(Clone, Debug)]
pub struct Tcp {
    names: Names,
    inherited: Arc<Inherited>,
}

impl Tcp {
    /// Reads the system's configuration of name resolution.
    ///
    /// # Errors
    /// When the resolver cannot be built.
    pub fn new() -> io::Result<Self> {
        Ok(Tcp { names: Names::from_system()?, inherited: Arc::default() })
    }

    /// The same, with sockets that another process gave to this one.
    pub(crate) fn with(self, sockets: Vec<InheritedSocket>) -> Self {
        Tcp { inherited: Arc::new(Inherited::new(sockets)), ..self }
    }

    /// The addresses of the inherited sockets that no listener has taken. The sockets are closed.
    pub(crate) fn close_rest(&self) -> Vec<SocketAddr> {
        self.inherited.close_rest()
    }
}

impl Stream for TcpStream {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }

    /// A read that does not fill the buffer has emptied the socket. Reports such a read to the runtime as `WouldBlock`,
    /// the only way to clear the readiness, so that the next wait does not begin with an empty read.
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

    /// MSG_MORE delays the bytes until the FIN takes them along, for at most 200 ms.
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
        // `try_io` clears the readiness if the peek finds nothing, but does not peek without readiness.
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
        // Fails only if the connection is already closed or broken.
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
        // On Linux, connections inherit TCP_NODELAY from the listener.
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

    /// Binds the first socket without SO_REUSEPORT, so that the bind fails while another process, even another LoadX,
    /// has the port. Then sets SO_REUSEPORT and binds the other sockets.
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
        // Listens only after all sockets are bound, so that no client meets an incomplete group.
        sockets.iter().try_for_each(|socket| socket.listen(ACCEPT_BACKLOG))?;
        Ok(sockets.into_iter().map(Into::into).collect())
    }

    fn inherited(&self, listener: &ListenerConfig) -> io::Result<Vec<Self::Socket>> {
        self.inherited.take(listener)
    }

    fn share(&self, socket: &Self::Socket) -> io::Result<Self::Socket> {
        socket.try_clone()
    }

    fn descriptor(&self, listener: &TcpListener) -> io::Result<OwnedFd> {
        listener.as_fd().try_clone_to_owned()
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
    // Connections of a former process in TIME_WAIT must not block the port.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // The IPv4 address of a name gets a separate listener.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_tcp_nodelay(true)?;
    // Client connections inherit this limit. Without the limit the system buffers megabytes for a slow client.
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
        assert!(tcp.listen(taken, 3).is_ok(), "a closed port can be bound again at once");
    }
}
