//! A client: sends requests one after the other, and reads each response completely.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;

use crate::reading::Reading;
use crate::timeout::Timeout;
use crate::{Failure, Outcome, Plan, Reuse};

/// The most bytes of one read, and of one write of content.
const PIECE_BYTES: usize = 256 * 1024;

/// The buffers that all clients of a run share: no client keeps bytes in a buffer across an await.
pub(crate) struct Scratch {
    input: RefCell<Box<[u8]>>,
    upload: Box<[u8]>,
}

impl Scratch {
    pub(crate) fn new(plan: &Plan) -> Self {
        let upload = usize::try_from(plan.request.body_bytes).map_or(PIECE_BYTES, |bytes| bytes.min(PIECE_BYTES));
        Scratch {
            input: RefCell::new(vec![0; PIECE_BYTES].into_boxed_slice()),
            upload: vec![b'u'; upload].into_boxed_slice(),
        }
    }
}

/// Sends requests over a connection. The first request opens the connection, as does each request after a loss.
pub(crate) struct Client {
    timeout: Timeout,
    line: Line,
}

impl Client {
    pub(crate) fn new(plan: Rc<Plan>, scratch: Rc<Scratch>) -> Self {
        Client {
            timeout: Timeout::new(plan.timeout),
            line: Line { plan, scratch, stream: None, reading: Reading::default(), reconnected: false },
        }
    }

    /// Sends a request now and waits for the complete response. `due` is the scheduled moment, `late` the time since
    /// then.
    pub(crate) async fn exchange(&mut self, due: Instant, late: Duration) -> Outcome<'_> {
        let result = self.timeout.bound(self.line.attempt()).await.unwrap_or(Err(Failure::TimedOut));
        if result.is_err() {
            self.line.stream = None;
        }
        let took = due.elapsed();
        Outcome { took, late, reconnected: self.line.reconnected, result: result.map(|()| self.line.reading.answer()) }
    }

    /// Takes the connection out of the client; the next request opens another connection.
    pub(crate) fn take_connection(&mut self) -> Option<TcpStream> {
        self.line.stream.take()
    }
}

/// The connection, and the response on the connection.
struct Line {
    plan: Rc<Plan>,
    scratch: Rc<Scratch>,
    stream: Option<TcpStream>,
    reading: Reading,
    reconnected: bool,
}

impl Line {
    async fn attempt(&mut self) -> Result<(), Failure> {
        let reused = self.stream.is_some();
        self.reconnected = false;
        match self.converse().await {
            // A server may close an idle connection at any time; the client then opens another connection.
            Err(Failure::Closed | Failure::Io(_)) if reused && !self.reading.has_begun() => {
                self.stream = None;
                self.reconnected = true;
                self.converse().await
            }
            result => result,
        }
    }

    async fn converse(&mut self) -> Result<(), Failure> {
        self.reading.reset();
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(connect(&self.plan).await.map_err(Failure::Connect)?),
        };
        send(stream, &self.plan, &self.scratch.upload).await.map_err(Failure::Io)?;
        while !receive(stream, &self.scratch, &mut self.reading).await? {}
        if self.plan.reuse == Reuse::PerRequest && !self.reading.is_persistent() {
            await_end(stream, &self.scratch).await?;
        }
        if self.plan.reuse == Reuse::PerRequest || !self.reading.is_persistent() {
            self.stream = None;
        }
        Ok(())
    }
}

async fn connect(plan: &Plan) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((plan.target.host.as_str(), plan.target.port)).await?;
    // A request without content leaves in one write. Only with content could the system delay a part.
    if plan.request.body_bytes > 0 {
        stream.set_nodelay(true)?;
    }
    Ok(stream)
}

async fn send(stream: &mut TcpStream, plan: &Plan, upload: &[u8]) -> io::Result<()> {
    stream.write_all(&plan.request.head).await?;
    let mut left = plan.request.body_bytes;
    while left > 0 {
        let piece = usize::try_from(left).map_or(upload.len(), |left| left.min(upload.len()));
        stream.write_all(&upload[..piece]).await?;
        left -= piece as u64;
    }
    Ok(())
}

/// Reads once. Returns whether the response is complete.
async fn receive(stream: &mut TcpStream, scratch: &Scratch, reading: &mut Reading) -> Result<bool, Failure> {
    read(stream, scratch, |bytes| if bytes.is_empty() { reading.end().map(|()| true) } else { reading.take(bytes) })
        .await
}

/// Waits until the server has closed the connection.
async fn await_end(stream: &mut TcpStream, scratch: &Scratch) -> Result<(), Failure> {
    read(stream, scratch, |bytes| if bytes.is_empty() { Ok(()) } else { Err(Failure::Excess) }).await
}

/// Reads once, and passes the bytes to `take`; an empty slice means that the connection has ended.
async fn read<T>(
    stream: &mut TcpStream,
    scratch: &Scratch,
    mut take: impl FnMut(&mut [u8]) -> Result<T, Failure>,
) -> Result<T, Failure> {
    // After a short read `poll_read` knows that the socket is empty, and saves a system call.
    poll_fn(|cx| {
        let mut input = scratch.input.borrow_mut();
        let mut buffer = ReadBuf::new(&mut input);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer)).map_err(Failure::Io)?;
        Poll::Ready(take(buffer.filled_mut()))
    })
    .await
}
