//! Request heads: reading them; in [`encode`] what a backend gets of them, in [`target`] where they point.

mod encode;
mod target;

use crate::fields::{ConnectionOptions, Field, FieldSet, Hop, Known, check_lines, leading_empty_line, list, protocols};
use crate::limits::{HEAD_BYTES_MAX, TARGET_BYTES_MAX};
use crate::{Fault, FieldSlots, Framing, Parsed, Version};

pub use encode::{Forwarding, put_ip};
use target::{Origin, is_authority, origin};

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
    dropped: FieldSet,
    /// The place of Host, which a gateway may have to rewrite.
    host: Option<usize>,
    claims: Claims,
    /// Whether the client takes trailers (RFC 9110, section 10.1.4).
    takes_trailers: bool,
    /// Whether the client offers to go on in another protocol that LoadX tunnels.
    upgrade: bool,
    /// Whether it waits for a 100.
    expects_continue: bool,
    /// Of an OPTIONS, how often it may be passed on.
    max_forwards: Option<u64>,
}

/// Where the fields stand that say where a request comes from.
#[derive(Copy, Clone, Debug, Default)]
struct Claims {
    forwarded_for: FieldSet,
    forwarded: FieldSet,
    host: FieldSet,
    proto: FieldSet,
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
    check_lines(head, fields)?;
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
        dropped: FieldSet::default(),
        host: None,
        claims: Claims::default(),
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
                Known::XForwardedFor => self.claims.forwarded_for.add(index),
                Known::Forwarded => self.claims.forwarded.add(index),
                Known::XForwardedHost => self.claims.host.add(index),
                Known::XForwardedProto => self.claims.proto.add(index),
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
        !self.claims.forwarded_for.is_empty() || !self.claims.forwarded.is_empty()
    }

    /// The addresses that X-Forwarded-For names, last first: the one that the peer added leads.
    pub fn forwarded_for(&self) -> impl Iterator<Item = &'b [u8]> + '_ {
        let lines = self.fields.iter().enumerate().rev();
        let lines = lines.filter(|(index, _)| self.claims.forwarded_for.contains(*index));
        lines.flat_map(|(_, field)| field.value.rsplit(|byte| *byte == b',').map(<[u8]>::trim_ascii))
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

#[cfg(test)]
mod tests;
