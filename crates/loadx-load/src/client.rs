//! A client: sends requests one after the other, and reads each response completely.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};

use crate::reading::Reading;
use crate::timeout::Timeout;
use crate::wire::Wire;
use crate::{Content, Failure, Outcome, Plan, Request, Reuse};

/// The most bytes of one read, and of one write of content.
pub(crate) const PIECE_BYTES: usize = 256 * 1024;

/// The buffers that all clients of a run share: no client keeps bytes in a buffer across an await.
pub(crate) struct Scratch {
    input: RefCell<Box<[u8]>>,
    upload: Box<[u8]>,
}

impl Scratch {
    pub(crate) fn new(plan: &Plan) -> Self {
        let filler = |request: &Request| match request.content {
            Content::Filler(size) => size,
            Content::Bytes(_) => 0,
        };
        let most = plan.mix.iter().map(filler).max().unwrap_or_default();
        let upload = usize::try_from(most).map_or(PIECE_BYTES, |bytes| bytes.min(PIECE_BYTES));
        Scratch {
            input: RefCell::new(vec![0; PIECE_BYTES].into_boxed_slice()),
            upload: vec![b'u'; upload].into_boxed_slice(),
        }
    }
}

/// Sends requests over a connection to each server. The first request opens the connection, as does each request after a loss.
pub(crate) struct Client {
    timeout: Timeout,
    line: Line,
}

impl Client {
    pub(crate) fn new(plan: Rc<Plan>, scratch: Rc<Scratch>) -> Self {
        let wires = plan.origins.iter().map(|_| None).collect();
        Client {
            timeout: Timeout::new(plan.timeout),
            line: Line { plan, scratch, wires, reading: Reading::default(), reconnected: false },
        }
    }

    /// Sends a request of the mix now and waits for the complete response. `due` is the scheduled moment, `late` the time
    /// since then.
    pub(crate) async fn exchange(&mut self, request: usize, due: Instant, late: Duration) -> Outcome<'_> {
        let origin = self.line.plan.mix[request].origin;
        let result = self.timeout.bound(self.line.attempt(request)).await.unwrap_or(Err(Failure::TimedOut));
        if result.is_err() {
            self.line.wires[origin] = None;
        }
        let took = due.elapsed();
        Outcome {
            at: Duration::ZERO,
            took,
            late,
            reconnected: self.line.reconnected,
            result: result.map(|()| self.line.reading.answer()),
        }
    }

    /// Takes the connection to the first server out of the client; the next request opens another connection.
    pub(crate) fn take_connection(&mut self) -> Option<Wire> {
        self.line.wires[0].take()
    }
}

/// The connections, and the response on one of them.
struct Line {
    plan: Rc<Plan>,
    scratch: Rc<Scratch>,
    /// The connection to each server.
    wires: Vec<Option<Wire>>,
    reading: Reading,
    reconnected: bool,
}

impl Line {
    async fn attempt(&mut self, request: usize) -> Result<(), Failure> {
        let origin = self.plan.mix[request].origin;
        let reused = self.wires[origin].is_some();
        self.reconnected = false;
        match self.converse(request).await {
            // A server may close an idle connection at any time; the client then opens another connection.
            Err(Failure::Closed | Failure::Io(_)) if reused && !self.reading.has_begun() => {
                self.wires[origin] = None;
                self.reconnected = true;
                self.converse(request).await
            }
            result => result,
        }
    }

    async fn converse(&mut self, request: usize) -> Result<(), Failure> {
        let Line { plan, scratch, wires, reading, .. } = self;
        let request = &plan.mix[request];
        reading.reset(request.is_head());
        let wire = match &mut wires[request.origin] {
            Some(wire) => wire,
            none => {
                // A request without content leaves in one write. Only with content could the system delay a part.
                let no_delay = request.content.size() > 0;
                let opening = Wire::open(&plan.origins[request.origin], plan.tls.as_ref(), no_delay);
                none.insert(opening.await.map_err(Failure::Connect)?)
            }
        };
        send(wire, request, &scratch.upload).await.map_err(Failure::Io)?;
        while !receive(wire, scratch, reading).await? {}
        if plan.reuse == Reuse::PerRequest && !reading.is_persistent() {
            await_end(wire, scratch).await?;
        }
        if plan.reuse == Reuse::PerRequest || !reading.is_persistent() {
            wires[request.origin] = None;
        }
        Ok(())
    }
}

async fn send(wire: &mut Wire, request: &Request, upload: &[u8]) -> io::Result<()> {
    wire.write_all(&request.head).await?;
    match &request.content {
        Content::Bytes(bytes) => wire.write_all(bytes).await?,
        Content::Filler(size) => {
            let mut left = *size;
            while left > 0 {
                let piece = usize::try_from(left).map_or(upload.len(), |left| left.min(upload.len()));
                wire.write_all(&upload[..piece]).await?;
                left -= piece as u64;
            }
        }
    }
    wire.flush().await
}

/// Reads once. Returns whether the response is complete.
async fn receive(wire: &mut Wire, scratch: &Scratch, reading: &mut Reading) -> Result<bool, Failure> {
    read(wire, scratch, |bytes| if bytes.is_empty() { reading.end().map(|()| true) } else { reading.take(bytes) }).await
}

/// Waits until the server has closed the connection.
async fn await_end(wire: &mut Wire, scratch: &Scratch) -> Result<(), Failure> {
    read(wire, scratch, |bytes| if bytes.is_empty() { Ok(()) } else { Err(Failure::Excess) }).await
}

/// Reads once, and passes the bytes to `take`; an empty slice means that the connection has ended.
async fn read<T>(
    wire: &mut Wire,
    scratch: &Scratch,
    mut take: impl FnMut(&mut [u8]) -> Result<T, Failure>,
) -> Result<T, Failure> {
    // After a short read `poll_read` knows that the socket is empty, and saves a system call.
    poll_fn(|cx| {
        let mut input = scratch.input.borrow_mut();
        let mut buffer = ReadBuf::new(&mut input);
        ready!(Pin::new(&mut *wire).poll_read(cx, &mut buffer)).map_err(Failure::Io)?;
        Poll::Ready(take(buffer.filled_mut()))
    })
    .await
}
