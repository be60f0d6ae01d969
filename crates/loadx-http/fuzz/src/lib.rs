//! Properties that hold for any bytes from the network. The fuzz targets check these properties with generated input,
//! and a test checks them with the corpus.
//!
//! The parser `Plain` reads the output of LoadX. `Plain` shares no code with LoadX and accepts one spelling only: if
//! the output had two readings, `Plain` would disagree.

pub mod h2;
pub mod h2_peers;
mod local;
mod plain;
mod routing;

use std::net::{IpAddr, Ipv4Addr};

use loadx_http::{
    Answering, BodyDecoder, BodyFault, Changes, ChunkPrefix, Fault, FieldSlots, Forwarding, Framing, Parsed,
    RequestHead, Response, Version, parse_response,
};

use local::assume_host;
use plain::{Plain, head_length};

pub use routing::routing;

const FORWARDING: Forwarding<'static> = Forwarding {
    peer: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    trusted: false,
    scheme: "http",
    via: Some("loadx"),
    forwarded: true,
    client_certificate: None,
    request_id_line: None,
    trace: None,
    begins_trace: false,
    attempt: None,
};

/// A request head is refused, or the backend gets a head with the same meaning.
pub fn request_head(bytes: &[u8]) {
    let parsed = RequestHead::read(bytes);
    cuts_change_nothing(bytes, &parsed, |bytes| {
        outcome(&RequestHead::read(bytes), |request: &RequestHead| request.method().to_owned())
    });
    let Ok(Parsed::Complete(mut request, length)) = parsed else { return };
    assert!(bytes[..length].ends_with(b"\r\n\r\n"));
    assume_host(&mut request);
    let mut out = Vec::new();
    request.encode(&FORWARDING, &Changes::default(), &mut out);
    let plain = Plain::read(&out).expect("what LoadX writes is plain");
    assert!(lengths_have_one_spelling(&out));
    assert_eq!(plain.start, [request.method(), b" ", request.path_and_query(), b" HTTP/1.1"].concat());
    assert!(plain.start.iter().all(|byte| matches!(byte, b' '..=b'~')), "a URI has no other bytes");
    assert!(matches!(request.path_and_query(), [b'/', ..] | b"*"), "origin-form or asterisk-form");
    assert_eq!(plain.all("host").count(), 1);
    assert!(plain.all("host").all(|host| !host.contains(&b'%')), "a host has one spelling");
    assert_eq!(plain.framing(), request.framing());
    for name in ["keep-alive", "proxy", "proxy-connection", "http2-settings", "x-forwarded-port", "x-real-ip"] {
        assert_eq!(plain.all(name).count(), 0, "{name}");
    }
    assert_eq!(plain.fields.iter().find(|(name, _)| is_lookalike(name)), None);
    assert_eq!(plain.all("upgrade").count(), usize::from(request.offers_upgrade()));
    assert!(plain.all("te").all(|te| te == b"trailers"));
    assert_eq!(plain.all("x-forwarded-for").collect::<Vec<_>>(), [b"192.0.2.1"]);
    // The fields that LoadX adds may make a head larger than the limits of LoadX.
    if plain.fields.len() > loadx_http::limits::FIELDS_MAX || out.len() > loadx_http::limits::HEAD_BYTES_MAX {
        return;
    }
    // LoadX reads its own output with the same meaning.
    let Ok(Parsed::Complete(again, again_length)) = RequestHead::read(&out) else {
        panic!("LoadX does not take what it writes: {:?}", String::from_utf8_lossy(&out))
    };
    assert_eq!(again_length, out.len());
    assert_eq!((again.method(), again.target()), (request.method(), request.path_and_query()));
    assert_eq!((again.framing(), again.offers_upgrade()), (request.framing(), request.offers_upgrade()));
}

/// A response head; the first byte chooses the request.
pub fn response_head(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else { return };
    let to_head = choice & 1 == 1;
    let version = if choice & 2 == 2 { Version::Http10 } else { Version::Http11 };
    let mut slots = FieldSlots::new();
    let parsed = parse_response(bytes, to_head, &mut slots);
    cuts_change_nothing(bytes, &parsed, |bytes| {
        let mut slots = FieldSlots::new();
        outcome(&parse_response(bytes, to_head, &mut slots), Response::status)
    });
    let Ok(Parsed::Complete(response, length)) = parsed else { return };
    assert!(bytes[..length].ends_with(b"\r\n\r\n"));
    let framing = response.framing_for(version, to_head);
    let mut out = Vec::new();
    response.encode(
        &Answering {
            version,
            framing,
            persistent: true,
            via: Some("loadx"),
            date: Some("now"),
            request_id_line: None,
            removed: &[],
            replaced: None,
            added: b"",
        },
        &mut out,
    );
    let plain = Plain::read(&out).expect("what LoadX writes is plain");
    assert!(lengths_have_one_spelling(&out));
    assert!(plain.start.starts_with(format!("HTTP/1.1 {}", response.status()).as_bytes()));
    let chunked = plain.all("transfer-encoding").count() == 1;
    assert_eq!(chunked, framing == Some(Framing::Chunked));
    assert!(!chunked || plain.all("content-length").count() == 0);
    if let Some(Framing::Length(length)) = framing {
        assert_eq!(plain.framing(), Framing::Length(length));
        assert_eq!(plain.all("content-length").count(), 1, "the client must know where it ends");
    }
    if response.is_interim() {
        assert_eq!(plain.all("content-length").count(), 0);
    }
}

/// A chunked body; the first bytes choose the sizes of the reads.
pub fn chunked_body(data: &[u8]) {
    let Some((cuts, bytes)) = data.split_at_checked(4) else { return };
    let whole = decode(Framing::Chunked, &[bytes]);
    let pieces = pieces(bytes, cuts);
    assert_eq!(decode(Framing::Chunked, &pieces), whole, "cut into {:?}", pieces.iter().map(|p| p.len()));
    let reference = Plain::chunks(bytes);
    match &whole {
        Ok(body) if body.complete => {
            let (content, trailers, consumed) = reference.expect("the plain reader takes it too");
            assert_eq!(body.content, content);
            assert_eq!(body.consumed, consumed);
            // LoadX may remove trailers, and never adds trailers.
            let kept =
                Plain::read(&[b"T\r\n".as_slice(), &body.trailers, b"\r\n"].concat()).expect("trailers are plain");
            assert!(kept.fields.iter().all(|field| trailers.contains(field)));
            assert_eq!(kept.fields.iter().find(|(name, _)| CGI_TRAILERS.contains(&cgi(name).as_str())), None);
            let again = decode(Framing::Chunked, &[&encode_chunked(&body.content, &body.trailers, cuts)]);
            assert!(
                again.is_ok_and(|again| again.complete
                    && again.content == body.content
                    && again.trailers == body.trailers)
            );
        }
        // A body that is incomplete for LoadX must be incomplete for `Plain`, which is equally strict.
        Ok(_) => assert!(reference.is_none()),
        // `Plain` refuses every body that LoadX refuses: neither is stricter than the grammar.
        Err(fault) => assert!(reference.is_none(), "only LoadX refuses this: {fault:?}"),
    }
}

/// The whole stream of a client, forwarded as the proxy forwards it: the backend reads the same requests for every cut
/// of the stream, and no request that the client did not send.
pub fn forwarding(data: &[u8]) {
    let Some((cuts, bytes)) = data.split_at_checked(4) else { return };
    let (sent, onward) = pass_on(bytes, &[bytes]);
    assert_eq!(pass_on(bytes, &pieces(bytes, cuts)), (sent.clone(), onward.clone()));
    let mut rest = onward.as_slice();
    for message in &sent {
        let head_length = head_length(rest).expect("a head");
        let plain = Plain::read(&rest[..head_length]).expect("what LoadX writes is plain");
        assert_eq!(plain.start, message.start);
        rest = &rest[head_length..];
        let content = match plain.framing() {
            Framing::Chunked => {
                let (content, _, consumed) = Plain::chunks(rest).expect("what LoadX writes is plain");
                rest = &rest[consumed..];
                content
            }
            Framing::Length(length) => {
                let (content, after) = rest.split_at(length as usize);
                rest = after;
                content.to_vec()
            }
            Framing::UntilClose => unreachable!("no request is framed so"),
        };
        assert_eq!(content, message.content);
    }
    assert!(rest.is_empty(), "more than was sent: {:?}", String::from_utf8_lossy(rest));
}

#[derive(Clone, Debug, PartialEq)]
struct Message {
    start: Vec<u8>,
    content: Vec<u8>,
}

/// Reads requests, one after the other, from a stream that arrives in `pieces`; stops at the first refused or
/// incomplete request. Returns the requests and the bytes for the backend.
fn pass_on(bytes: &[u8], pieces: &[&[u8]]) -> (Vec<Message>, Vec<u8>) {
    let (mut sent, mut onward) = (Vec::new(), Vec::new());
    let mut arrived = Vec::with_capacity(bytes.len());
    let mut pieces = pieces.iter();
    loop {
        let head = loop {
            match RequestHead::read(&arrived) {
                Err(_) => return (sent, onward),
                Ok(Parsed::Complete(mut request, length)) => {
                    assume_host(&mut request);
                    let mut out = Vec::new();
                    request.encode(&FORWARDING, &Changes::default(), &mut out);
                    let start = [request.method(), b" ", request.path_and_query(), b" HTTP/1.1"].concat();
                    break (out, start, request.framing(), length);
                }
                Ok(Parsed::Partial) => {
                    let Some(piece) = pieces.next() else { return (sent, onward) };
                    arrived.extend_from_slice(piece);
                }
            }
        };
        let (mut out, start, framing, length) = head;
        arrived.drain(..length);
        let mut decoder = BodyDecoder::new(framing);
        let mut content = Vec::new();
        loop {
            let Ok(decoded) = decoder.decode(&mut arrived) else { return (sent, onward) };
            content.extend_from_slice(&arrived[..decoded.content]);
            arrived.drain(..decoded.consumed);
            if decoder.is_complete() {
                break;
            }
            let Some(piece) = pieces.next() else { return (sent, onward) };
            arrived.extend_from_slice(piece);
        }
        match framing {
            Framing::Chunked => out.extend(encode_chunked(&content, decoder.trailers(), &[])),
            _ => out.extend_from_slice(&content),
        }
        onward.extend(out);
        sent.push(Message { start, content });
    }
}

/// The result of reading a head, in a form that allows comparing two results.
#[derive(Debug, PartialEq)]
enum Outcome<T> {
    Complete(T, usize),
    Partial,
    Refused,
}

fn outcome<H, T>(parsed: &Result<Parsed<H>, Fault>, of: impl Fn(&H) -> T) -> Outcome<T> {
    match parsed {
        Ok(Parsed::Complete(head, length)) => Outcome::Complete(of(head), *length),
        Ok(Parsed::Partial) => Outcome::Partial,
        Err(fault) => {
            assert!(matches!(fault.status(), 400 | 413 | 414 | 431 | 501 | 505));
            assert!(!fault.to_string().is_empty());
            Outcome::Refused
        }
    }
}

/// A complete head is neither complete nor refused before its last byte; and the bytes after the head change nothing.
fn cuts_change_nothing<H, T: PartialEq + std::fmt::Debug>(
    bytes: &[u8],
    parsed: &Result<Parsed<H>, Fault>,
    read: impl Fn(&[u8]) -> Outcome<T>,
) {
    match parsed {
        Ok(Parsed::Complete(_, length)) => {
            for cut in (0..*length).step_by(1 + length / 64) {
                assert_eq!(read(&bytes[..cut]), Outcome::Partial, "cut at {cut}");
            }
            assert_eq!(read(&[&bytes[..*length], b"\0more"].concat()), read(&bytes[..*length]));
        }
        Err(_) => {
            assert_eq!(read(&[bytes, b"x\r\n\r\n"].concat()), Outcome::Refused, "a refused head became valid");
        }
        Ok(Parsed::Partial) => {}
    }
}

#[derive(Debug, PartialEq)]
struct Body {
    content: Vec<u8>,
    trailers: Vec<u8>,
    consumed: usize,
    complete: bool,
}

fn decode(framing: Framing, pieces: &[&[u8]]) -> Result<Body, BodyFault> {
    let mut decoder = BodyDecoder::new(framing);
    let (mut content, mut consumed) = (Vec::new(), 0);
    for piece in pieces {
        let mut piece = piece.to_vec();
        let decoded = decoder.decode(&mut piece)?;
        assert!(decoded.content <= decoded.consumed && decoded.consumed <= piece.len());
        assert!(decoder.is_complete() || decoded.consumed == piece.len());
        content.extend_from_slice(&piece[..decoded.content]);
        consumed += decoded.consumed;
    }
    Ok(Body { content, trailers: decoder.trailers().to_vec(), consumed, complete: decoder.is_complete() })
}

fn encode_chunked(content: &[u8], trailers: &[u8], cuts: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in pieces(content, cuts) {
        out.extend_from_slice(ChunkPrefix::new(chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n");
    out.extend_from_slice(trailers);
    out.extend_from_slice(b"\r\n");
    out
}

/// Cuts `bytes` into pieces of at least one byte; `cuts` has the sizes in turn.
fn pieces<'b>(bytes: &'b [u8], cuts: &[u8]) -> Vec<&'b [u8]> {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    let mut turn = 0;
    while !rest.is_empty() {
        let size = cuts.get(turn % cuts.len().max(1)).map_or(rest.len(), |cut| usize::from(*cut).max(1));
        let (piece, after) = rest.split_at(size.min(rest.len()));
        pieces.push(piece);
        rest = after;
        turn += 1;
    }
    pieces
}

/// Whether each Content-Length line consists of name, colon, one space and digits.
fn lengths_have_one_spelling(head: &[u8]) -> bool {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let mut values = head.split("\r\n").filter_map(|line| line.strip_prefix("content-length:"));
    values.all(|value| value.strip_prefix(' ').is_some_and(|value| value.bytes().all(|byte| byte.is_ascii_digit())))
}

/// Trailers that LoadX removes, by the names that servers give them in [`cgi`].
const CGI_TRAILERS: [&str; 7] =
    ["CONTENT_LENGTH", "HOST", "KEEP_ALIVE", "PROXY", "TRANSFER_ENCODING", "X_FORWARDED_FOR", "X_REAL_IP"];

/// Fields of a request that a server may trust.
const CGI_TRUSTED: [&str; 16] = [
    "CONTENT_LENGTH",
    "HTTP2_SETTINGS",
    "KEEP_ALIVE",
    "MAX_FORWARDS",
    "PROXY_AUTHENTICATE",
    "PROXY_AUTHENTICATION_INFO",
    "PROXY_AUTHORIZATION",
    "PROXY_CONNECTION",
    "PROXY_STATUS",
    "TRANSFER_ENCODING",
    "X_FORWARDED_FOR",
    "X_FORWARDED_HOST",
    "X_FORWARDED_PORT",
    "X_FORWARDED_PROTO",
    "X_REAL_IP",
    "X_REQUEST_ID",
];

/// The CGI name of a field (RFC 3875, section 4.1.18), in a server that turns every byte that is no letter or digit
/// into `_`.
fn cgi(name: &str) -> String {
    name.chars().map(|char| if char.is_ascii_alphanumeric() { char.to_ascii_uppercase() } else { '_' }).collect()
}

/// Whether a server confuses this name, in lower case, with a trusted name of another spelling.
fn is_lookalike(name: &str) -> bool {
    let cgi = cgi(name);
    CGI_TRUSTED.contains(&cgi.as_str()) && cgi.to_ascii_lowercase().replace('_', "-") != name
}
