//! Response heads: parsing, and encoding for a client.

use std::sync::Arc;

use crate::fields::{FieldSet, Known, put, put_list, put_via};
use crate::grammar::{Stop, field_lines, status_line};
use crate::hop::{ConnectionOptions, Hop, protocols};
use crate::limits::HEAD_BYTES_MAX;
use crate::lines::{Lines as _, Received, copy_kept};
use crate::{Fault, FieldSlots, Framing, Parsed, Version};

/// A valid response head.
#[derive(Debug)]
pub struct Response<'s, 'b> {
    lines: Received<'s, 'b>,
    status: u16,
    version: Version,
    framing: Framing,
    connection: ConnectionOptions,
    dropped: FieldSet,
    respaced: Option<usize>,
    /// Whether the fields announce content, even if the response has none.
    declares_content: bool,
    /// Whether the response names protocols in Upgrade, and its status allows this.
    names_protocols: bool,
    has_date: bool,
    /// The lines of X-Request-Id.
    request_ids: FieldSet,
}

/// The values that a gateway needs to write a response for a client.
#[derive(Copy, Clone, Debug)]
pub struct Answering<'a> {
    /// The version of the client's request.
    pub version: Version,
    /// The framing of the body for the client; `None` when the response has no content but its fields describe the
    /// content that a GET would get, and for HTTP/2.
    pub framing: Option<Framing>,
    /// Whether the connection stays open after the response.
    pub persistent: bool,
    /// The pseudonym of LoadX in Via (RFC 9110, section 7.6.3); `None` adds no Via.
    pub via: Option<&'a str>,
    /// The Date for a response without Date; `None` adds no Date.
    pub date: Option<&'a str>,
    /// The field line X-Request-Id with its CR LF, for final responses and 101; `None` leaves the field unchanged.
    pub request_id_line: Option<&'a [u8]>,
    /// The names of fields to remove, in lower case.
    pub removed: &'a [Arc<str>],
    /// The name, in lower case, of a field of the backend that a field in `added` replaces.
    pub replaced: Option<&'a str>,
    /// Complete field lines to add.
    pub added: &'a [u8],
}

/// Reads the head of a response at the start of `bytes`; `to_head` is true for the response to a HEAD.
///
/// # Errors
/// Any [`Fault`]: the caller must not use the response and must close the connection.
pub fn parse_response<'s, 'b>(
    bytes: &'b [u8],
    to_head: bool,
    slots: &'s mut FieldSlots,
) -> Result<Parsed<Response<'s, 'b>>, Fault> {
    if let Some(b'\r' | b'\n') = bytes.first() {
        return Err(Fault::Malformed("the message begins with an empty line"));
    }
    let read = status_line(bytes).and_then(|line| {
        let length = field_lines(bytes, line.length, &mut slots.0)?;
        Ok((line, length))
    });
    let (line, length) = match read {
        Ok(read) => read,
        Err(Stop::Partial) if bytes.len() < HEAD_BYTES_MAX => return Ok(Parsed::Partial),
        Err(Stop::Partial) => return Err(Fault::HeadTooLarge),
        Err(Stop::Fault(fault)) => return Err(fault),
    };
    if length > HEAD_BYTES_MAX {
        return Err(Fault::HeadTooLarge);
    }
    if !(100..=599).contains(&line.code) {
        return Err(Fault::Malformed("the status code is out of range"));
    }
    let response = Response {
        lines: Received { head: &bytes[..length], lines: &slots.0 },
        status: line.code,
        version: line.version,
        framing: Framing::UntilClose,
        connection: ConnectionOptions::default(),
        dropped: FieldSet::default(),
        respaced: None,
        declares_content: false,
        names_protocols: false,
        has_date: false,
        request_ids: FieldSet::default(),
    };
    Ok(Parsed::Complete(response.scan(to_head)?, length))
}

impl Response<'_, '_> {
    fn scan(mut self, to_head: bool) -> Result<Self, Fault> {
        let mut hop = Hop::default();
        for (index, line) in self.lines.lines.iter().enumerate() {
            let Some(known) = line.known else { continue };
            hop.note(known, index, line, self.lines.head)?;
            self.has_date |= known == Known::Date;
            if known == Known::XRequestId {
                self.request_ids.add(index);
            }
            // RFC 9110, section 8.6: these responses have no Content-Length; a client could wait for the content.
            if known == Known::ContentLength && matches!(self.status, 100..=199 | 204) {
                hop.dropped.add(index);
                hop.respaced = None;
            }
        }
        let declared = hop.framing.framing(self.version)?;
        self.declares_content = !matches!(declared, None | Some(Framing::Length(0)));
        self.framing = if to_head || self.never_has_content() {
            Framing::Length(0)
        } else {
            declared.unwrap_or(Framing::UntilClose)
        };
        hop.connection.drop_named(&self.lines, &mut hop.dropped);
        (self.connection, self.dropped, self.respaced) = (hop.connection, hop.dropped, hop.respaced);
        // 426 names the protocol that the client must use (RFC 9110, section 15.5.22).
        self.names_protocols = hop.names_protocols
            && matches!(self.status, 101 | 426)
            && self.version == Version::Http11
            && protocols(&self.lines).next().is_some();
        Ok(self)
    }

    fn never_has_content(&self) -> bool {
        matches!(self.status, 100..=199 | 204 | 304)
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Notes in which version of HTTP the response came, if its text is not from HTTP/1.
    pub fn set_version(&mut self, version: Version) {
        self.version = version;
    }

    /// The value of the first field of this name.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        let index = (0..self.lines.count()).find(|index| self.lines.name(*index).eq_ignore_ascii_case(name.as_bytes()));
        index.map(|index| self.lines.value(index))
    }

    /// Whether the response is interim, so that another response follows (RFC 9110, section 15.2).
    pub fn is_interim(&self) -> bool {
        self.status < 200
    }

    /// Whether LoadX adds X-Request-Id: the last response to a request has the field, and a 101 is the last.
    fn carries_request_id(&self) -> bool {
        !self.is_interim() || self.status == 101
    }

    /// Whether the response lacks Date; a recipient must add Date (RFC 9110, section 6.6.1).
    pub fn lacks_date(&self) -> bool {
        !self.has_date && !self.is_interim()
    }

    /// Whether the connection switches to another protocol (RFC 9110, section 15.2.2).
    pub fn switches_protocols(&self) -> bool {
        self.status == 101 && self.names_protocols && self.connection.upgrade
    }

    /// The protocols in Upgrade that LoadX tunnels.
    pub(crate) fn protocols(&self) -> impl Iterator<Item = &[u8]> {
        protocols(&self.lines)
    }

    /// The framing of the body on the backend connection; length 0 without content.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// The framing of the body for a client of HTTP/1: Content-Length stays; other bodies become chunked for
    /// HTTP/1.1 and end with the connection for HTTP/1.0. `None` when the response has no content.
    pub fn framing_for(&self, version: Version, to_head: bool) -> Option<Framing> {
        if to_head || self.never_has_content() {
            return None;
        }
        Some(match self.framing {
            Framing::Length(length) => Framing::Length(length),
            Framing::Chunked | Framing::UntilClose if version == Version::Http11 => Framing::Chunked,
            Framing::Chunked | Framing::UntilClose => Framing::UntilClose,
        })
    }

    /// Whether LoadX may reuse the backend connection. False when the response announces content that must not be sent:
    /// if the backend sends the content, LoadX would read it as the next response.
    pub fn persistent(&self) -> bool {
        let withheld = self.declares_content && self.framing == Framing::Length(0);
        self.framing != Framing::UntilClose && !withheld && self.connection.persistent(self.version)
    }

    /// Appends the head for the client to `out`: unchanged fields, without the fields for this hop.
    pub fn encode(&self, answering: &Answering<'_>, out: &mut Vec<u8>) {
        let version_length = "HTTP/1.1".len();
        let head = self.lines.head;
        let line_end = if self.lines.count() > 0 { self.lines.start(0) } else { head.len() - 2 };
        out.extend_from_slice(b"HTTP/1.1");
        out.extend_from_slice(&head[version_length..line_end]);
        let mut dropped = self.dropped;
        if answering.request_id_line.is_some() && self.carries_request_id() {
            dropped.add_all(self.request_ids);
        }
        let removes =
            |name: &[u8]| answering.removed.iter().any(|removed| name.eq_ignore_ascii_case(removed.as_bytes()));
        let replaces =
            |name: &[u8]| answering.replaced.is_some_and(|replaced| name.eq_ignore_ascii_case(replaced.as_bytes()));
        if (!answering.removed.is_empty() || answering.replaced.is_some()) && !self.is_interim() {
            let names = (0..self.lines.count()).map(|index| (index, self.lines.name(index)));
            let removed = names.filter(|(_, name)| removes(name) || replaces(name)).map(|(index, _)| index);
            removed.for_each(|index| dropped.add(index));
        }
        copy_kept(&self.lines, dropped, self.respaced, out);
        if answering.framing == Some(Framing::Chunked) {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        if let Some(date) = answering.date.filter(|_| self.lacks_date()) {
            put(out, "Date", date.as_bytes());
        }
        if self.names_protocols {
            put(out, "Connection", b"Upgrade");
            put_list(out, "Upgrade", self.protocols());
        }
        if let Some(pseudonym) = answering.via {
            put_via(out, self.version, pseudonym);
        }
        if self.carries_request_id() && !removes(b"x-request-id") {
            out.extend_from_slice(answering.request_id_line.unwrap_or_default());
        }
        if !self.is_interim() {
            out.extend_from_slice(answering.added);
            match (answering.persistent, answering.version) {
                (_, Version::Http2) | (true, Version::Http11) => {}
                (false, _) => out.extend_from_slice(b"Connection: close\r\n"),
                (true, Version::Http10) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
            }
        }
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framing_of(text: &str, to_head: bool) -> Result<Framing, Fault> {
        let mut slots = FieldSlots::new();
        match parse_response(text.as_bytes(), to_head, &mut slots)? {
            Parsed::Complete(response, _) => Ok(response.framing()),
            Parsed::Partial => panic!("the head is complete"),
        }
    }

    fn framing(text: &str) -> Result<Framing, Fault> {
        framing_of(text, false)
    }

    fn encoded(text: &str, version: Version, persistent: bool) -> String {
        let mut slots = FieldSlots::new();
        let Ok(Parsed::Complete(response, _)) = parse_response(text.as_bytes(), false, &mut slots) else {
            panic!("the head is complete and sound")
        };
        let mut out = Vec::new();
        let framing = response.framing_for(version, false);
        response.encode(
            &Answering {
                version,
                framing,
                persistent,
                via: None,
                date: None,
                request_id_line: None,
                removed: &[],
                replaced: None,
                added: b"",
            },
            &mut out,
        );
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_body_ends_where_the_rfc_says() {
        assert_eq!(framing("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"), Ok(Framing::Length(7)));
        assert_eq!(framing("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), Ok(Framing::Chunked));
        assert_eq!(framing("HTTP/1.1 200 OK\r\n\r\n"), Ok(Framing::UntilClose));
        assert_eq!(framing("HTTP/1.1 204 No Content\r\n\r\n"), Ok(Framing::Length(0)));
        assert_eq!(framing("HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n"), Ok(Framing::Length(0)));
        let head = framing_of("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", true);
        assert_eq!(head, Ok(Framing::Length(0)));
    }

    #[test]
    fn ambiguous_responses_are_refused() {
        for bad in [
            "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nContent-Length: 8\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\nContent-Length: 7\n\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
            "HTTP/1.1 099 No\r\n\r\n",
            "HTTP/1.1 600 No\r\n\r\n",
            "\r\nHTTP/1.1 200 OK\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        ] {
            assert!(framing(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn fields_reach_the_client_unchanged() {
        let text = "HTTP/1.0 404 Nicht  da\r\nset-cookie: a\r\nConnection: X-Hop\r\nX-Hop: 1\r\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(
            encoded(text, Version::Http11, true),
            "HTTP/1.1 404 Nicht  da\r\nset-cookie: a\r\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n"
        );
    }

    #[test]
    fn a_response_with_announced_but_forbidden_content_ends_its_connection() {
        let persistent = |text: &str, to_head| {
            let mut slots = FieldSlots::new();
            match parse_response(text.as_bytes(), to_head, &mut slots).unwrap() {
                Parsed::Complete(response, _) => response.persistent(),
                Parsed::Partial => panic!("the head is complete"),
            }
        };
        assert!(!persistent("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", true));
        assert!(!persistent("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", false));
        assert!(persistent("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true));
        assert!(persistent("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", false));
        assert_eq!(
            encoded("HTTP/1.1 204 No Content\r\nContent-Length: 7\r\nA: b\r\n\r\n", Version::Http11, true),
            "HTTP/1.1 204 No Content\r\nA: b\r\n\r\n"
        );
        assert_eq!(
            encoded("HTTP/1.1 204 No Content\r\nContent-Length:\t7\r\nA: b\r\n\r\n", Version::Http11, true),
            "HTTP/1.1 204 No Content\r\nA: b\r\n\r\n"
        );
        assert_eq!(
            encoded("HTTP/1.1 304 Not Modified\r\nContent-Length:\t7\r\nA: b\r\n\r\n", Version::Http11, true),
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\nA: b\r\n\r\n"
        );
    }

    #[test]
    fn protocols_are_switched_when_the_response_says_so_in_full() {
        let switches = |text: &str| {
            let mut slots = FieldSlots::new();
            match parse_response(text.as_bytes(), false, &mut slots).unwrap() {
                Parsed::Complete(response, _) => response.switches_protocols(),
                Parsed::Partial => panic!("the head is complete"),
            }
        };
        let sound = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n";
        assert!(switches(sound));
        assert_eq!(
            encoded(sound, Version::Http11, true),
            "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        );
        for not in [
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
            "HTTP/1.0 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            "HTTP/1.1 200 OK\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        ] {
            assert!(!switches(not), "{not}");
        }
        let required = "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n";
        assert!(
            encoded(required, Version::Http11, true).ends_with("Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        );
    }

    #[test]
    fn via_names_the_version_of_the_backend() {
        let text = b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n";
        let mut slots = FieldSlots::new();
        let Ok(Parsed::Complete(response, _)) = parse_response(text, false, &mut slots) else {
            panic!("it is complete")
        };
        let mut out = Vec::new();
        let framing = Some(Framing::Length(0));
        response.encode(
            &Answering {
                version: Version::Http11,
                framing,
                persistent: true,
                via: Some("e"),
                date: Some("now"),
                request_id_line: None,
                removed: &[],
                replaced: None,
                added: b"",
            },
            &mut out,
        );
        assert!(String::from_utf8(out).unwrap().ends_with("\r\nDate: now\r\nVia: 1.0 e\r\n\r\n"));
    }

    #[test]
    fn each_client_gets_a_framing_that_it_knows() {
        let chunked = "HTTP/1.1 200 OK\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(encoded(chunked, Version::Http11, true), chunked);
        assert_eq!(encoded(chunked, Version::Http10, false), "HTTP/1.1 200 OK\r\nA: b\r\nConnection: close\r\n\r\n");
        let endless = "HTTP/1.1 200 OK\r\n\r\n";
        assert_eq!(encoded(endless, Version::Http11, true), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let sized = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n";
        assert!(encoded(sized, Version::Http10, true).ends_with("Connection: keep-alive\r\n\r\n"));
    }
}
