//! A client and a server of HTTP/2 that send exactly the given frames. The compression of fields is that of another library.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::{Client, Connection, Origin};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// The codes of errors.
pub(crate) mod code {
    pub(crate) const NO_ERROR: u32 = 0;
    pub(crate) const PROTOCOL_ERROR: u32 = 1;
    pub(crate) const INTERNAL_ERROR: u32 = 2;
    pub(crate) const FLOW_CONTROL_ERROR: u32 = 3;
    pub(crate) const STREAM_CLOSED: u32 = 5;
    pub(crate) const FRAME_SIZE_ERROR: u32 = 6;
    pub(crate) const REFUSED_STREAM: u32 = 7;
    pub(crate) const CANCEL: u32 = 8;
    pub(crate) const COMPRESSION_ERROR: u32 = 9;
    pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;
}

/// The names of settings.
pub(crate) mod setting {
    pub(crate) const STREAMS_MAX: u16 = 3;
    pub(crate) const WINDOW: u16 = 4;
    pub(crate) const CONNECT_PROTOCOL: u16 = 8;
}

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The fields of a GET.
pub(crate) const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":authority", "test"), (":path", "/")];
/// The fields of a POST.
pub(crate) const POST: [(&str, &str); 4] = [(":method", "POST"), GET[1], GET[2], GET[3]];

/// A connection.
pub(crate) struct H2Client {
    pub(crate) client: Client,
    came: Came,
}

/// The server's side of a connection.
pub(crate) struct H2Server<'c> {
    pub(crate) connection: &'c mut Connection,
    came: Came,
    /// The requests that were returned.
    returned: Vec<u32>,
}

/// What has come on a connection.
struct Came {
    // A table of the tests' is not needed: the default of 4096 bytes.
    decoder: fluke_hpack::Decoder<'static>,
    streams: BTreeMap<u32, H2Message>,
    /// The last stream and the code of GOAWAY, if GOAWAY has come.
    goaway: Option<(u32, u32)>,
}

/// What has come on a stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct H2Message {
    /// The fields of each section: interim responses, the response, trailers.
    pub(crate) sections: Vec<Vec<(String, String)>>,
    pub(crate) body: Vec<u8>,
    /// Whether END_STREAM has come.
    pub(crate) is_complete: bool,
    /// The code of RST_STREAM.
    pub(crate) reset: Option<u32>,
}

/// A frame.
#[derive(Clone, Debug)]
pub(crate) struct H2Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl H2Message {
    /// The response without interim responses and trailers.
    fn head(&self) -> &[(String, String)] {
        let is_final = |section: &&Vec<(String, String)>| section[0].0 == ":status" && !section[0].1.starts_with('1');
        self.sections.iter().find(is_final).unwrap_or_else(|| panic!("no response: {self:?}"))
    }

    pub(crate) fn status(&self) -> u16 {
        self.head()[0].1.parse().unwrap()
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head().iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// A field of a request.
    pub(crate) fn asked(&self, name: &str) -> Option<&str> {
        self.sections[0].iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn trailer(&self, name: &str) -> Option<&str> {
        let last = self.sections.last().filter(|last| last[0].0 != ":status")?;
        last.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// The bytes of a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The bytes of a HEADERS frame.
pub(crate) fn headers(stream: u32, ends: bool, fields: &[(&str, &str)]) -> Vec<u8> {
    let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let section = fluke_hpack::Encoder::new().encode(fields);
    frame(HEADERS, END_HEADERS | if ends { END_STREAM } else { 0 }, stream, &section)
}

/// The bytes of a DATA frame.
pub(crate) fn data(stream: u32, content: &[u8], ends: bool) -> Vec<u8> {
    frame(DATA, if ends { END_STREAM } else { 0 }, stream, content)
}

/// The bytes of a RST_STREAM frame.
pub(crate) fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

/// The bytes of a WINDOW_UPDATE frame.
pub(crate) fn window(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

/// The bytes of a SETTINGS frame.
pub(crate) fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let entries = settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat());
    frame(SETTINGS, 0, 0, &entries.collect::<Vec<u8>>())
}

impl H2Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::over(Client::connect(address), &[])
    }

    /// Begins a connection with these settings.
    pub(crate) fn over(mut client: Client, first: &[(u16, u32)]) -> Self {
        client.send([PREFACE, &settings(first)].concat());
        H2Client { client, came: Came::new() }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.client.send(bytes);
        self
    }

    /// Sends a GET for this path.
    pub(crate) fn get(&mut self, stream: u32, path: &str) -> &mut Self {
        self.send(headers(stream, true, &[GET[0], GET[1], GET[2], (":path", path)]))
    }

    /// Reads the next frame. Acknowledges settings.
    pub(crate) fn try_frame(&mut self) -> Result<H2Frame, String> {
        let came = read_frame(|count| self.client.try_bytes(count))?;
        if self.came.note(&came) {
            self.client.try_send(&frame(SETTINGS, ACK, 0, b""));
        }
        Ok(came)
    }

    pub(crate) fn frame(&mut self) -> H2Frame {
        self.try_frame().expect("a frame")
    }

    /// The last stream and the code of GOAWAY, if GOAWAY has come.
    pub(crate) fn goaway(&self) -> Option<(u32, u32)> {
        self.came.goaway
    }

    /// What has come on a stream so far.
    pub(crate) fn so_far(&self, stream: u32) -> H2Message {
        self.came.streams.get(&stream).cloned().unwrap_or_default()
    }

    /// Reads until the response on this stream is complete or the stream is reset.
    pub(crate) fn response(&mut self, stream: u32) -> H2Message {
        loop {
            let so_far = self.so_far(stream);
            if so_far.is_complete || so_far.reset.is_some() {
                return so_far;
            }
            let came = self.frame();
            // Windows stay as large as they were.
            if came.kind == DATA && !came.payload.is_empty() {
                let length = came.payload.len() as u32;
                self.client.try_send(&[window(0, length), window(came.stream, length)].concat());
            }
        }
    }

    /// Waits until LoadX has read everything that was sent.
    pub(crate) fn sync(&mut self) {
        self.send(frame(PING, 0, 0, b"sync----"));
        self.until(|came| came.kind == PING && came.flags & ACK != 0 && came.payload == b"sync----");
    }

    /// Reads until this frame.
    pub(crate) fn until(&mut self, is_wanted: impl Fn(&H2Frame) -> bool) -> H2Frame {
        loop {
            let came = self.frame();
            if is_wanted(&came) {
                return came;
            }
        }
    }

    /// Reads until the connection ends; the code of the last GOAWAY.
    pub(crate) fn end(&mut self) -> Option<u32> {
        while self.try_frame().is_ok() {}
        self.came.goaway.map(|(_, code)| code)
    }
}

impl<'c> H2Server<'c> {
    /// Reads the preface, and sends these settings. None if LoadX closes the connection.
    pub(crate) fn begin(connection: &'c mut Connection, first: &[(u16, u32)]) -> Option<Self> {
        let preface = connection.take(PREFACE.len())?;
        assert_eq!(preface, PREFACE);
        connection.send(settings(first));
        Some(H2Server { connection, came: Came::new(), returned: Vec::new() })
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.connection.send(bytes);
        self
    }

    /// Reads the next frame; `None` at the end of the connection. Acknowledges settings and PINGs.
    pub(crate) fn frame(&mut self) -> Option<H2Frame> {
        let came = read_frame(|count| self.connection.take(count).ok_or_else(String::new)).ok()?;
        if self.came.note(&came) {
            self.connection.send(frame(SETTINGS, ACK, 0, b""));
        }
        if came.kind == PING && came.flags & ACK == 0 {
            self.connection.send(frame(PING, ACK, 0, &came.payload));
        }
        Some(came)
    }

    /// The last stream and the code of GOAWAY, if GOAWAY has come.
    pub(crate) fn goaway(&self) -> Option<(u32, u32)> {
        self.came.goaway
    }

    /// What has come on a stream so far.
    pub(crate) fn so_far(&self, stream: u32) -> H2Message {
        self.came.streams.get(&stream).cloned().unwrap_or_default()
    }

    /// Reads until a further request is complete.
    pub(crate) fn request(&mut self) -> Option<(u32, H2Message)> {
        loop {
            let is_new = |stream: &u32| !self.returned.contains(stream);
            let complete = self.came.streams.iter().find(|(stream, request)| request.is_complete && is_new(stream));
            if let Some((stream, request)) = complete {
                self.returned.push(*stream);
                return Some((*stream, request.clone()));
            }
            self.frame()?;
        }
    }

    /// Reads until a further request has begun.
    pub(crate) fn head(&mut self) -> Option<(u32, H2Message)> {
        loop {
            let is_new = |stream: &u32| !self.returned.contains(stream);
            let begun = self.came.streams.iter().find(|(stream, _)| is_new(stream));
            if let Some((stream, request)) = begun {
                self.returned.push(*stream);
                return Some((*stream, request.clone()));
            }
            self.frame()?;
        }
    }

    /// Answers with this status and content.
    pub(crate) fn answer(&mut self, stream: u32, status: &str, content: &str) -> &mut Self {
        self.send([headers(stream, false, &[(":status", status)]), data(stream, content.as_bytes(), true)].concat())
    }

    /// Reads until the stream is reset; the code. None at the end of the connection.
    pub(crate) fn reset_of(&mut self, stream: u32) -> Option<u32> {
        loop {
            if let Some(code) = self.so_far(stream).reset {
                return Some(code);
            }
            self.frame()?;
        }
    }

    /// Answers all requests until the end of the connection.
    pub(crate) fn answer_all(&mut self, content: &str) {
        while let Some((stream, _)) = self.request() {
            self.answer(stream, "200", content);
        }
    }
}

/// A backend that runs `script` on each connection, with these settings.
pub(crate) fn backend(
    settings: &'static [(u16, u32)],
    script: impl Fn(&mut H2Server<'_>) + Send + Sync + 'static,
) -> Origin {
    Origin::start(move |connection: &mut Connection| {
        if let Some(mut server) = H2Server::begin(connection, settings) {
            script(&mut server);
        }
    })
}

fn read_frame(mut take: impl FnMut(usize) -> Result<Vec<u8>, String>) -> Result<H2Frame, String> {
    let head = take(9)?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    Ok(H2Frame { kind: head[3], flags: head[4], stream, payload: take(length)? })
}

impl Came {
    fn new() -> Self {
        Came { decoder: fluke_hpack::Decoder::new(), streams: BTreeMap::new(), goaway: None }
    }

    /// Notes a frame. Returns whether settings must be acknowledged.
    fn note(&mut self, came: &H2Frame) -> bool {
        let number = |at: usize| u32::from_be_bytes(came.payload[at..at + 4].try_into().unwrap());
        let ends = came.flags & END_STREAM != 0;
        match came.kind {
            SETTINGS => return came.flags & ACK == 0,
            GOAWAY => self.goaway = Some((number(0), number(4))),
            HEADERS => {
                assert!(came.flags & END_HEADERS != 0, "the tests have no responses with CONTINUATION");
                let fields = self.decoder.decode(&came.payload).expect("a valid field section");
                let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
                let fields = fields.into_iter().map(|(name, value)| (text(name), text(value))).collect();
                let stream = self.streams.entry(came.stream).or_default();
                assert!(!stream.is_complete, "a field section behind the end of {}", came.stream);
                stream.sections.push(fields);
                stream.is_complete = ends;
            }
            DATA => {
                let stream = self.streams.entry(came.stream).or_default();
                assert!(!stream.is_complete, "content behind the end of {}", came.stream);
                stream.body.extend_from_slice(&came.payload);
                stream.is_complete = ends;
            }
            RST_STREAM => self.streams.entry(came.stream).or_default().reset = Some(number(0)),
            _ => {}
        }
        false
    }
}
