//! Request heads: parsing and storage; [`encode`] writes a head for a backend, [`target`] parses the request target.

mod encode;
mod target;

use crate::fields::{FieldSet, Known, is_lookalike, leading_empty_line, list};
use crate::grammar::{RequestLine, Stop, field_lines, request_line};
use crate::hop::{ConnectionOptions, Hop, protocols};
use crate::limits::{HEAD_BYTES_MAX, TARGET_BYTES_MAX};
use crate::lines::{Line, Lines, Span};
use crate::{Fault, Framing, Parsed, Response, Version};

pub use encode::{Changes, Forwarding, put_ip};
use target::{is_authority, origin};

/// A valid request head.
///
/// The head stores its bytes in its own buffer, contiguous and unchanged, so that the head outlives the read buffer and
/// LoadX can copy runs of fields. Reading into a used head allocates nothing.
#[derive(Debug, Default)]
pub struct RequestHead {
    /// The bytes from the method to the empty line; then a path if the target does not contain it.
    bytes: Vec<u8>,
    /// The length in bytes, including the empty line.
    length: usize,
    lines: Vec<Line>,
    method: Span,
    target: Span,
    /// Path and query.
    path: Span,
    /// In absolute-form, the authority that replaces Host.
    authority: Option<Span>,
    /// The authority that the caller chose for a request that names none.
    assumed: Option<Span>,
    version: Option<Version>,
    framing: Option<Framing>,
    connection: ConnectionOptions,
    dropped: FieldSet,
    /// The position of a Content-Length that LoadX writes anew.
    respaced: Option<usize>,
    /// The position of Host, which a gateway may rewrite.
    host: Option<usize>,
    claims: Claims,
    /// Whether the client accepts trailers (RFC 9110, section 10.1.4).
    takes_trailers: bool,
    /// Whether the client offers an upgrade to a protocol that LoadX tunnels.
    upgrade: bool,
    /// Whether the client waits for a 100 before it sends content.
    expects_continue: bool,
    /// The Max-Forwards of an OPTIONS.
    max_forwards: Option<u64>,
    /// The position of X-LoadX-Explain.
    explain: Option<usize>,
}

impl Lines for RequestHead {
    fn count(&self) -> usize {
        self.lines.len()
    }

    fn head(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn start(&self, index: usize) -> usize {
        self.lines[index].name.start as usize
    }

    fn name(&self, index: usize) -> &[u8] {
        self.lines[index].name.in_bytes(&self.bytes)
    }

    fn value(&self, index: usize) -> &[u8] {
        self.lines[index].value.in_bytes(&self.bytes)
    }

    fn known(&self, index: usize) -> Option<Known> {
        self.lines[index].known
    }
}

/// The positions of the fields about the origin of a request.
#[derive(Copy, Clone, Debug, Default)]
struct Claims {
    forwarded_for: FieldSet,
    /// Forwarded, X-Real-IP and X-Forwarded-Port, which LoadX only carries on for a trusted peer.
    carried: FieldSet,
    certificate: FieldSet,
    host: FieldSet,
    proto: FieldSet,
    request_id: FieldSet,
}

/// Reads the head of a request at the start of `bytes` into `head`. After [`Parsed::Partial`] or a fault the content of
/// `head` is unspecified.
///
/// # Errors
/// Any [`Fault`]: the caller must refuse the request and close the connection.
pub fn parse_request(bytes: &[u8], head: &mut RequestHead) -> Result<Parsed<()>, Fault> {
    let Some(lead) = leading_empty_line(bytes)? else { return Ok(Parsed::Partial) };
    let received = &bytes[lead..];
    let read = request_line(received).and_then(|line| {
        let length = field_lines(received, line.length, &mut head.lines)?;
        Ok((line, length))
    });
    let (line, length) = match read {
        Ok(read) => read,
        Err(Stop::Partial) => return partial(received),
        Err(Stop::Fault(fault)) => return Err(fault),
    };
    if length > HEAD_BYTES_MAX {
        return Err(Fault::HeadTooLarge);
    }
    head.begin(&received[..length], &line)?;
    head.scan()?;
    Ok(Parsed::Complete((), lead + length))
}

/// Returns `Partial` for an incomplete head, or a fault when the bytes so far exceed a limit.
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

impl RequestHead {
    /// Reads a head into new memory; see [`parse_request`].
    ///
    /// # Errors
    /// The same as [`parse_request`].
    pub fn read(bytes: &[u8]) -> Result<Parsed<Self>, Fault> {
        let mut head = RequestHead::default();
        Ok(match parse_request(bytes, &mut head)? {
            Parsed::Complete((), length) => Parsed::Complete(head, length),
            Parsed::Partial => Parsed::Partial,
        })
    }

    /// Stores the start line and the bytes of a head whose field lines are stored.
    fn begin(&mut self, received: &[u8], line: &RequestLine) -> Result<(), Fault> {
        let origin = origin(line.method.in_bytes(received), line.target.in_bytes(received))?;
        let target_end = line.target.end as usize;
        // Names each part, so that no part of a former head stays.
        let RequestHead {
            bytes,
            length,
            lines: _,
            method,
            target,
            path,
            authority,
            assumed,
            version,
            framing,
            connection,
            dropped,
            respaced,
            host,
            claims,
            takes_trailers,
            upgrade,
            expects_continue,
            max_forwards,
            explain,
        } = self;
        bytes.clear();
        bytes.extend_from_slice(received);
        *length = received.len();
        (*method, *target, *version) = (line.method, line.target, Some(line.version));
        // The path is the end of the target, and the authority is before the path.
        let path_start = target_end - origin.path.len();
        *authority = origin.authority.map(|authority| Span::new(path_start - authority.len(), path_start));
        // The part of the path that the target omits (RFC 9112, section 3.2.4) is stored after the head.
        *path = match origin.missing {
            "" => Span::new(path_start, target_end),
            missing => {
                bytes.extend_from_slice(missing.as_bytes());
                bytes.extend_from_slice(origin.path);
                Span::new(received.len(), bytes.len())
            }
        };
        (*assumed, *framing, *respaced, *host, *max_forwards, *explain) = (None, None, None, None, None, None);
        (*connection, *dropped, *claims) = Default::default();
        (*takes_trailers, *upgrade, *expects_continue) = (false, false, false);
        Ok(())
    }

    /// Scans every field once: its meaning for the message, and whether LoadX forwards it.
    fn scan(&mut self) -> Result<(), Fault> {
        let version = self.version();
        let is_options = self.method() == b"OPTIONS";
        let mut hop = Hop::default();
        let RequestHead {
            bytes,
            length,
            lines,
            host,
            claims,
            explain,
            takes_trailers,
            max_forwards,
            expects_continue,
            ..
        } = self;
        let received = &bytes[..*length];
        for (index, line) in lines.iter().enumerate() {
            let Some(known) = line.known else {
                if is_lookalike(line.name.in_bytes(received)) {
                    hop.dropped.add(index);
                }
                continue;
            };
            hop.note(known, index, line, received)?;
            let value = line.value.in_bytes(received);
            match known {
                Known::Host => {
                    if host.replace(index).is_some() {
                        return Err(Fault::Malformed("Host appears more than once"));
                    }
                    if !is_authority(value) {
                        return Err(Fault::Malformed("Host is not a host and port"));
                    }
                }
                Known::XForwardedFor => claims.forwarded_for.add(index),
                Known::Forwarded | Known::XRealIp | Known::XForwardedPort => claims.carried.add(index),
                Known::ClientCert => claims.certificate.add(index),
                // From a trusted peer too: no proxy has a use for the field, and not every one takes it from a stranger.
                Known::Proxy => hop.dropped.add(index),
                // The number of attempts of this hop; a client's number would mislead the backend.
                Known::XLoadXAttempt => hop.dropped.add(index),
                // No backend gets the token of an operator.
                Known::XLoadXExplain => {
                    *explain = Some(index);
                    hop.dropped.add(index);
                }
                Known::XForwardedHost => claims.host.add(index),
                Known::XForwardedProto => claims.proto.add(index),
                Known::XRequestId => claims.request_id.add(index),
                Known::Te => {
                    *takes_trailers |= list(value).any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
                }
                Known::MaxForwards if is_options => {
                    if max_forwards.replace(max_forwards_of(value)?).is_some() {
                        return Err(Fault::Malformed("Max-Forwards appears more than once"));
                    }
                    hop.dropped.add(index);
                }
                // HTTP/1.0 has no 100 (RFC 9110, section 10.1.1).
                Known::Expect if version == Version::Http10 => hop.dropped.add(index),
                Known::Expect => *expects_continue |= value.eq_ignore_ascii_case(b"100-continue"),
                _ => {}
            }
        }
        // HTTP/1.0 has no Upgrade (RFC 9110, section 7.8).
        self.upgrade = hop.names_protocols
            && hop.connection.upgrade
            && version == Version::Http11
            && protocols(self).next().is_some();
        if self.host.is_none() && version == Version::Http11 {
            return Err(Fault::Malformed("Host is missing"));
        }
        self.framing = hop.framing.framing(version)?;
        hop.connection.drop_named(self, &mut hop.dropped);
        (self.connection, self.dropped, self.respaced) = (hop.connection, hop.dropped, hop.respaced);
        Ok(())
    }

    /// The method, unchanged.
    pub fn method(&self) -> &[u8] {
        self.method.in_bytes(&self.bytes)
    }

    /// The request target, unchanged.
    pub fn target(&self) -> &[u8] {
        self.target.in_bytes(&self.bytes)
    }

    /// The path and query, for every form of the target.
    pub fn path_and_query(&self) -> &[u8] {
        self.path.in_bytes(&self.bytes)
    }

    /// The host and port of the request: as the client sent them, or as the caller
    /// [assumes](RequestHead::assume_authority) them; empty without both.
    pub fn authority(&self) -> &[u8] {
        match self.assumed {
            Some(assumed) => assumed.in_bytes(&self.bytes),
            None => self.named_authority(),
        }
    }

    /// Chooses the authority of a request that names none, as HTTP/1.0 allows. The backend gets the authority as Host, so
    /// that the host that a route matched is the host that the backend reads.
    pub fn assume_authority(&mut self, authority: &[u8]) {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(authority);
        self.assumed = Some(Span { start, end: self.bytes.len() as u32 });
    }

    /// The host and port of the request, as the client sent them; empty without a host.
    fn named_authority(&self) -> &[u8] {
        match (self.authority, self.host) {
            // RFC 9112, section 3.2.2: the authority of the target replaces Host.
            (Some(authority), _) => authority.in_bytes(&self.bytes),
            (None, Some(host)) => self.value(host),
            (None, None) => b"",
        }
    }

    /// The values of all fields of this name, in order.
    pub fn values<'h, 'n>(&'h self, name: &'n str) -> impl Iterator<Item = &'h [u8]> + use<'h, 'n> {
        let indices =
            (0..self.lines.len()).filter(move |index| self.name(*index).eq_ignore_ascii_case(name.as_bytes()));
        indices.map(|index| self.value(index))
    }

    /// The values of the fields of this name that a backend gets of the client, in order. Without `trusted`, the fields by
    /// which a client claims to be a proxy are not among them.
    pub fn forwarded_values<'h, 'n>(
        &'h self,
        name: &'n str,
        trusted: bool,
    ) -> impl Iterator<Item = &'h [u8]> + use<'h, 'n> {
        let mut dropped = self.dropped;
        if !trusted {
            let Claims { forwarded_for, carried, certificate, host, proto, request_id } = self.claims;
            [forwarded_for, carried, certificate, host, proto, request_id]
                .into_iter()
                .for_each(|claims| dropped.add_all(claims));
        }
        let is_asked =
            move |index: &usize| !dropped.contains(*index) && self.name(*index).eq_ignore_ascii_case(name.as_bytes());
        (0..self.lines.len()).filter(is_asked).map(|index| self.value(index))
    }

    /// The HTTP version of the client.
    pub fn version(&self) -> Version {
        self.version.unwrap_or(Version::Http11)
    }

    /// Sets the version in which the head was received, if that is not the version in the bytes.
    pub fn set_version(&mut self, version: Version) {
        self.version = Some(version);
    }

    /// The framing of the body; length 0 without a body.
    pub fn framing(&self) -> Framing {
        self.framing.unwrap_or(Framing::Length(0))
    }

    /// Whether the connection stays open after this request (RFC 9112, section 9.3).
    pub fn persistent(&self) -> bool {
        self.connection.persistent(self.version())
    }

    /// Whether the method is idempotent (RFC 9110, section 9.2.2), so that the request may be sent again.
    pub fn idempotent(&self) -> bool {
        matches!(self.method(), b"GET" | b"HEAD" | b"OPTIONS" | b"PUT" | b"DELETE")
    }

    /// Whether the method is HEAD, so that the response has no content (RFC 9110, section 9.3.2).
    pub fn is_head(&self) -> bool {
        self.method() == b"HEAD"
    }

    /// Whether the client waits for a 100 before it sends content (RFC 9110, section 10.1.1).
    pub fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// The protocols in Upgrade that LoadX tunnels, if the request offers an upgrade.
    pub fn offered_protocols(&self) -> impl Iterator<Item = &[u8]> {
        protocols(self).filter(|_| self.upgrade)
    }

    /// Whether the client offers an upgrade to a protocol that LoadX tunnels.
    pub fn offers_upgrade(&self) -> bool {
        self.upgrade
    }

    /// Whether the client offered every protocol in the Upgrade of `response`.
    pub fn offers(&self, response: &Response<'_, '_>) -> bool {
        let offered = |chosen: &[u8]| protocols(self).any(|protocol| protocol.eq_ignore_ascii_case(chosen));
        self.upgrade && response.protocols().all(offered)
    }

    /// The Max-Forwards of an OPTIONS; LoadX itself answers a request with 0 (RFC 9110, section 7.6.2). `None` for
    /// other methods and without the field.
    pub fn max_forwards(&self) -> Option<u64> {
        self.max_forwards
    }

    /// Whether a field claims that a proxy forwarded this request (X-Forwarded-For, Forwarded).
    pub fn claims_forwarded(&self) -> bool {
        !self.claims.forwarded_for.is_empty() || !self.claims.carried.is_empty()
    }

    /// The addresses in X-Forwarded-For, last first: the first item is the address that the peer added.
    pub fn forwarded_for(&self) -> impl Iterator<Item = &[u8]> {
        let lines = (0..self.lines.len()).rev().filter(|index| self.claims.forwarded_for.contains(*index));
        lines.flat_map(|index| self.value(index).rsplit(|byte| *byte == b',').map(<[u8]>::trim_ascii))
    }

    /// The value of X-LoadX-Explain.
    pub fn explain_token(&self) -> Option<&[u8]> {
        self.explain.map(|index| self.value(index).trim_ascii())
    }

    /// The value of the first X-Request-Id.
    pub fn request_id(&self) -> Option<&[u8]> {
        if self.claims.request_id.is_empty() {
            return None;
        }
        let first = (0..self.lines.len()).find(|index| self.claims.request_id.contains(*index));
        first.map(|index| self.value(index))
    }
}

fn max_forwards_of(value: &[u8]) -> Result<u64, Fault> {
    const BAD: Fault = Fault::Malformed("Max-Forwards is not a plain decimal number");
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(BAD);
    }
    // A value larger than 64 bits counts as the largest value.
    Ok(std::str::from_utf8(value).map_err(|_| BAD)?.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
