//! One connection's worth of load: sends a request, reads the whole response, again and again.

use std::io;
use std::time::{Duration, Instant};

use loadx_http::{BodyDecoder, BodyFault, Fault, FieldSlots, Framing, Parsed, parse_response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::Target;

/// A buffer to read into, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;

/// What came of one request.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) took: Duration,
    pub(crate) result: Result<Answer, Failure>,
}

/// A whole response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// What the X-Backend field names; the test backend sets it.
    pub(crate) backend: Option<String>,
    /// Content, in bytes.
    pub(crate) bytes: u64,
}

/// Why there is no whole response.
#[derive(Debug)]
pub(crate) enum Failure {
    Connect(io::Error),
    Io(io::Error),
    Closed,
    TimedOut,
    Head(Fault),
    Body(BodyFault),
}

impl Failure {
    /// The kind that errors are counted by.
    pub(crate) fn kind(&self) -> String {
        let named = |prefix: &str, error: &io::Error| match error.kind() {
            io::ErrorKind::ConnectionRefused => format!("{prefix}: connection refused"),
            io::ErrorKind::ConnectionReset => format!("{prefix}: connection reset"),
            io::ErrorKind::BrokenPipe => format!("{prefix}: connection closed"),
            _ => format!("{prefix}: {error}"),
        };
        match self {
            Failure::Connect(error) => named("connect", error),
            Failure::Io(error) => named("exchange", error),
            Failure::Closed => "exchange: connection closed before a response".to_owned(),
            Failure::TimedOut => "timed out".to_owned(),
            Failure::Head(fault) => format!("bad response: {fault}"),
            Failure::Body(fault) => format!("bad response: {}", fault.as_str()),
        }
    }
}

/// A connection that is opened when needed.
pub(crate) struct Client {
    target: Target,
    timeout: Duration,
    request: Vec<u8>,
    stream: Option<TcpStream>,
    buffer: Box<[u8]>,
    /// Bytes of the buffer that were read and not used yet.
    filled: usize,
    /// Whether a byte of the response to the present request has come. From then on a broken connection
    /// is a failure, and never just an idle connection that was closed.
    response_began: bool,
    reconnects: u64,
}

impl Client {
    pub(crate) fn new(target: Target, timeout: Duration) -> Self {
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: LoadX-bench\r\nAccept: */*\r\n\r\n",
            target.path,
            target.authority()
        );
        Client {
            target,
            timeout,
            request: request.into_bytes(),
            stream: None,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            filled: 0,
            response_began: false,
            reconnects: 0,
        }
    }

    /// How often the server closed an idle connection, so that the request went out again on a new one.
    pub(crate) fn reconnects(&self) -> u64 {
        self.reconnects
    }

    /// Sends a request and waits for the whole response.
    pub(crate) async fn exchange(&mut self) -> Exchange {
        let began = Instant::now();
        let result = match tokio::time::timeout(self.timeout, self.attempt()).await {
            Ok(result) => result,
            Err(_) => Err(Failure::TimedOut),
        };
        if result.is_err() {
            self.close();
        }
        Exchange { took: began.elapsed(), result }
    }

    async fn attempt(&mut self) -> Result<Answer, Failure> {
        let reused = self.stream.is_some();
        match self.converse().await {
            // A server may close an idle connection at any time; a client then simply opens another.
            Err(Failure::Closed | Failure::Io(_)) if reused && !self.response_began => {
                self.close();
                self.reconnects += 1;
                self.converse().await
            }
            result => result,
        }
    }

    fn close(&mut self) {
        self.stream = None;
        self.filled = 0;
    }

    async fn converse(&mut self) -> Result<Answer, Failure> {
        if self.stream.is_none() {
            let connected = TcpStream::connect((self.target.host.as_str(), self.target.port)).await;
            let stream = connected.map_err(Failure::Connect)?;
            stream.set_nodelay(true).map_err(Failure::Connect)?;
            self.stream = Some(stream);
        }
        self.response_began = self.filled > 0;
        let stream = self.stream.as_mut().ok_or(Failure::Closed)?;
        stream.write_all(&self.request).await.map_err(Failure::Io)?;
        let head = self.head().await?;
        let mut answer = Answer { status: head.status, backend: head.backend, bytes: 0 };
        let mut decoder = BodyDecoder::new(head.framing);
        loop {
            let decoded = decoder.decode(&mut self.buffer[..self.filled]).map_err(Failure::Body)?;
            answer.bytes += decoded.content as u64;
            self.buffer.copy_within(decoded.consumed..self.filled, 0);
            self.filled -= decoded.consumed;
            if decoder.is_complete() {
                break;
            }
            if self.read().await? == 0 {
                decoder.end_of_input().map_err(Failure::Body)?;
            }
        }
        if !head.persistent {
            self.close();
        }
        Ok(answer)
    }

    /// Reads the response's head; interim responses are passed over.
    async fn head(&mut self) -> Result<Head, Failure> {
        loop {
            if let Some((head, length)) = self.parse()? {
                self.buffer.copy_within(length..self.filled, 0);
                self.filled -= length;
                match head.status {
                    ..200 => continue,
                    _ => return Ok(head),
                }
            }
            if self.read().await? == 0 {
                return Err(Failure::Closed);
            }
        }
    }

    fn parse(&self) -> Result<Option<(Head, usize)>, Failure> {
        if self.filled == 0 {
            return Ok(None);
        }
        let mut slots = FieldSlots::new();
        let parsed = parse_response(&self.buffer[..self.filled], false, &mut slots).map_err(Failure::Head)?;
        let Parsed::Complete(response, length) = parsed else { return Ok(None) };
        let head = Head {
            status: response.status(),
            framing: response.framing(),
            persistent: response.persistent(),
            backend: response.field("x-backend").map(|value| String::from_utf8_lossy(value).into_owned()),
        };
        Ok(Some((head, length)))
    }

    async fn read(&mut self) -> Result<usize, Failure> {
        let stream = self.stream.as_mut().ok_or(Failure::Closed)?;
        let count = stream.read(&mut self.buffer[self.filled..]).await.map_err(Failure::Io)?;
        self.filled += count;
        self.response_began |= count > 0;
        Ok(count)
    }
}

struct Head {
    status: u16,
    framing: Framing,
    persistent: bool,
    backend: Option<String>,
}
