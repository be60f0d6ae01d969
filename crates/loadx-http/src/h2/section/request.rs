//! The section of a request.

use std::ops::ControlFlow;

use super::SectionFault;
use super::fields::{self, Fields, is_token, is_visible, put_line};
use crate::h2::priority::Priority;

/// Collects the section of a request, as text in the notation of HTTP/1.1.
#[derive(Debug)]
pub struct RequestSection<'o> {
    fields: Fields<'o>,
    pseudo: Pseudo,
    memory: &'o mut RequestMemory,
    has_host: bool,
    /// Whether the start line is written, so that no pseudo-header field may follow.
    has_start_line: bool,
    has_length: bool,
    length: Option<u64>,
    priority: Priority,
}

/// The memory that reading the section of a request needs meanwhile. With the memory of a former section, reading allocates
/// nothing.
#[derive(Debug, Default)]
pub struct RequestMemory {
    /// The values of the pseudo-header fields, one after the other.
    values: Vec<u8>,
    /// The values of Cookie, which may come in crumbs (RFC 9113, section 8.2.3).
    cookie: Vec<u8>,
}

/// Where the values of the pseudo-header fields are.
#[derive(Debug, Default)]
struct Pseudo {
    method: Option<Range>,
    scheme: Option<Range>,
    authority: Option<Range>,
    path: Option<Range>,
    protocol: Option<Range>,
}

type Range = std::ops::Range<usize>;

/// What a section asks for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// A request with a target.
    Plain,
    /// A tunnel to another host (CONNECT).
    Connect,
    /// A tunnel for a protocol (extended CONNECT, RFC 8441). The text is that of a GET that offers the protocol in Upgrade.
    Tunnel,
}

/// A request beside its text.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What the request asks for.
    pub kind: RequestKind,
    /// The Content-Length, in bytes.
    pub length: Option<u64>,
    /// The field `priority`.
    pub priority: Priority,
}

impl<'o> RequestSection<'o> {
    /// `size_max`: the largest section, in bytes (SETTINGS_MAX_HEADER_LIST_SIZE). `out` gets the text.
    pub fn new(size_max: usize, memory: &'o mut RequestMemory, out: &'o mut Vec<u8>) -> Self {
        memory.values.clear();
        memory.cookie.clear();
        RequestSection {
            fields: Fields::new(size_max, out),
            pseudo: Pseudo::default(),
            memory,
            has_host: false,
            has_start_line: false,
            has_length: false,
            length: None,
            priority: Priority::default(),
        }
    }

    /// Takes the next field.
    pub fn take(&mut self, name: &[u8], value: &[u8]) -> ControlFlow<()> {
        if self.fields.count(name, value) {
            match name.first() {
                Some(b':') => self.pseudo(name, value),
                _ => self.field(name, value),
            }
        }
        self.fields.flow()
    }

    fn pseudo(&mut self, name: &[u8], value: &[u8]) {
        let Pseudo { method, scheme, authority, path, protocol } = &mut self.pseudo;
        let place = match name {
            b":method" => method,
            b":scheme" => scheme,
            b":authority" => authority,
            b":path" => path,
            b":protocol" => protocol,
            _ => return self.fields.malformed("an unknown pseudo-header field"),
        };
        if place.is_some() {
            return self.fields.malformed("a pseudo-header field appears twice");
        }
        if self.has_start_line {
            return self.fields.malformed("a pseudo-header field stands behind a field");
        }
        let start = self.memory.values.len();
        self.memory.values.extend_from_slice(value);
        *place = Some(start..self.memory.values.len());
    }

    fn field(&mut self, name: &[u8], value: &[u8]) {
        if !self.has_start_line {
            self.start_line();
            if self.fields.fault().is_some() {
                // The text has no start line, in whose place the field would stand.
                return;
            }
        }
        match name {
            b"cookie" => match fields::fault_of(name, value) {
                Some(reason) => self.fields.malformed(reason),
                None => {
                    let separator: &[u8] = if self.memory.cookie.is_empty() { b"" } else { b"; " };
                    self.memory.cookie.extend_from_slice(separator);
                    self.memory.cookie.extend_from_slice(value);
                }
            },
            b"host" if self.has_host => self.fields.malformed("Host appears twice"),
            b"host" => {
                self.has_host = true;
                match &self.pseudo.authority {
                    None => self.fields.put(name, value),
                    // The text has the authority as Host already.
                    Some(authority) if self.memory.values[authority.clone()].eq_ignore_ascii_case(value) => {}
                    Some(_) => self.fields.malformed("Host and :authority differ"),
                }
            }
            b"content-length" => {
                self.has_length = true;
                self.fields.put(name, value);
                // What is no number is a fault of the parser of HTTP/1.1.
                self.length = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            }
            b"priority" => {
                self.priority = Priority::of(value);
                self.fields.put(name, value);
            }
            _ => self.fields.put(name, value),
        }
    }

    /// Writes the start line and Host.
    fn start_line(&mut self) {
        self.has_start_line = true;
        let value = |range: &Option<Range>| range.clone().map(|range| &self.memory.values[range]);
        let Pseudo { method, scheme, authority, path, protocol } = &self.pseudo;
        let (method, authority) = (value(method), value(authority));
        let reason = match (method, value(scheme), value(path), value(protocol)) {
            (None, ..) => Some("there is no :method"),
            (Some(method), ..) if !is_token(method) => Some(":method is no method"),
            (Some(b"CONNECT"), None, None, None) if authority.is_some() => None,
            (Some(b"CONNECT"), _, _, None) => Some("CONNECT has :scheme or :path, or no :authority"),
            (Some(_), None, ..) => Some("there is no :scheme"),
            (Some(_), Some(b"http" | b"https"), None, _) => Some("there is no :path"),
            (Some(method), Some(b"http" | b"https"), Some(path), protocol) => match (path, protocol) {
                (_, Some(_)) if method != b"CONNECT" => Some(":protocol stands in another request than CONNECT"),
                (_, Some(protocol)) if !is_token(protocol) => Some(":protocol is no protocol"),
                (b"*", None) if method == b"OPTIONS" => None,
                (b"*", _) => Some(":path is * without OPTIONS"),
                (path, _) if path.first() != Some(&b'/') || !is_visible(path) => Some(":path is no path"),
                _ => None,
            },
            _ => Some(":scheme is neither http nor https"),
        };
        let reason = reason.or(authority.filter(|host| host.is_empty() || !is_visible(host)).map(|_| {
            // A client that has no authority leaves the field out (RFC 9113, section 8.3.1).
            ":authority is no host"
        }));
        if let Some(reason) = reason {
            return self.fields.malformed(reason);
        }
        let (method, target) = match (self.kind(), method, value(path)) {
            (RequestKind::Tunnel, _, path) => (&b"GET"[..], path),
            (RequestKind::Connect, method, _) => (method.unwrap_or_default(), authority),
            (RequestKind::Plain, method, path) => (method.unwrap_or_default(), path),
        };
        let out = &mut *self.fields.out;
        for part in [method, b" ", target.unwrap_or_default(), b" HTTP/1.1\r\n"] {
            out.extend_from_slice(part);
        }
        if let Some(authority) = authority {
            put_line(b"host", authority, out);
        }
    }

    fn kind(&self) -> RequestKind {
        let method = self.pseudo.method.clone().map(|range| &self.memory.values[range]);
        match (method, &self.pseudo.protocol) {
            (Some(b"CONNECT"), Some(_)) => RequestKind::Tunnel,
            (Some(b"CONNECT"), None) => RequestKind::Connect,
            _ => RequestKind::Plain,
        }
    }

    /// Ends the section; the text is then a whole head of HTTP/1.1. `ends`: whether the message has no content.
    ///
    /// # Errors
    /// Any [`SectionFault`].
    pub fn finish(mut self, ends: bool) -> Result<Asked, SectionFault> {
        if !self.has_start_line && self.fields.fault().is_none() {
            self.start_line();
        }
        if ends && self.length.is_some_and(|length| length > 0) {
            self.fields.malformed("the message ends before its Content-Length");
        }
        let kind = self.kind();
        if self.length.is_some() && kind != RequestKind::Plain {
            self.fields.malformed("CONNECT has a Content-Length");
        }
        if let Some(fault) = self.fields.fault() {
            return Err(fault);
        }
        let out = &mut *self.fields.out;
        if let Some(protocol) = &self.pseudo.protocol {
            put_line(b"connection", b"upgrade", out);
            put_line(b"upgrade", &self.memory.values[protocol.clone()], out);
        }
        if !self.memory.cookie.is_empty() {
            put_line(b"cookie", &self.memory.cookie, out);
        }
        // The parser of HTTP/1.1 must know that content follows. A tunnel has no content.
        if !ends && !self.has_length && kind == RequestKind::Plain {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        out.extend_from_slice(b"\r\n");
        Ok(Asked { kind, length: self.length, priority: self.priority })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Framing, Parsed, RequestHead, parse_request};

    const GET: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "https"), (":path", "/a?b"), (":authority", "x.test")];

    fn read(fields: &[(&str, &str)], ends: bool) -> Result<(RequestKind, String), SectionFault> {
        let mut out = Vec::new();
        let mut memory = RequestMemory::default();
        let mut section = RequestSection::new(16_384, &mut memory, &mut out);
        for (name, value) in fields {
            assert!(section.take(name.as_bytes(), value.as_bytes()).is_continue());
        }
        let kind = section.finish(ends)?.kind;
        Ok((kind, String::from_utf8(out).unwrap()))
    }

    fn text(fields: &[(&str, &str)], ends: bool) -> String {
        read(fields, ends).unwrap().1
    }

    #[test]
    fn requests_become_heads() {
        assert_eq!(text(&GET, true), "GET /a?b HTTP/1.1\r\nhost: x.test\r\n\r\n");
        let more = [&GET[..], &[("accept", "*/*"), ("x-empty", ""), ("te", "Trailers"), ("host", "X.test")]].concat();
        assert_eq!(
            text(&more, true),
            "GET /a?b HTTP/1.1\r\nhost: x.test\r\naccept: */*\r\nx-empty: \r\nte: Trailers\r\n\r\n"
        );
        let order = [(":path", "*"), (":scheme", "http"), (":method", "OPTIONS"), ("host", "y.test")];
        assert_eq!(text(&order, true), "OPTIONS * HTTP/1.1\r\nhost: y.test\r\n\r\n", "without :authority");
        let crumbs = [&GET[..], &[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")]].concat();
        assert_eq!(
            text(&crumbs, true),
            "GET /a?b HTTP/1.1\r\nhost: x.test\r\nx: y\r\ncookie: a=1; b=2; c=3\r\n\r\n",
            "one line of Cookie"
        );
    }

    #[test]
    fn the_length_of_content_is_told() {
        let post = [&[(":method", "POST")], &GET[1..]].concat();
        assert!(text(&post, false).ends_with("\r\nhost: x.test\r\ntransfer-encoding: chunked\r\n\r\n"));
        let with_length = |length| [&post[..], &[("content-length", length)]].concat();
        assert!(text(&with_length("5"), false).ends_with("\r\ncontent-length: 5\r\n\r\n"));
        assert!(text(&with_length("0"), true).ends_with("\r\ncontent-length: 0\r\n\r\n"));
        let short = SectionFault::Malformed("the message ends before its Content-Length");
        assert_eq!(read(&with_length("5"), true), Err(short));
    }

    #[test]
    fn connect_has_its_own_forms() {
        let connect = [(":method", "CONNECT"), (":authority", "x.test:443")];
        let head = "CONNECT x.test:443 HTTP/1.1\r\nhost: x.test:443\r\n\r\n";
        assert_eq!(read(&connect, false), Ok((RequestKind::Connect, head.to_owned())));
        let tunnel = [&[(":method", "CONNECT"), (":protocol", "websocket")], &GET[1..]].concat();
        assert_eq!(read(&tunnel, false).unwrap().0, RequestKind::Tunnel);
        assert_eq!(
            text(&tunnel, false),
            "GET /a?b HTTP/1.1\r\nhost: x.test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
        );
    }

    #[test]
    fn malformed_requests_are_refused() {
        let without = |name: &str| GET.into_iter().filter(|(other, _)| *other != name).collect::<Vec<_>>();
        let with = |name, value| [&GET[..], &[(name, value)]].concat();
        let instead = |name: &'static str, value: &'static str| {
            GET.map(|(other, former)| (other, if other == name { value } else { former })).to_vec()
        };
        let mut cases = vec![
            without(":method"),
            without(":scheme"),
            without(":path"),
            instead(":method", ""),
            instead(":method", "G ET"),
            instead(":method", "GET / HTTP/1.1\r\nx:"),
            instead(":scheme", ""),
            instead(":scheme", "ftp"),
            instead(":scheme", "HTTPS"),
            instead(":path", ""),
            instead(":path", "a"),
            instead(":path", "*"),
            instead(":path", "/a b"),
            instead(":path", "/a\tb"),
            instead(":path", "/a\r\nx: y"),
            instead(":path", "/\u{e4}"),
            instead(":path", "http://y.test/"),
            instead(":authority", ""),
            instead(":authority", "x y"),
            instead(":authority", "x\r\ny: z"),
            with(":path", "/b"),
            with(":status", "200"),
            with(":other", "x"),
            with("", "x"),
            with("Accept", "x"),
            with("a b", "x"),
            with("a:b", "x"),
            with("x", " y"),
            with("x", "y "),
            with("x", "\ty"),
            with("x", "a\rb"),
            with("x", "a\nb"),
            with("x", "a\0b"),
            with("x", "a\x7fb"),
            with("cookie", "a\nb"),
            with("connection", "close"),
            with("keep-alive", "x"),
            with("proxy-connection", "x"),
            with("transfer-encoding", "chunked"),
            with("upgrade", "h2c"),
            with("te", "gzip"),
            with("te", "trailers, gzip"),
            with("host", "y.test"),
            with(":protocol", "websocket"),
            [&[(":method", "CONNECT")], &GET[1..]].concat(),
            vec![(":method", "CONNECT"), (":authority", "x:1"), (":scheme", "https")],
            vec![(":method", "CONNECT")],
            vec![(":method", "CONNECT"), (":authority", "x:1"), ("content-length", "5")],
            [&[(":method", "CONNECT"), (":protocol", "web socket")], &GET[1..]].concat(),
            vec![("x", "y"), (":method", "GET"), (":scheme", "https"), (":path", "/")],
            [&GET[..3], &[("host", "a"), ("host", "a")]].concat(),
            vec![],
        ];
        cases.push([&GET[..1], &[("x", "y")], &GET[1..]].concat());
        for fields in cases {
            let told = read(&fields, true);
            assert!(matches!(told, Err(SectionFault::Malformed(_))), "{fields:?}: {told:?}");
        }
    }

    #[test]
    fn large_sections_are_refused_and_much_larger_ones_end_the_connection() {
        let mut out = Vec::new();
        let mut memory = RequestMemory::default();
        let mut section = RequestSection::new(1_000, &mut memory, &mut out);
        let mut taken = 0;
        for (name, value) in GET {
            let _ = section.take(name.as_bytes(), value.as_bytes());
        }
        while section.take(b"x", &[b'y'; 67]).is_continue() {
            taken += 1;
        }
        assert_eq!(taken, 38, "a hundred bytes each, up to four times the limit");
        assert_eq!(section.finish(true), Err(SectionFault::TooLarge));
        assert!(out.len() < 1_000, "what is beyond the limit is not kept");
    }

    #[test]
    fn many_crumbs_are_one_field() {
        let crumbs: Vec<String> = (0..90).map(|number| format!("c{number}=v")).collect();
        let names: Vec<String> = (0..15).map(|number| format!("x-{number}")).collect();
        let mut fields = GET.to_vec();
        fields.extend(crumbs.iter().map(|crumb| ("cookie", crumb.as_str())));
        fields.extend(names.iter().map(|name| (name.as_str(), "1")));
        let text = text(&fields, true);
        let mut head = RequestHead::default();
        let parsed = parse_request(text.as_bytes(), &mut head);
        assert!(matches!(parsed, Ok(Parsed::Complete((), length)) if length == text.len()), "{parsed:?}");
        assert_eq!(head.framing(), Framing::Length(0));
    }
}
