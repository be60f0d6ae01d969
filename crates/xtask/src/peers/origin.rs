//! A backend that uses little CPU, so that the measurement shows the proxy.
//!
//! The paths: `/socket` switches to a tunnel that sends all bytes back, `/` answers 13 bytes, `/bytes/N` answers N bytes, `/chunked/P/N` answers N bytes in chunks of P. The
//! backend reads and discards an upload first.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read as _, Write as _};

use crate::processes::wait;
use loadx_http::{BodyDecoder, ChunkPrefix, LAST_CHUNK, Parsed, RequestHead};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

/// The most bytes of one read.
const READ_BYTES: usize = 256 * 1024;

/// The largest response, in bytes.
pub(super) const CONTENT_BYTES_MAX: usize = 128 * 1024 * 1024;

/// The token of the listener.
const ARRIVALS: Token = Token(0);

/// Serves in the calling thread until the process ends.
pub(super) fn serve(listener: std::net::TcpListener) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::from_std(listener);
    poll.registry().register(&mut listener, ARRIVALS, Interest::READABLE)?;
    let mut origin =
        Origin { connections: HashMap::new(), next: 1, buffer: vec![0; READ_BYTES], pages: HashMap::new() };
    let mut events = Events::with_capacity(1_024);
    loop {
        wait(&mut poll, &mut events, None)?;
        for event in &events {
            match event.token() {
                ARRIVALS => origin.accept(&poll, &listener),
                Token(number) => origin.advance(number),
            }
        }
    }
}

struct Origin {
    connections: HashMap<usize, Connection>,
    next: usize,
    buffer: Vec<u8>,
    /// Complete responses by path, made at the first request.
    pages: HashMap<Vec<u8>, Page>,
}

struct Connection {
    stream: TcpStream,
    /// The bytes of an incomplete head.
    pending: Vec<u8>,
    upload: Option<BodyDecoder>,
    /// Whether the connection is a tunnel.
    is_tunnel: bool,
    /// The response to send after the upload.
    page: Page,
    /// The response that is being written, and the number of written bytes.
    writing: Option<(Page, usize)>,
}

/// A complete response.
type Page = std::rc::Rc<[u8]>;

impl Origin {
    fn accept(&mut self, poll: &Poll, listener: &TcpListener) {
        while let Ok((mut stream, _)) = listener.accept() {
            let token = self.next;
            self.next += 1;
            let both = Interest::READABLE | Interest::WRITABLE;
            if stream.set_nodelay(true).is_err() || poll.registry().register(&mut stream, Token(token), both).is_err() {
                continue;
            }
            let page = Page::from(&b""[..]);
            let connection =
                Connection { stream, pending: Vec::new(), upload: None, is_tunnel: false, page, writing: None };
            self.connections.insert(token, connection);
        }
    }

    fn advance(&mut self, token: usize) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        if connection.advance(&mut self.buffer, &mut self.pages).is_err() {
            self.connections.remove(&token);
        }
    }
}

impl Connection {
    /// Reads and writes without waiting. An error, or the end of the connection, closes the connection.
    fn advance(&mut self, buffer: &mut [u8], pages: &mut HashMap<Vec<u8>, Page>) -> io::Result<()> {
        loop {
            if !self.write()? {
                return Ok(());
            }
            let count = match self.stream.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            self.take(&mut buffer[..count], pages)?;
            // A read that does not fill the buffer has emptied the socket.
            if count < buffer.len() {
                self.write()?;
                return Ok(());
            }
        }
    }

    fn take(&mut self, bytes: &mut [u8], pages: &mut HashMap<Vec<u8>, Page>) -> io::Result<()> {
        if self.is_tunnel {
            // The client waits for its bytes, so that nothing else is being written.
            self.writing = Some((Page::from(&*bytes), 0));
            return Ok(());
        }
        if self.upload.is_some() {
            return self.take_upload(bytes);
        }
        if !self.pending.is_empty() || memchr::memmem::find(bytes, b"\r\n\r\n").is_none() {
            self.pending.extend_from_slice(bytes);
            let Some(_) = memchr::memmem::find(&self.pending, b"\r\n\r\n") else { return Ok(()) };
            let mut whole = std::mem::take(&mut self.pending);
            return self.take_request(&mut whole, pages);
        }
        self.take_request(bytes, pages)
    }

    fn take_request(&mut self, bytes: &mut [u8], pages: &mut HashMap<Vec<u8>, Page>) -> io::Result<()> {
        // The fast path for a plain GET.
        if bytes.starts_with(b"GET ") && bytes.ends_with(b"\r\n\r\n") {
            let target = bytes[4..].split(|byte| *byte == b' ').next().unwrap_or_default();
            self.is_tunnel = target == b"/socket";
            self.writing = Some((page(pages, target)?, 0));
            return Ok(());
        }
        let (target, framing, length) = {
            match RequestHead::read(bytes) {
                Ok(Parsed::Complete(request, length)) => (request.target().to_vec(), request.framing(), length),
                _ => return Err(ErrorKind::InvalidData.into()),
            }
        };
        self.page = page(pages, &target)?;
        self.upload = Some(BodyDecoder::new(framing));
        self.take_upload(&mut bytes[length..])
    }

    fn take_upload(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        let Some(decoder) = &mut self.upload else { return Ok(()) };
        decoder.decode(bytes).map_err(|_| ErrorKind::InvalidData)?;
        if decoder.is_complete() {
            self.upload = None;
            self.writing = Some((Page::clone(&self.page), 0));
        }
        Ok(())
    }

    /// Writes the response. Returns whether it has been written completely.
    fn write(&mut self) -> io::Result<bool> {
        while let Some((page, at)) = &mut self.writing {
            match self.stream.write(&page[*at..]) {
                Ok(count) => *at += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
            if *at == page.len() {
                self.writing = None;
            }
        }
        Ok(true)
    }
}

fn page(pages: &mut HashMap<Vec<u8>, Page>, target: &[u8]) -> io::Result<Page> {
    if let Some(page) = pages.get(target) {
        return Ok(Page::clone(page));
    }
    let page = Page::from(spell(target)?);
    pages.insert(target.to_vec(), Page::clone(&page));
    Ok(page)
}

fn spell(target: &[u8]) -> io::Result<Vec<u8>> {
    let size = |prefix: &str| -> Option<usize> {
        std::str::from_utf8(target).ok()?.strip_prefix(prefix)?.parse().ok().filter(|size| *size <= CONTENT_BYTES_MAX)
    };
    let head = |framing: String| {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n{framing}\r\n\r\n"
        )
    };
    let length = |count: usize| head(format!("Content-Length: {count}")).into_bytes();
    if let Some(count) = size("/bytes/") {
        return Ok([length(count), vec![b'x'; count]].concat());
    }
    if let Some((piece, count)) = std::str::from_utf8(target).ok().and_then(chunked) {
        let mut response = head("Transfer-Encoding: chunked".to_owned()).into_bytes();
        for start in (0..count).step_by(piece) {
            let chunk = piece.min(count - start);
            response.extend_from_slice(ChunkPrefix::new(chunk).as_bytes());
            response.resize(response.len() + chunk, b'x');
            response.extend_from_slice(b"\r\n");
        }
        response.extend_from_slice(LAST_CHUNK);
        return Ok(response);
    }
    if target == b"/socket" {
        // HAProxy checks the answer to the key of RFC 6455, section 1.3, which the client sends.
        let accept = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        let response = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{accept}\r\n\r\n"
        );
        return Ok(response.into_bytes());
    }
    if target == b"/" || target == b"/health" {
        return Ok([length(13), b"Hello, World!".to_vec()].concat());
    }
    Err(io::Error::new(ErrorKind::InvalidInput, "no such page"))
}

/// The size of the chunks and of the content of `/chunked/P/N`, in bytes.
fn chunked(target: &str) -> Option<(usize, usize)> {
    let (piece, count) = target.strip_prefix("/chunked/")?.split_once('/')?;
    let (piece, count) = (piece.parse().ok()?, count.parse().ok()?);
    (piece > 0 && count <= CONTENT_BYTES_MAX).then_some((piece, count))
}

/// The size of the content of a path in bytes, for the client that checks the response.
pub(super) fn content_bytes(target: &str) -> Option<u64> {
    let size = target.strip_prefix("/bytes/").and_then(|size| size.parse().ok());
    let of_chunks = || chunked(target).map(|(_, count)| count as u64);
    size.or_else(of_chunks).or_else(|| (target == "/").then_some(13))
}
