//! Request heads: reading them, and writing what a backend gets.

use std::net::IpAddr;

use crate::fields::{
    ConnectionOptions, Dropped, Field, Hop, Known, check_line_ends, check_names, copy_kept, leading_empty_line, list,
    protocols, put, put_list, put_via,
};
use crate::limits::{HEAD_BYTES_MAX, TARGET_BYTES_MAX};
use crate::{Fault, FieldSlots, Framing, Parsed, Version};

/// A request head, read and found sound.
#[derive(Debug)]
pub struct Request<'s, 'b> {
    /// From the method to the empty line.
    head: &'b [u8],
    fields: &'s [Field<'b>],
    method: &'b str,
    target: &'b str,
    origin: Origin<'b>,
    version: Version,
    framing: Framing,
    connection: ConnectionOptions,
    dropped: Dropped,
    /// The place of Host, which a gateway may have to rewrite.
    host: Option<usize>,
    /// Whether X-Forwarded-For or Forwarded is there.
    claims_forwarded: bool,
    /// Whether the client takes trailers (RFC 9110, section 10.1.4).
    takes_trailers: bool,
    /// Whether the client offers to go on in another protocol that LoadX tunnels.
    upgrade: bool,
    /// Whether it waits for a 100.
    expects_continue: bool,
    /// Of an OPTIONS, how often it may be passed on.
    max_forwards: Option<u64>,
}

/// Where the target points, apart from its form (RFC 9112, section 3.2).
#[derive(Copy, Clone, Debug)]
struct Origin<'b> {
    /// In absolute-form, what replaces Host.
    authority: Option<&'b str>,
    path: &'b str,
}

/// What a gateway adds to a request.
#[derive(Copy, Clone, Debug)]
pub struct Forwarding<'f> {
    /// The peer's address, for X-Forwarded-For.
    pub peer: IpAddr,
    /// Whether the peer's own X-Forwarded fields are believed and carried on; otherwise they are replaced.
    pub trusted: bool,
    /// The scheme that the client used, for X-Forwarded-Proto.
    pub scheme: &'f str,
    /// The address that the client connected to: the Host of a request that came without one.
    pub local_authority: &'f str,
    /// By what name LoadX is in Via (RFC 9110, section 7.6.3); none means that it is not.
    pub via: Option<&'f str>,
    /// Whether Forwarded (RFC 7239) is written beside the X-Forwarded fields.
    pub forwarded: bool,
}

/// Reads the head of a request at the start of `bytes`.
///
/// # Errors
/// Any [`Fault`]: the request must be refused and the connection closed.
pub fn parse_request<'s, 'b>(bytes: &'b [u8], slots: &'s mut FieldSlots<'b>) -> Result<Parsed<Request<'s, 'b>>, Fault> {
    let lead = leading_empty_line(bytes)?;
    let mut raw = httparse::Request::new(&mut []);
    let status = httparse::ParserConfig::default()
        .parse_request_with_uninit_headers(&mut raw, &bytes[lead..], &mut slots.0)
        .map_err(|error| named(error, &bytes[lead..]))?;
    let httparse::Status::Complete(length) = status else {
        return partial(&bytes[lead..]);
    };
    if length > HEAD_BYTES_MAX {
        return Err(Fault::HeadTooLarge);
    }
    let head = &bytes[lead..lead + length];
    let fields: &'s [Field<'b>] = raw.headers;
    check_line_ends(head)?;
    check_names(fields)?;
    let method = raw.method.unwrap_or_default();
    let target = raw.path.unwrap_or_default();
    let version = if raw.version == Some(1) { Version::Http11 } else { Version::Http10 };
    let request = Request {
        head,
        fields,
        method,
        target,
        origin: origin(method, target)?,
        version,
        framing: Framing::Length(0),
        connection: ConnectionOptions::default(),
        dropped: Dropped::default(),
        host: None,
        claims_forwarded: false,
        takes_trailers: false,
        upgrade: false,
        expects_continue: false,
        max_forwards: None,
    };
    Ok(Parsed::Complete(request.scan()?, lead + length))
}

/// Tells a version that is unknown from a start line that is broken; the parser calls both a version.
fn named(error: httparse::Error, bytes: &[u8]) -> Fault {
    if error != httparse::Error::Version {
        return error.into();
    }
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let parts: Vec<&[u8]> = line.splitn(4, |byte| *byte == b' ').collect();
    match parts[..] {
        [_, _, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Fault::Version
        }
        _ => Fault::Malformed("the start line is malformed"),
    }
}

/// The head goes on; is what is here of it already too much?
fn partial<T>(bytes: &[u8]) -> Result<Parsed<T>, Fault> {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let target = line.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    if target.len() > TARGET_BYTES_MAX {
        return Err(Fault::TargetTooLong);
    }
    if bytes.len() >= HEAD_BYTES_MAX {
        return Err(Fault::HeadTooLarge);
    }
    Ok(Parsed::Partial)
}

/// Takes the target apart (RFC 9112, section 3.2).
fn origin<'b>(method: &str, target: &'b str) -> Result<Origin<'b>, Fault> {
    if target.len() > TARGET_BYTES_MAX {
        return Err(Fault::TargetTooLong);
    }
    // TRACE would show a client what LoadX added; CONNECT is for forward proxies.
    if method == "CONNECT" || method == "TRACE" {
        return Err(Fault::Method);
    }
    // No part of a target (RFC 9112, section 3.2); some readers end the path there.
    if target.contains('#') {
        return Err(Fault::Malformed("the request target holds a #"));
    }
    if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
        return Ok(Origin { authority: None, path: target });
    }
    let scheme_end = target.find("://").ok_or(Fault::Malformed("the request target is malformed"))?;
    let (scheme, rest) = (&target[..scheme_end], &target[scheme_end + 3..]);
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(Fault::Malformed("the request target is of a foreign scheme"));
    }
    let path_start = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(path_start);
    if !is_authority(authority.as_bytes()) || path.starts_with('?') {
        return Err(Fault::Malformed("the request target is malformed"));
    }
    // RFC 9112, section 3.2.4.
    let path = match (path, method) {
        ("", "OPTIONS") => "*",
        ("", _) => "/",
        (path, _) => path,
    };
    Ok(Origin { authority: Some(authority), path })
}

/// Whether this may be the value of Host (RFC 9110, section 7.2; RFC 3986, section 3.2): a host and perhaps a
/// port; no list, no user, no path.
fn is_authority(value: &[u8]) -> bool {
    let (host, port) = match value.first() {
        Some(b'[') => {
            let Some(end) = memchr::memchr(b']', value) else { return false };
            let (literal, port) = (&value[1..end], &value[end + 1..]);
            let plain = literal.iter().all(|byte| byte.is_ascii_alphanumeric() || b":.%-_~".contains(byte));
            (plain && !literal.is_empty(), port)
        }
        _ => {
            let end = memchr::memchr(b':', value).unwrap_or(value.len());
            (is_name(&value[..end]), &value[end..])
        }
    };
    host && match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// Whether this is a name that a URI may have as its host (RFC 3986, section 3.2.2), and not an empty one
/// (RFC 9110, section 4.2.1).
fn is_name(name: &[u8]) -> bool {
    let mut bytes = name.iter();
    while let Some(byte) = bytes.next() {
        let escaped = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
        let fits = match byte {
            b'%' => escaped(bytes.next()) && escaped(bytes.next()),
            byte => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(byte),
        };
        if !fits {
            return false;
        }
    }
    !name.is_empty()
}

impl<'s, 'b> Request<'s, 'b> {
    /// Looks at every field once: what it means for the message, and whether it is passed on.
    fn scan(mut self) -> Result<Self, Fault> {
        let mut hop = Hop::default();
        for (index, field) in self.fields.iter().enumerate() {
            let Some(known) = Known::of(field.name) else { continue };
            hop.note(known, index, field.value)?;
            match known {
                Known::Host => {
                    if self.host.replace(index).is_some() {
                        return Err(Fault::Malformed("Host appears more than once"));
                    }
                    if !is_authority(field.value) {
                        return Err(Fault::Malformed("Host is not a host and port"));
                    }
                }
                Known::Forwarded | Known::XForwardedFor => self.claims_forwarded = true,
                Known::Te => {
                    self.takes_trailers |= list(field.value).any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
                }
                Known::MaxForwards if self.method == "OPTIONS" => {
                    if self.max_forwards.replace(max_forwards(field.value)?).is_some() {
                        return Err(Fault::Malformed("Max-Forwards appears more than once"));
                    }
                    hop.dropped.add(index);
                }
                // HTTP/1.0 knows no 100 (RFC 9110, section 10.1.1).
                Known::Expect if self.version == Version::Http10 => hop.dropped.add(index),
                Known::Expect => self.expects_continue |= field.value.eq_ignore_ascii_case(b"100-continue"),
                _ => {}
            }
        }
        // HTTP/1.0 knows no Upgrade either (RFC 9110, section 7.8).
        self.upgrade = hop.names_protocols
            && hop.connection.upgrade
            && self.version == Version::Http11
            && protocols(self.fields).next().is_some();
        if self.host.is_none() && self.version == Version::Http11 {
            return Err(Fault::Malformed("Host is missing"));
        }
        self.framing = hop.framing.framing(self.version)?.unwrap_or(Framing::Length(0));
        hop.connection.drop_named(self.fields, &mut hop.dropped);
        (self.connection, self.dropped) = (hop.connection, hop.dropped);
        Ok(self)
    }

    /// The method, as it came.
    pub fn method(&self) -> &'b str {
        self.method
    }

    /// The request target, as it came.
    pub fn target(&self) -> &'b str {
        self.target
    }

    /// The path and query, whatever the form of the target.
    pub fn path_and_query(&self) -> &'b str {
        self.origin.path
    }

    /// The version that the client speaks.
    pub fn version(&self) -> Version {
        self.version
    }

    /// How the body is framed; without one, a length of 0.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Whether the client wants to go on with this connection.
    pub fn persistent(&self) -> bool {
        self.connection.persistent(self.version)
    }

    /// Whether the method is idempotent (RFC 9110, section 9.2.2), so that it may be sent again.
    pub fn idempotent(&self) -> bool {
        matches!(self.method, "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE")
    }

    /// Whether the response comes without content (RFC 9110, section 9.3.2).
    pub fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// Whether the client waits for a 100 before it sends content (RFC 9110, section 10.1.1).
    pub fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// Whether the client offers to go on in another protocol after the response, one that LoadX tunnels.
    pub fn offers_upgrade(&self) -> bool {
        self.upgrade
    }

    /// The protocols that it offers, as a list; none when it offers none that LoadX tunnels.
    pub fn offered(&self) -> Option<Vec<u8>> {
        self.upgrade.then(|| protocols(self.fields).collect::<Vec<_>>().join(b", ".as_slice()))
    }

    /// Of an OPTIONS, how often it may still be passed on; with 0 it is for LoadX itself (RFC 9110,
    /// section 7.6.2).
    pub fn max_forwards(&self) -> Option<u64> {
        self.max_forwards
    }

    /// Whether somebody on the way says that this request comes from another client.
    pub fn claims_forwarded(&self) -> bool {
        self.claims_forwarded
    }

    /// The addresses that X-Forwarded-For names, last first: the one that the peer added leads.
    pub fn forwarded_for(&self) -> impl Iterator<Item = &'b [u8]> + '_ {
        let lines = self.fields.iter().rev().filter(|field| Known::of(field.name) == Some(Known::XForwardedFor));
        lines.flat_map(|field| field.value.rsplit(|byte| *byte == b',').map(<[u8]>::trim_ascii))
    }

    /// Writes the head that a backend gets: HTTP/1.1, fields as they came, without those meant for
    /// this hop, with those that tell where the request comes from.
    pub fn encode(&self, forwarding: &Forwarding<'_>, out: &mut Vec<u8>) {
        let mut dropped = self.dropped;
        self.drop_rewritten(forwarding, &mut dropped);
        out.extend_from_slice(self.method.as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.origin.path.as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\n");
        match (self.origin.authority, self.host) {
            // RFC 9112, section 3.2.2: the target wins over Host.
            (Some(authority), _) => put(out, "Host", authority.as_bytes()),
            (None, None) => put(out, "Host", forwarding.local_authority.as_bytes()),
            (None, Some(_)) => {}
        }
        copy_kept(self.head, self.fields, dropped, out);
        self.put_forwarded(forwarding, out);
        self.put_hop(out);
        if let Some(max_forwards) = self.max_forwards {
            put(out, "Max-Forwards", max_forwards.saturating_sub(1).to_string().as_bytes());
        }
        if let Some(pseudonym) = forwarding.via {
            put_via(out, self.version, pseudonym);
        }
        if self.framing == Framing::Chunked {
            put(out, "Transfer-Encoding", b"chunked");
        }
        out.extend_from_slice(b"\r\n");
    }

    fn drop_rewritten(&self, forwarding: &Forwarding<'_>, dropped: &mut Dropped) {
        if let (Some(_), Some(host)) = (self.origin.authority, self.host) {
            dropped.add(host);
        }
        for (index, field) in self.fields.iter().enumerate() {
            match Known::of(field.name) {
                Some(Known::XForwardedFor) => dropped.add(index),
                Some(Known::Forwarded | Known::XForwardedHost | Known::XForwardedProto) if !forwarding.trusted => {
                    dropped.add(index);
                }
                _ => {}
            }
        }
    }

    /// What LoadX itself says to the backend of this connection.
    fn put_hop(&self, out: &mut Vec<u8>) {
        let options: &[u8] = match (self.takes_trailers, self.upgrade) {
            (false, false) => return,
            (true, false) => b"TE",
            (false, true) => b"Upgrade",
            (true, true) => b"TE, Upgrade",
        };
        put(out, "Connection", options);
        if self.takes_trailers {
            put(out, "TE", b"trailers");
        }
        if self.upgrade {
            put_list(out, "Upgrade", protocols(self.fields));
        }
    }

    fn put_forwarded(&self, forwarding: &Forwarding<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"X-Forwarded-For: ");
        if forwarding.trusted {
            for field in self.fields.iter().filter(|field| Known::of(field.name) == Some(Known::XForwardedFor)) {
                for address in list(field.value) {
                    out.extend_from_slice(address);
                    out.extend_from_slice(b", ");
                }
            }
        }
        put_ip(out, forwarding.peer);
        out.extend_from_slice(b"\r\n");
        let carried =
            |known| forwarding.trusted && self.fields.iter().any(|field| Known::of(field.name) == Some(known));
        if !carried(Known::XForwardedProto) {
            put(out, "X-Forwarded-Proto", forwarding.scheme.as_bytes());
        }
        if !carried(Known::XForwardedHost) {
            let host = self.authority();
            if !host.is_empty() {
                put(out, "X-Forwarded-Host", host);
            }
        }
        if forwarding.forwarded {
            self.put_standard_forwarded(forwarding, out);
        }
    }

    /// Where the client sent the request to, as it named it.
    fn authority(&self) -> &'b [u8] {
        let host = self.host.map_or(b"".as_slice(), |index| self.fields[index].value);
        self.origin.authority.map_or(host, str::as_bytes)
    }

    /// RFC 7239, section 4. What a trusted peer wrote stays before it.
    fn put_standard_forwarded(&self, forwarding: &Forwarding<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"Forwarded: for=");
        if forwarding.peer.to_canonical().is_ipv6() {
            out.extend_from_slice(b"\"[");
            put_ip(out, forwarding.peer);
            out.extend_from_slice(b"]\"");
        } else {
            put_ip(out, forwarding.peer);
        }
        // Host holds no quote and no backslash (`is_authority`), so quoting it is enough.
        if !self.authority().is_empty() {
            out.extend_from_slice(b";host=\"");
            out.extend_from_slice(self.authority());
            out.extend_from_slice(b"\"");
        }
        out.extend_from_slice(b";proto=");
        out.extend_from_slice(forwarding.scheme.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

fn max_forwards(value: &[u8]) -> Result<u64, Fault> {
    const BAD: Fault = Fault::Malformed("Max-Forwards is not a plain decimal number");
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(BAD);
    }
    // One that is too large to count is as good as none.
    Ok(std::str::from_utf8(value).map_err(|_| BAD)?.parse().unwrap_or(u64::MAX))
}

fn put_ip(out: &mut Vec<u8>, ip: IpAddr) {
    use std::io::Write as _;
    match ip.to_canonical() {
        // Once a request: spelled out here, it costs a tenth of what the formatter takes.
        IpAddr::V4(ip) => {
            for (index, octet) in ip.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                if octet >= 100 {
                    out.push(b'0' + octet / 100);
                }
                if octet >= 10 {
                    out.push(b'0' + octet / 10 % 10);
                }
                out.push(b'0' + octet % 10);
            }
        }
        IpAddr::V6(ip) => write!(out, "{ip}").expect("a Vec takes what is written to it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORWARDING: Forwarding<'static> = Forwarding {
        peer: IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 9)),
        trusted: false,
        scheme: "http",
        local_authority: "127.0.0.1:8080",
        via: None,
        forwarded: false,
    };

    fn encoded(text: &str, forwarding: &Forwarding<'_>) -> String {
        let mut slots = FieldSlots::new();
        match parse_request(text.as_bytes(), &mut slots).unwrap() {
            Parsed::Complete(request, length) => {
                assert_eq!(length, text.len());
                let mut out = Vec::new();
                request.encode(forwarding, &mut out);
                String::from_utf8(out).unwrap()
            }
            Parsed::Partial => panic!("the head is complete"),
        }
    }

    fn fault(bytes: &[u8]) -> Fault {
        parse_request(bytes, &mut FieldSlots::new()).expect_err("the request is faulty")
    }

    fn framing(fields: &str) -> Result<Framing, Fault> {
        let text = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let mut slots = FieldSlots::new();
        parse_request(text.as_bytes(), &mut slots).map(|parsed| match parsed {
            Parsed::Complete(request, _) => request.framing(),
            Parsed::Partial => panic!("the head is complete"),
        })
    }

    #[test]
    fn fields_are_passed_on_as_they_came() {
        let text = "GET /a//b/..%2f?q=%zz|\"x HTTP/1.1\r\nhOsT: Example.com:80\r\nX-B:  two  spaces \r\nx-a: 1\r\nX-B: again\r\n\r\n";
        assert_eq!(
            encoded(text, &FORWARDING),
            "GET /a//b/..%2f?q=%zz|\"x HTTP/1.1\r\nhOsT: Example.com:80\r\nX-B:  two  spaces \r\nx-a: 1\r\nX-B: again\r\n\
             X-Forwarded-For: 192.0.2.9\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: Example.com:80\r\n\r\n"
        );
    }

    #[test]
    fn fields_for_this_hop_stay_here() {
        let text = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Secret, Host, cookie\r\nKeep-Alive: 5\r\nx-secret: 1\r\n\
                    Cookie: c\r\nTE: gzip\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\nProxy-Connection: x\r\nAccept: */*\r\n\r\n";
        assert_eq!(
            encoded(text, &FORWARDING),
            "GET / HTTP/1.1\r\nHost: a\r\nCookie: c\r\nAccept: */*\r\n\
             X-Forwarded-For: 192.0.2.9\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\n\r\n"
        );
    }

    #[test]
    fn a_strangers_forwarded_fields_are_replaced_and_a_trusted_peers_carried_on() {
        let text = "GET / HTTP/1.1\r\nX-Forwarded-For: 1.1.1.1, 2.2.2.2\r\nHost: a\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\nForwarded: for=1.1.1.1\r\n\r\n";
        assert_eq!(
            encoded(text, &FORWARDING),
            "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.9\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\n\r\n"
        );
        assert_eq!(
            encoded(text, &Forwarding { trusted: true, ..FORWARDING }),
            "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\nForwarded: for=1.1.1.1\r\n\
             X-Forwarded-For: 1.1.1.1, 2.2.2.2, 192.0.2.9\r\n\r\n"
        );
    }

    /// What a backend gets of a GET with these fields, without Host and the X-Forwarded fields.
    fn fields_after(fields: &str) -> String {
        let text = encoded(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"), &FORWARDING);
        let kept = text.split_inclusive("\r\n").skip(2).filter(|line| !line.starts_with("X-Forwarded-"));
        kept.collect::<String>().trim_end_matches("\r\n").to_owned()
    }

    #[test]
    fn an_upgrade_goes_through_unless_it_hides_further_requests() {
        assert_eq!(
            fields_after("Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nA: b\r\n"),
            "A: b\r\nConnection: Upgrade\r\nUpgrade: WebSocket"
        );
        assert_eq!(
            fields_after(
                "Connection: Upgrade, TE, HTTP2-Settings\r\nUpgrade: h2c, foo/2\r\nupgrade: bar\r\nTE: gzip, trailers\r\nHTTP2-Settings: x\r\n"
            ),
            "Connection: TE, Upgrade\r\nTE: trailers\r\nUpgrade: foo/2, bar"
        );
        for not_passed_on in [
            "Upgrade: websocket\r\n",
            "Connection: upgrade\r\n",
            "Connection: upgrade\r\nUpgrade:\r\n",
            "Connection: upgrade\r\nUpgrade: h2c\r\n",
            "Connection: upgrade\r\nUpgrade: H2C-14, HTTP/2.0, http/3, TLS/1.0\r\n",
        ] {
            assert_eq!(fields_after(not_passed_on), "", "{not_passed_on}");
        }
        let old = encoded("GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", &FORWARDING);
        assert!(!old.contains("pgrade"), "{old}");
    }

    #[test]
    fn an_expectation_of_http_1_0_is_ignored() {
        assert_eq!(fields_after("Expect: 100-continue\r\n"), "Expect: 100-continue");
        let old = encoded("PUT / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\n\r\n", &FORWARDING);
        assert!(!old.contains("Expect"), "{old}");
    }

    #[test]
    fn options_count_down_their_forwards() {
        let options = |fields: &str| format!("OPTIONS * HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        assert!(encoded(&options("Max-Forwards: 3\r\n"), &FORWARDING).contains("\r\nMax-Forwards: 2\r\n"));
        assert_eq!(fields_after("Max-Forwards: 3\r\n"), "Max-Forwards: 3", "other methods carry it along");
        for bad in ["Max-Forwards: -1\r\n", "Max-Forwards:\r\n", "Max-Forwards: 1\r\nMax-Forwards: 1\r\n"] {
            assert_eq!(fault(options(bad).as_bytes()).status(), 400, "{bad}");
        }
        let text = options("Max-Forwards: 0\r\n");
        let mut slots = FieldSlots::new();
        let Ok(Parsed::Complete(request, _)) = parse_request(text.as_bytes(), &mut slots) else {
            panic!("it is complete")
        };
        assert_eq!(request.max_forwards(), Some(0));
    }

    #[test]
    fn via_and_forwarded_are_written_when_asked_for() {
        let asked = Forwarding { via: Some("edge-1"), forwarded: true, ..FORWARDING };
        let text = "GET / HTTP/1.0\r\nHost: b:81\r\nVia: 1.1 x\r\nForwarded: for=1.1.1.1\r\n\r\n";
        let lines = |text: &str, name: &str| {
            text.lines().filter(|line| line.starts_with(name)).map(str::to_owned).collect::<Vec<_>>()
        };
        let out = encoded(text, &asked);
        assert_eq!(lines(&out, "Via"), ["Via: 1.1 x", "Via: 1.0 edge-1"]);
        assert_eq!(lines(&out, "Forwarded"), ["Forwarded: for=192.0.2.9;host=\"b:81\";proto=http"]);
        let six = Forwarding { trusted: true, peer: "2001:db8::1".parse().unwrap(), ..asked };
        assert_eq!(
            lines(&encoded(text, &six), "Forwarded"),
            ["Forwarded: for=1.1.1.1", "Forwarded: for=\"[2001:db8::1]\";host=\"b:81\";proto=http"]
        );
    }

    #[test]
    fn other_forms_and_versions_become_plain_http_1_1() {
        assert!(
            encoded("GET http://b:81/x?y HTTP/1.1\r\nHost: a\r\nA: 1\r\n\r\n", &FORWARDING)
                .starts_with("GET /x?y HTTP/1.1\r\nHost: b:81\r\nA: 1\r\n")
        );
        assert!(
            encoded("OPTIONS http://b HTTP/1.1\r\nHost: a\r\n\r\n", &FORWARDING)
                .starts_with("OPTIONS * HTTP/1.1\r\nHost: b\r\n")
        );
        assert!(encoded("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", &FORWARDING).starts_with("OPTIONS * HTTP/1.1\r\n"));
        assert!(
            encoded("GET / HTTP/1.0\r\n\r\n", &FORWARDING).starts_with("GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n")
        );
    }

    #[test]
    fn a_body_has_one_length_or_chunks_and_nothing_else() {
        assert_eq!(framing(""), Ok(Framing::Length(0)));
        assert_eq!(framing("Content-Length: 42\r\n"), Ok(Framing::Length(42)));
        assert_eq!(framing("Transfer-Encoding: \tChunked \r\n"), Ok(Framing::Chunked));
        for bad in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: -5\r\n",
            "Content-Length: 0x5\r\n",
            "Content-Length: 5 5\r\n",
            "Content-Length: 05\r\n",
            "Content-Length:\r\n",
            "Content-Length: 18446744073709551616\r\n",
            "Transfer-Encoding: chunked, chunked\r\n",
            "Transfer-Encoding: chunked, identity\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding:\r\n",
            "Transfer-Encoding: chunked,\r\n",
            "Transfer-Encoding: , chunked\r\n",
        ] {
            assert!(matches!(framing(bad), Err(Fault::Framing(_))), "{bad:?} {:?}", framing(bad));
        }
        assert_eq!(framing("Transfer-Encoding: gzip, chunked\r\n"), Err(Fault::TransferCoding));
        assert_eq!(framing("Transfer-Encoding: xchunked\r\n"), Err(Fault::TransferCoding));
        assert_eq!(fault(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").status(), 400);
    }

    #[test]
    fn what_breaks_the_grammar_is_refused() {
        for bad in [
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nA: b\rc\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nA: b\0c\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\n: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nA b: c\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost:\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a:80:90\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a:port\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a:999999\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: :80\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a]b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: %zz\r\n\r\n",
            "GET http://:80/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET\r\n\r\n",
            "GET /\r\n\r\n",
            "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "G\x01T / HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            assert_eq!(fault(bad.as_bytes()).status(), 400, "{bad:?}");
        }
        assert_eq!(fault(b"GET / HTTP/1.2\r\nHost: a\r\n\r\n").status(), 505);
        assert_eq!(fault(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").status(), 505);
        assert_eq!(fault(b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n").status(), 501);
        assert_eq!(fault(b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n").status(), 501);
    }

    #[test]
    fn heads_have_bounds() {
        let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(TARGET_BYTES_MAX));
        assert_eq!(fault(long.as_bytes()), Fault::TargetTooLong);
        assert_eq!(fault(&long.as_bytes()[..TARGET_BYTES_MAX + 10]), Fault::TargetTooLong);
        let longest = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(TARGET_BYTES_MAX - 1));
        for end in [TARGET_BYTES_MAX + 4, TARGET_BYTES_MAX + 16, longest.len() - 1] {
            let mut slots = FieldSlots::new();
            assert!(matches!(parse_request(&longest.as_bytes()[..end], &mut slots), Ok(Parsed::Partial)), "{end}");
        }
        let large = format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "x".repeat(HEAD_BYTES_MAX));
        assert_eq!(fault(large.as_bytes()), Fault::HeadTooLarge);
        assert_eq!(fault(&large.as_bytes()[..HEAD_BYTES_MAX]), Fault::HeadTooLarge);
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(100));
        assert_eq!(fault(many.as_bytes()), Fault::HeadTooLarge);
    }

    #[test]
    fn addresses_are_spelled_as_everywhere() {
        for octet in 0..=255 {
            for ip in [IpAddr::from([octet, 0, 255, octet]), IpAddr::from([octet; 16])] {
                let mut out = Vec::new();
                put_ip(&mut out, ip);
                assert_eq!(String::from_utf8(out).unwrap(), ip.to_canonical().to_string());
            }
        }
    }

    #[test]
    fn one_empty_line_before_a_request_is_tolerated() {
        let mut slots = FieldSlots::new();
        let parsed = parse_request(b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", &mut slots).unwrap();
        assert!(matches!(parsed, Parsed::Complete(_, 29)));
    }

    #[test]
    fn the_peers_entry_of_x_forwarded_for_leads() {
        let text =
            b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1, 2.2.2.2\r\nX-Forwarded-For: 3.3.3.3\r\n\r\n";
        let mut slots = FieldSlots::new();
        let Ok(Parsed::Complete(request, _)) = parse_request(text, &mut slots) else { panic!("the head is complete") };
        let addresses: Vec<_> = request.forwarded_for().collect();
        assert_eq!(addresses, [b"3.3.3.3", b"2.2.2.2", b"1.1.1.1"]);
    }
}
