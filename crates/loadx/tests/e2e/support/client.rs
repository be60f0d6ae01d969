//! A client that sends exactly the given bytes, and reads responses.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use rustls::ClientConnection;

use super::PATIENCE;

/// A raw connection.
pub(crate) struct Client {
    stream: TcpStream,
    tls: Option<ClientConnection>,
    unread: Vec<u8>,
}

/// The content of a connection, encrypted or not.
struct Content<'c> {
    stream: &'c mut TcpStream,
    tls: Option<&'c mut ClientConnection>,
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(*tls, self.stream).read(buffer),
            None => self.stream.read(buffer),
        }
    }
}

impl Write for Content<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(*tls, self.stream).write(bytes),
            None => self.stream.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(*tls, self.stream).flush(),
            None => Ok(()),
        }
    }
}

/// A response, byte for byte.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// The bytes from the status line to the empty line.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1);
        let mut fields = lines.filter_map(|line| line.split_once(':'));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.text()))
    }
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).expect("the server listens"))
    }

    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, tls: None, unread: Vec::new() }
    }

    /// Makes the handshake of TLS. Returns what the server sends in the place of an answer as an error.
    pub(crate) fn with_tls(mut self, tls: ClientConnection) -> Result<Self, std::io::Error> {
        let mut tls = tls;
        while tls.is_handshaking() {
            tls.complete_io(&mut self.stream)?;
        }
        self.tls = Some(tls);
        Ok(self)
    }

    /// What the handshake agreed on.
    pub(crate) fn tls(&self) -> &ClientConnection {
        self.tls.as_ref().expect("the connection has TLS")
    }

    fn content(&mut self) -> Content<'_> {
        Content { stream: &mut self.stream, tls: self.tls.as_mut() }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.content()
            .write_all(bytes.as_ref())
            .and_then(|()| self.content().flush())
            .expect("the server reads the bytes");
        self
    }

    /// Sends as much as the server reads. Returns whether all bytes were sent.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.content().write_all(bytes).and_then(|()| self.content().flush()).is_ok()
    }

    /// Sends a GET.
    pub(crate) fn get(&mut self, path: &str) -> &mut Self {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"))
    }

    /// Reads the next response completely.
    pub(crate) fn response(&mut self) -> Response {
        self.try_response().expect("a whole response")
    }

    /// Reads the next response to a HEAD.
    pub(crate) fn response_to_head(&mut self) -> Response {
        self.head().expect("a response head")
    }

    /// Reads the next response; the error has the part that arrived before the connection ended.
    pub(crate) fn try_response(&mut self) -> Result<Response, String> {
        let mut response = self.head()?;
        if response.status < 200 || matches!(response.status, 204 | 304) {
            return Ok(response);
        }
        response.body = if response.field("transfer-encoding") == Some("chunked") {
            self.chunks()?
        } else if let Some(length) = response.field("content-length") {
            let length: usize = length.parse().unwrap();
            self.take(length)?
        } else {
            self.rest()?
        };
        Ok(response)
    }

    /// Reads `count` bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        self.take(count).expect("the server sends that many bytes")
    }

    /// Reads `count` bytes; the error tells how the connection ended.
    pub(crate) fn try_bytes(&mut self, count: usize) -> Result<Vec<u8>, String> {
        self.take(count)
    }

    /// Sends and reads at the same time, which an echo requires.
    pub(crate) fn send_and_read(&mut self, bytes: &[u8], count: usize, check: impl FnOnce(&[u8])) {
        let mut writer = self.stream.try_clone().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || writer.write_all(bytes).expect("the server reads the bytes"));
            check(&self.bytes(count));
        });
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    /// Ends the client's direction of the connection.
    pub(crate) fn end(&self) {
        assert!(self.tls.is_none(), "the end of TLS is a record");
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Makes the next drop reset the connection.
    pub(crate) fn reset(&self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Whether neither bytes nor the end of the connection arrive within `span`.
    pub(crate) fn is_silent(&mut self, span: Duration) -> bool {
        self.stream.set_read_timeout(Some(span)).unwrap();
        let silent = self.unread.is_empty()
            && matches!(self.stream.peek(&mut [0]), Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        silent
    }

    /// The status of the next response, without reading the response.
    pub(crate) fn peek_status(&mut self) -> u16 {
        let line = self.line().expect("a status line");
        self.unread.splice(0..0, line.bytes());
        line.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status code")
    }

    fn head(&mut self) -> Result<Response, String> {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            self.more()?;
        };
        let head = String::from_utf8_lossy(&self.take(end)?).into_owned();
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status code");
        Ok(Response { status, head, body: Vec::new() })
    }

    fn chunks(&mut self) -> Result<Vec<u8>, String> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let size = usize::from_str_radix(line.trim_end(), 16).expect("a chunk size");
            if size == 0 {
                while self.line()? != "\r\n" {}
                return Ok(body);
            }
            body.extend(self.take(size)?);
            assert_eq!(self.take(2)?, b"\r\n");
        }
    }

    fn line(&mut self) -> Result<String, String> {
        loop {
            if let Some(at) = self.unread.iter().position(|byte| *byte == b'\n') {
                return Ok(String::from_utf8(self.take(at + 1)?).unwrap());
            }
            self.more()?;
        }
    }

    /// Waits for `count` bytes and reads them.
    fn take(&mut self, count: usize) -> Result<Vec<u8>, String> {
        while self.unread.len() < count {
            self.more()?;
        }
        let rest = self.unread.split_off(count);
        Ok(std::mem::replace(&mut self.unread, rest))
    }

    fn more(&mut self) -> Result<(), String> {
        let mut buffer = [0; 16 * 1024];
        match self.content().read(&mut buffer) {
            Ok(0) => Err(format!("the connection ended after {} bytes", self.unread.len())),
            Ok(count) => {
                self.unread.extend_from_slice(&buffer[..count]);
                Ok(())
            }
            Err(error) => Err(format!("the connection broke after {} bytes: {error}", self.unread.len())),
        }
    }

    /// Reads until the server closes the connection without a reset.
    fn rest(&mut self) -> Result<Vec<u8>, String> {
        let mut rest = std::mem::take(&mut self.unread);
        match self.content().read_to_end(&mut rest) {
            Ok(_) => Ok(rest),
            Err(error) => Err(format!("the connection broke after {} bytes: {error}", rest.len())),
        }
    }

    /// Reads until the connection ends or is reset; returns the bytes as text.
    pub(crate) fn until_end(&mut self) -> String {
        let mut rest = std::mem::take(&mut self.unread);
        let mut buffer = [0; 4096];
        loop {
            match self.content().read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => rest.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                Err(error) => panic!("the connection did not end: {error}"),
            }
        }
        String::from_utf8_lossy(&rest).into_owned()
    }

    /// Whether the server has closed the connection, with nothing left unread.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.until_end().is_empty()
    }
}
