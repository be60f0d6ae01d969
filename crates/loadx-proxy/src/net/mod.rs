//! The network traits of the proxy. [`Tcp`] implements them for the operating system; tests use simulated networks.

mod inherited;
mod names;
#[cfg(target_os = "linux")]
mod queue;
#[cfg(target_os = "linux")]
mod splice;
mod tcp;
mod transport;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll};
use std::time::SystemTime;

use loadx_core::config::ListenerConfig;

pub use inherited::{InheritedFor, InheritedSocket};
pub use names::Resolved;
pub use tcp::Tcp;
pub(crate) use transport::Transport;

/// A byte stream. Reads and writes take a shared reference, so that one task can move bytes in both directions.
pub trait Stream: 'static {
    /// Ready when [`try_read`](Stream::try_read) may return bytes, the end or an error. Costs no system call.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Reads the available bytes. Returns their number; 0 means the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` when no bytes are available; any other error means that the connection is broken.
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Ready when [`try_write`](Stream::try_write) may write bytes or fail. Costs no system call.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Writes as many bytes of the pieces as fit, in order. Returns their number.
    ///
    /// # Errors
    /// `WouldBlock` when no byte fits; any other error means that the connection is broken.
    fn try_write(&self, pieces: &[io::IoSlice<'_>]) -> io::Result<usize>;

    /// Writes as [`try_write`](Stream::try_write). The caller ends this direction immediately afterwards, so the end of
    /// the stream may share a packet with the bytes.
    ///
    /// # Errors
    /// As for [`try_write`](Stream::try_write).
    fn try_write_last(&self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write(&[io::IoSlice::new(bytes)])
    }

    /// The number of written bytes that the peer has not confirmed; `None` if the system cannot tell.
    fn unconfirmed(&self) -> Option<u64>;

    /// Whether bodies may go through a pipe. Bytes that must be encrypted or decrypted cannot.
    fn has_pipes(&self) -> bool {
        true
    }

    /// Moves bytes between two streams without a copy to user space.
    type Pipe: 'static;

    /// Makes an empty pipe; `None` if the system has none, so that the caller must copy.
    fn pipe() -> Option<Self::Pipe>;

    /// Moves up to `max` available bytes into `pipe`, which must be empty. Returns their number; 0 means the end of the
    /// stream.
    ///
    /// # Errors
    /// As for [`try_read`](Stream::try_read).
    fn try_fill(&self, pipe: &Self::Pipe, max: usize) -> io::Result<usize>;

    /// Writes as many of the `count` bytes in `pipe` as fit. Returns their number.
    ///
    /// # Errors
    /// As for [`try_write`](Stream::try_write).
    fn try_drain(&self, pipe: &Self::Pipe, count: usize) -> io::Result<usize>;

    /// Asks the system whether neither bytes nor the end of the stream have arrived. Costs a system call.
    fn holds_nothing(&self) -> bool;

    /// Ends the direction to the peer (a half-close).
    fn shut_write(&self);

    /// Whether a drop now still delivers all that was written, and the end of the direction. Otherwise the caller ends the
    /// direction and waits for the peer.
    fn drops_cleanly(&self) -> bool {
        true
    }

    /// Makes the later drop reset the connection.
    fn break_off(&self);

    /// The local address.
    ///
    /// # Errors
    /// When the connection no longer exists.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// The pipe type of a network.
pub(crate) type PipeOf<N> = <<N as Network>::Stream as Stream>::Pipe;

/// The type of the connections of a network: encrypted or not.
pub(crate) type StreamOf<N> = Transport<<N as Network>::Stream>;

/// Accepts connections from clients.
pub trait Listener: 'static {
    /// The accepted streams.
    type Stream: Stream;

    /// Accepts the next connection. Returns the stream and the address of the client.
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Self::Stream, SocketAddr)>>;
}

/// Listens, connects and resolves names.
pub trait Network: Clone + Send + 'static {
    /// The streams of this network.
    type Stream: Stream;
    /// A listener in use by one worker.
    type Listener: Listener<Stream = Self::Stream>;
    /// A listener that no worker uses yet.
    type Socket: Send;
    /// A stream in transfer from one worker to another.
    type Parcel: Send;

    /// Binds `address` exclusively for this process, as `count` listeners that share the connections.
    ///
    /// # Errors
    /// When the address cannot be bound, for example because another process has it.
    fn listen(&self, address: SocketAddr, count: usize) -> io::Result<Vec<Self::Socket>>;

    /// The sockets that another process gave to this one for a listener; none if there are none.
    ///
    /// # Errors
    /// When a socket cannot be used.
    fn inherited(&self, listener: &ListenerConfig) -> io::Result<Vec<Self::Socket>> {
        let _ = listener;
        Ok(Vec::new())
    }

    /// Another socket for the same queue of clients.
    ///
    /// # Errors
    /// When the system has no room, or the network cannot do that.
    fn share(&self, socket: &Self::Socket) -> io::Result<Self::Socket> {
        let _ = socket;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// A descriptor for another process, for the same queue of clients.
    ///
    /// # Errors
    /// When the system has no room, or the network cannot do that.
    fn descriptor(&self, listener: &Self::Listener) -> io::Result<OwnedFd> {
        let _ = listener;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The time of day for Date. A simulation has its own, because the length of a compressed Date depends on the digits.
    fn time_of_day(&self) -> SystemTime {
        SystemTime::now()
    }

    /// The bound address; with the port that the system chose if the port was 0.
    ///
    /// # Errors
    /// When the system call fails.
    fn address(&self, socket: &Self::Socket) -> io::Result<SocketAddr>;

    /// Registers a listener with the runtime of the calling worker.
    ///
    /// # Errors
    /// When the runtime cannot register the listener.
    fn adopt(&self, socket: Self::Socket) -> io::Result<Self::Listener>;

    /// Connects to `address`.
    fn connect(&self, address: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>>;

    /// Resolves a name. A name without addresses is a result, not an error.
    fn resolve(&self, host: &str, port: u16) -> impl Future<Output = io::Result<Resolved>>;

    /// Detaches a stream from the runtime of the calling worker.
    ///
    /// # Errors
    /// When the runtime cannot release the stream.
    fn pack(&self, stream: Self::Stream) -> io::Result<Self::Parcel>;

    /// Registers a stream from another worker with the runtime of the calling worker.
    ///
    /// # Errors
    /// When the runtime cannot register the stream.
    fn unpack(&self, parcel: Self::Parcel) -> io::Result<Self::Stream>;
}
