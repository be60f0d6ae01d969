//! Encoding of a request head for a backend.

use std::net::IpAddr;
use std::sync::Arc;

use super::RequestHead;
use crate::Framing;
use crate::TraceParent;
use crate::fields::{FieldSet, list, put, put_list, put_via, reads_alike};
use crate::hop::protocols;
use crate::lines::{Lines as _, copy_kept};

/// The values that a gateway adds to a request.
#[derive(Copy, Clone, Debug)]
pub struct Forwarding<'f> {
    /// The peer's address, for X-Forwarded-For.
    pub peer: IpAddr,
    /// Whether LoadX trusts Forwarded, the X-Forwarded fields and X-Real-IP of the peer. LoadX keeps or extends trusted
    /// fields, and replaces or removes untrusted fields.
    pub trusted: bool,
    /// The scheme that the client used, for X-Forwarded-Proto.
    pub scheme: &'f str,
    /// The pseudonym of LoadX in Via (RFC 9110, section 7.6.3); `None` adds no Via.
    pub via: Option<&'f str>,
    /// Whether to write Forwarded (RFC 7239) in addition to the X-Forwarded fields.
    pub forwarded: bool,
    /// The value of Client-Cert (RFC 9440): the certificate that the client showed LoadX; `None` adds no Client-Cert.
    pub client_certificate: Option<&'f [u8]>,
    /// The field line X-Request-Id with its CR LF; `None` leaves the field unchanged.
    pub request_id_line: Option<&'f [u8]>,
    /// The traceparent that replaces that of the request.
    pub trace: Option<TraceParent>,
    /// Whether `trace` is a trace that LoadX has begun. tracestate belongs to the trace of the request, and goes with it.
    pub begins_trace: bool,
    /// The number of the attempt, for X-LoadX-Attempt; `None` adds no such field.
    pub attempt: Option<usize>,
}

/// The changes that a route makes to a request. The default changes nothing.
#[derive(Copy, Clone, Debug, Default)]
pub struct Changes<'c> {
    /// The path and query that replace those of the request.
    pub path_and_query: Option<&'c [u8]>,
    /// The host, with an optional port, that replaces Host.
    pub host: Option<&'c [u8]>,
    /// The names of fields to remove, in lower case.
    pub removed: &'c [Arc<str>],
    /// Complete field lines to add.
    pub added: &'c [u8],
}

impl Changes<'_> {
    fn removes(&self, name: &[u8]) -> bool {
        self.removed.iter().any(|removed| reads_alike(name, removed.as_bytes()))
    }
}

impl RequestHead {
    /// Appends the head for a backend to `out`: HTTP/1.1, unchanged fields without the fields for this hop, and the
    /// fields about the client's address.
    pub fn encode(&self, forwarding: &Forwarding<'_>, changes: &Changes<'_>, out: &mut Vec<u8>) {
        let mut dropped = self.dropped;
        self.drop_rewritten(forwarding, changes, &mut dropped);
        out.extend_from_slice(self.method());
        out.push(b' ');
        out.extend_from_slice(changes.path_and_query.unwrap_or_else(|| self.path_and_query()));
        out.extend_from_slice(b" HTTP/1.1\r\n");
        match (changes.host, self.authority, self.host) {
            (Some(host), _, _) => put(out, "Host", host),
            (None, Some(_), _) => put(out, "Host", self.authority()),
            (None, None, None) => put(out, "Host", self.authority()),
            (None, None, Some(_)) => {}
        }
        copy_kept(self, dropped, self.respaced, out);
        self.put_forwarded(forwarding, changes, out);
        if let Some(certificate) = forwarding.client_certificate.filter(|_| !changes.removes(b"client-cert")) {
            put(out, "Client-Cert", certificate);
        }
        if !changes.removes(b"x-request-id") {
            out.extend_from_slice(forwarding.request_id_line.unwrap_or_default());
        }
        if let Some(trace) = &forwarding.trace {
            put(out, "Traceparent", &trace.value());
        }
        if let Some(attempt) = forwarding.attempt {
            put(out, "X-LoadX-Attempt", attempt.to_string().as_bytes());
        }
        out.extend_from_slice(changes.added);
        self.put_hop(out);
        if let Some(max_forwards) = self.max_forwards {
            put(out, "Max-Forwards", max_forwards.saturating_sub(1).to_string().as_bytes());
        }
        if let Some(pseudonym) = forwarding.via {
            put_via(out, self.version(), pseudonym);
        }
        if self.framing == Some(Framing::Chunked) {
            put(out, "Transfer-Encoding", b"chunked");
        }
        out.extend_from_slice(b"\r\n");
    }

    fn drop_rewritten(&self, forwarding: &Forwarding<'_>, changes: &Changes<'_>, dropped: &mut FieldSet) {
        if let Some(host) = self.host
            && (self.authority.is_some() || changes.host.is_some())
        {
            dropped.add(host);
        }
        dropped.add_all(self.claims.forwarded_for);
        if forwarding.request_id_line.is_some() {
            dropped.add_all(self.claims.request_id);
        }
        if !forwarding.trusted {
            dropped.add_all(self.claims.carried);
            dropped.add_all(self.claims.host);
            dropped.add_all(self.claims.proto);
        }
        if !forwarding.trusted || forwarding.client_certificate.is_some() {
            dropped.add_all(self.claims.certificate);
        }
        if forwarding.trace.is_some() {
            let of_trace = |name: &[u8]| {
                reads_alike(name, b"traceparent") || forwarding.begins_trace && reads_alike(name, b"tracestate")
            };
            (0..self.count()).filter(|index| of_trace(self.name(*index))).for_each(|index| dropped.add(index));
        }
        if !changes.removed.is_empty() {
            (0..self.count()).filter(|index| changes.removes(self.name(*index))).for_each(|index| dropped.add(index));
        }
    }

    /// Writes the fields of LoadX for the connection to the backend.
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
            put_list(out, "Upgrade", protocols(self));
        }
    }

    /// Writes the X-Forwarded fields. When a route removes or sets one of these fields, only the route decides on the
    /// field.
    fn put_forwarded(&self, forwarding: &Forwarding<'_>, changes: &Changes<'_>, out: &mut Vec<u8>) {
        if !changes.removes(b"x-forwarded-for") {
            out.extend_from_slice(b"X-Forwarded-For: ");
            if forwarding.trusted {
                for index in (0..self.count()).filter(|index| self.claims.forwarded_for.contains(*index)) {
                    for address in list(self.value(index)) {
                        out.extend_from_slice(address);
                        out.extend_from_slice(b", ");
                    }
                }
            }
            put_ip(out, forwarding.peer);
            out.extend_from_slice(b"\r\n");
        }
        let carried = |lines: FieldSet| forwarding.trusted && !lines.is_empty();
        if !carried(self.claims.proto) && !changes.removes(b"x-forwarded-proto") {
            match forwarding.scheme {
                "http" => out.extend_from_slice(b"X-Forwarded-Proto: http\r\n"),
                scheme => put(out, "X-Forwarded-Proto", scheme.as_bytes()),
            }
        }
        if !carried(self.claims.host) && !changes.removes(b"x-forwarded-host") {
            let host = self.named_authority();
            if !host.is_empty() {
                put(out, "X-Forwarded-Host", host);
            }
        }
        if forwarding.forwarded && !changes.removes(b"forwarded") {
            self.put_standard_forwarded(forwarding, out);
        }
    }

    /// Writes Forwarded (RFC 7239, section 4), after the elements of a trusted peer.
    fn put_standard_forwarded(&self, forwarding: &Forwarding<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"Forwarded: for=");
        if forwarding.peer.to_canonical().is_ipv6() {
            out.extend_from_slice(b"\"[");
            put_ip(out, forwarding.peer);
            out.extend_from_slice(b"]\"");
        } else {
            put_ip(out, forwarding.peer);
        }
        // Host contains no quote and no backslash (`is_authority`), so quotes around it are enough.
        if !self.named_authority().is_empty() {
            out.extend_from_slice(b";host=\"");
            out.extend_from_slice(self.named_authority());
            out.extend_from_slice(b"\"");
        }
        out.extend_from_slice(b";proto=");
        out.extend_from_slice(forwarding.scheme.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// Every octet in decimal with a point after the digits, and the length in bytes.
const OCTETS: [([u8; 4], u8); 256] = {
    let mut octets = [(*b"0.\0\0", 2); 256];
    let mut octet = 1;
    while octet < 256 {
        let [hundreds, tens, ones] =
            [b'0' + (octet / 100) as u8, b'0' + (octet / 10 % 10) as u8, b'0' + (octet % 10) as u8];
        octets[octet] = match octet {
            100.. => ([hundreds, tens, ones, b'.'], 4),
            10.. => ([tens, ones, b'.', 0], 3),
            _ => ([ones, b'.', 0, 0], 2),
        };
        octet += 1;
    }
    octets
};

/// Appends an address in its usual notation; an IPv4-mapped IPv6 address in the notation of the IPv4 address.
pub fn put_ip(out: &mut Vec<u8>, ip: IpAddr) {
    use std::io::Write as _;
    match ip.to_canonical() {
        // Runs once per request and once per line of the access log: the formatter took 640 of 16,500 instructions.
        IpAddr::V4(ip) => {
            let (mut text, mut end) = ([0; 16], 0);
            for octet in ip.octets() {
                let (spelled, length) = OCTETS[usize::from(octet)];
                text[end..end + 4].copy_from_slice(&spelled);
                end += usize::from(length);
            }
            out.extend_from_slice(&text[..end - 1]);
        }
        IpAddr::V6(ip) => write!(out, "{ip}").expect("writing to a Vec does not fail"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_their_usual_notation() {
        for octet in 0..=255 {
            for ip in [IpAddr::from([octet, 0, 255, octet]), IpAddr::from([octet; 16])] {
                let mut out = Vec::new();
                put_ip(&mut out, ip);
                assert_eq!(String::from_utf8(out).unwrap(), ip.to_canonical().to_string());
            }
        }
    }
}
