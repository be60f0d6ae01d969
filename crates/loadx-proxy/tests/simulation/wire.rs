//! HTTP/1.1 for clients and origins of the simulation: a minimal reader and writer that share no code with LoadX.

use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice};
use std::rc::Rc;

use loadx_proxy::Stream as _;

use crate::stream::SimStream;

/// How a connection ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The peer ended its direction.
    Closed,
    /// The connection was reset.
    Broken,
}

#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) start: String,
    pub(crate) fields: Vec<(String, String)>,
}

impl Head {
    fn parse(text: &str) -> Head {
        let mut lines = text.strip_suffix("\r\n\r\n").expect("a complete head").split("\r\n");
        let start = lines.next().unwrap().to_owned();
        let fields = lines.map(|line| line.split_once(": ").unwrap_or_else(|| panic!("not a field line: {line:?}")));
        Head { start, fields: fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect() }
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut named = self.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        let value = named.next().map(|(_, value)| value.as_str());
        assert!(named.next().is_none(), "{name} twice: {self:?}");
        value
    }

    pub(crate) fn status(&self) -> u16 {
        let code = self.start.strip_prefix("HTTP/1.1 ").expect("a status line").get(..3).unwrap();
        code.parse().unwrap()
    }

    /// The framing of the body by the fields; `None` without framing fields.
    pub(crate) fn framing(&self) -> Option<Framing> {
        match (self.field("content-length"), self.field("transfer-encoding")) {
            (Some(length), None) => Some(Framing::Length(length.parse().unwrap())),
            (None, Some(coding)) => {
                assert_eq!(coding, "chunked");
                Some(Framing::Chunked)
            }
            (None, None) => None,
            both => panic!("ambiguous framing: {both:?}"),
        }
    }
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

/// A received body.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) content: Vec<u8>,
    pub(crate) trailers: String,
    /// Why the body is truncated; `None` for a complete body.
    pub(crate) cut: Option<End>,
}

/// A stream with the received bytes that are not used yet.
pub(crate) struct Wire {
    pub(crate) stream: Rc<SimStream>,
    pub(crate) unread: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(stream: SimStream) -> Self {
        Wire { stream: Rc::new(stream), unread: Vec::new() }
    }

    /// Reads more bytes into `unread`.
    pub(crate) async fn more(&mut self) -> Result<(), End> {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.try_read(&mut buffer) {
                Ok(0) => return Err(End::Closed),
                Ok(count) => {
                    self.unread.extend_from_slice(&buffer[..count]);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    poll_fn(|cx| self.stream.poll_readable(cx)).await.map_err(|_| End::Broken)?;
                }
                Err(_) => return Err(End::Broken),
            }
        }
    }

    /// Reads up to the end of `mark`.
    async fn until(&mut self, mark: &[u8]) -> Result<Vec<u8>, End> {
        loop {
            if let Some(at) = self.unread.windows(mark.len()).position(|window| window == mark) {
                let rest = self.unread.split_off(at + mark.len());
                return Ok(std::mem::replace(&mut self.unread, rest));
            }
            self.more().await?;
        }
    }

    pub(crate) async fn head(&mut self) -> Result<Head, End> {
        Ok(Head::parse(&String::from_utf8(self.until(b"\r\n\r\n").await?).expect("a head is text")))
    }

    /// Appends the next `count` bytes to `content`.
    async fn take(&mut self, count: usize, content: &mut Vec<u8>) -> Result<(), End> {
        let mut left = count;
        loop {
            let here = left.min(self.unread.len());
            content.extend(self.unread.drain(..here));
            left -= here;
            if left == 0 {
                return Ok(());
            }
            self.more().await?;
        }
    }

    pub(crate) async fn body(&mut self, framing: Framing) -> Body {
        let (mut content, mut trailers) = (Vec::new(), String::new());
        let cut = match framing {
            Framing::Length(length) => self.take(length, &mut content).await.err(),
            Framing::Chunked => self.chunks(&mut content, &mut trailers).await.err(),
            Framing::UntilClose => loop {
                content.append(&mut self.unread);
                match self.more().await {
                    Ok(()) => {}
                    Err(End::Closed) => break None,
                    Err(End::Broken) => break Some(End::Broken),
                }
            },
        };
        Body { content, trailers, cut }
    }

    async fn chunks(&mut self, content: &mut Vec<u8>, trailers: &mut String) -> Result<(), End> {
        loop {
            let line = self.until(b"\r\n").await?;
            let size = std::str::from_utf8(&line).unwrap().trim_end();
            let size = usize::from_str_radix(size, 16).unwrap_or_else(|_| panic!("not a chunk size: {size:?}"));
            if size == 0 {
                break;
            }
            self.take(size, content).await?;
            assert_eq!(self.until(b"\r\n").await?, b"\r\n");
        }
        loop {
            let line = self.until(b"\r\n").await?;
            if line == b"\r\n" {
                return Ok(());
            }
            trailers.push_str(std::str::from_utf8(&line).unwrap());
        }
    }
}

/// Sends all bytes. Fails when the connection breaks.
pub(crate) async fn send(stream: &SimStream, bytes: &[u8]) -> Result<(), ()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match stream.try_write(&[IoSlice::new(rest)]) {
            Ok(count) => rest = &rest[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                poll_fn(|cx| stream.poll_writable(cx)).await.map_err(|_| ())?;
            }
            Err(_) => return Err(()),
        }
    }
    Ok(())
}

/// Encodes `content` in chunks of at most `chunk` bytes, with chunk extensions and trailers.
pub(crate) fn chunked(content: &[u8], chunk: usize, extension: &str, trailers: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in content.chunks(chunk) {
        out.extend_from_slice(format!("{:X}{extension}\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
    out
}
