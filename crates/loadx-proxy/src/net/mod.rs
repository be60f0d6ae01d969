//! What the proxy needs of a network. [`Tcp`] is the real one; tests bring their own.

mod names;
#[cfg(target_os = "linux")]
mod queue;
#[cfg(target_os = "linux")]
mod splice;
mod tcp;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

pub use names::Resolved;
pub use tcp::Tcp;

/// A byte stream between two ends. Both directions work through a shared reference, so that one task
/// can move bytes both ways.
pub trait Stream: 'static {
    /// Ready when [`try_read`](Stream::try_read) may have something: bytes, the end or an error. It
    /// costs no system call.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Reads what is there. 0 is the end.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing yet, anything else when the connection is broken.
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Ready when [`try_write`](Stream::try_write) may take something.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Writes as much of the pieces, in order, as fits.
    ///
    /// # Errors
    /// `WouldBlock` when nothing fits now, anything else when the connection is broken.
    fn try_write(&self, pieces: &[io::IoSlice<'_>]) -> io::Result<usize>;

    /// Writes as much of `bytes` as fits, when the end of this direction follows at once: both may leave in one
    /// packet.
    ///
    /// # Errors
    /// The same as those of [`try_write`](Stream::try_write).
    fn try_write_last(&self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write(&[io::IoSlice::new(bytes)])
    }

    /// How much of what was written the other end has not confirmed yet, in bytes; none where nobody knows.
    fn unconfirmed(&self) -> Option<u64>;

    /// Where bytes wait on their way from one stream to another without being looked at.
    type Pipe: 'static;

    /// An empty pipe. None where there is none to be had, and bytes must be copied.
    fn pipe() -> Option<Self::Pipe>;

    /// Moves up to `max` bytes that are here into a pipe, which must be empty. 0 is the end.
    ///
    /// # Errors
    /// The same as those of [`try_read`](Stream::try_read).
    fn try_fill(&self, pipe: &Self::Pipe, max: usize) -> io::Result<usize>;

    /// Writes as much of the `count` bytes in the pipe as fits.
    ///
    /// # Errors
    /// The same as those of [`try_write`](Stream::try_write).
    fn try_drain(&self, pipe: &Self::Pipe, count: usize) -> io::Result<usize>;

    /// Asks the system whether nothing has come, neither bytes nor the end.
    fn holds_nothing(&self) -> bool;

    /// Ends this side's direction; the other end reads the end.
    fn shut_write(&self);

    /// Makes the coming drop visible to the other end as a broken connection, not as an end.
    fn break_off(&self);

    /// This end's address.
    ///
    /// # Errors
    /// When the connection is gone.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// The pipes of a network's streams.
pub(crate) type PipeOf<N> = <<N as Network>::Stream as Stream>::Pipe;

/// Where streams from clients come from.
pub trait Listener: 'static {
    /// The streams.
    type Stream: Stream;

    /// The next client and its address.
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Self::Stream, SocketAddr)>>;
}

/// Listens, connects and resolves names.
pub trait Network: Clone + Send + 'static {
    /// Its streams.
    type Stream: Stream;
    /// Its listeners, in use by one worker.
    type Listener: Listener<Stream = Self::Stream>;
    /// A listener that no worker uses yet.
    type Socket: Send;
    /// A stream on its way from one worker to another.
    type Parcel: Send;

    /// Takes `address` for this process alone, as `count` listeners that share its clients.
    ///
    /// # Errors
    /// When the address is not to be had; another process that holds it is always an error.
    fn listen(&self, address: SocketAddr, count: usize) -> io::Result<Vec<Self::Socket>>;

    /// The address that was taken, its port chosen by the system if it was 0.
    ///
    /// # Errors
    /// When the system does not tell.
    fn address(&self, socket: &Self::Socket) -> io::Result<SocketAddr>;

    /// Makes a listener usable by the worker that calls.
    ///
    /// # Errors
    /// When the system has no room for it.
    fn adopt(&self, socket: Self::Socket) -> io::Result<Self::Listener>;

    /// Opens a connection.
    fn connect(&self, address: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>>;

    /// What a name leads to. No addresses means that it leads nowhere, and is an answer.
    fn resolve(&self, host: &str, port: u16) -> impl Future<Output = io::Result<Resolved>>;

    /// Prepares a stream for another worker.
    ///
    /// # Errors
    /// When the stream is broken.
    fn pack(&self, stream: Self::Stream) -> io::Result<Self::Parcel>;

    /// Takes over a stream from another worker.
    ///
    /// # Errors
    /// When the system has no room for it.
    fn unpack(&self, parcel: Self::Parcel) -> io::Result<Self::Stream>;
}
