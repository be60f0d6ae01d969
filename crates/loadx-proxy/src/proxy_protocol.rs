//! The PROXY protocol (versions 1 and 2): the address of the client at the beginning of a connection.

use std::fmt;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use loadx_core::Time;
use loadx_core::config::ProxyVersion;
use proxy_header::{ParseConfig, ProxiedAddress, ProxyHeader, SslInfo, Tlv};

use crate::io::{Broken, readable};
use crate::limits::PROXY_HEADER_BYTES_MAX;
use crate::net::Stream;
use crate::origin::Origin;
use crate::timer::Timer;
use crate::tls::TlsFacts;

/// The first bytes of version 2.
const SIGNATURE_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The bytes of version 2 before the addresses, with the length of the rest in the last two bytes.
const FIXED_V2: usize = 16;

/// The first bytes of version 1.
const SIGNATURE_V1: &[u8] = b"PROXY ";

/// The shortest header of version 1: `PROXY UNKNOWN` and CR LF.
const SHORTEST_V1: usize = 15;

/// The longest header of version 1.
const LONGEST_V1: usize = 107;

/// Why there is no header.
#[derive(Debug)]
pub(crate) enum HeaderFault {
    /// The connection begins with something else.
    Missing,
    /// The header is not valid; with the reason.
    Invalid(String),
    /// The connection broke, or the peer was too slow.
    Broken(Broken),
}

impl fmt::Display for HeaderFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeaderFault::Missing => f.write_str("the connection does not begin with a header of the PROXY protocol"),
            HeaderFault::Invalid(reason) => write!(f, "the header of the PROXY protocol is not valid: {reason}"),
            HeaderFault::Broken(broken) => write!(f, "the header of the PROXY protocol did not arrive: {broken}"),
        }
    }
}

/// Receives the header until `deadline`. Reads no byte after the header. `None` if the peer speaks for itself, as in a health
/// check, or does not know the client.
///
/// # Errors
/// Any [`HeaderFault`].
pub(crate) async fn receive<S: Stream>(
    stream: &S,
    timer: &Timer,
    deadline: impl Fn() -> Time,
) -> Result<Option<Origin>, HeaderFault> {
    let mut header = Vec::new();
    loop {
        let wanted = missing(&header)?;
        if wanted == 0 {
            return parse(&header);
        }
        read(stream, &mut header, wanted, timer, &deadline).await.map_err(HeaderFault::Broken)?;
    }
}

/// The number of bytes that certainly belong to the header and are missing; 0 if the header is complete.
fn missing(header: &[u8]) -> Result<usize, HeaderFault> {
    let begins = |signature: &[u8]| signature.iter().zip(header).all(|(one, other)| one == other);
    if begins(SIGNATURE_V1) {
        if header.len() < SHORTEST_V1 {
            return Ok(SHORTEST_V1 - header.len());
        }
        return match header {
            [.., b'\r', b'\n'] => Ok(0),
            _ if header.len() >= LONGEST_V1 => Err(HeaderFault::Invalid("the line is too long".to_owned())),
            [.., b'\r'] => Ok(1),
            // At least CR LF, and at most to the end of the longest line.
            _ => Ok(2.min(LONGEST_V1 - header.len())),
        };
    }
    if !begins(SIGNATURE_V2) {
        return Err(HeaderFault::Missing);
    }
    let Some(length) = header.get(FIXED_V2 - 2..FIXED_V2) else {
        // Version 1 could still be shorter than the fixed part of version 2.
        return Ok(SHORTEST_V1.saturating_sub(header.len()).max(1));
    };
    let whole = FIXED_V2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
    if whole > PROXY_HEADER_BYTES_MAX {
        return Err(HeaderFault::Invalid(format!("{whole} bytes are more than {PROXY_HEADER_BYTES_MAX}")));
    }
    Ok(whole - header.len())
}

fn parse(header: &[u8]) -> Result<Option<Origin>, HeaderFault> {
    // The library reads numbers as Rust does, with a sign.
    if header.starts_with(b"PROXY TCP") && header.contains(&b'+') {
        return Err(HeaderFault::Invalid("a port has a sign".to_owned()));
    }
    let parsed = ProxyHeader::parse(header, ParseConfig::default());
    let (header, _) = parsed.map_err(|error| HeaderFault::Invalid(error.to_string()))?;
    let address = header.proxied_address();
    Ok(address.map(|address| Origin::told(address.source, address.destination)))
}

async fn read<S: Stream>(
    stream: &S,
    header: &mut Vec<u8>,
    wanted: usize,
    timer: &Timer,
    deadline: &impl Fn() -> Time,
) -> Result<(), Broken> {
    let start = header.len();
    header.resize(start + wanted, 0);
    loop {
        readable(stream, timer, deadline).await?;
        match stream.try_read(&mut header[start..]) {
            Ok(0) => return Err(Broken::Closed),
            Ok(count) => {
                header.truncate(start + count);
                return Ok(());
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(Broken::Failed(error)),
        }
    }
}

/// The header of a connection for a client. `local`: the address to which the client connected, if the client's peer did not
/// tell another.
pub(crate) fn header(
    version: ProxyVersion,
    origin: &Origin,
    local: Option<SocketAddr>,
    tls: Option<&TlsFacts>,
) -> Vec<u8> {
    let source = origin.address();
    let unknown = match source {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let (source, destination) = of_one_family(source, origin.destination().or(local).unwrap_or(unknown));
    let mut header = ProxyHeader::with_address(ProxiedAddress::stream(source, destination));
    if let (ProxyVersion::V2, Some(tls)) = (version, tls) {
        if let Some(name) = &tls.server_name {
            header.append_tlv(Tlv::Authority((&**name).into()));
        }
        header.append_tlv(Tlv::Ssl(ssl(tls)));
    }
    encode(version, &header)
}

/// The header of a connection of LoadX itself, such as that of a probe.
pub(crate) fn local_header(version: ProxyVersion) -> Vec<u8> {
    encode(version, &ProxyHeader::with_local())
}

fn ssl(tls: &TlsFacts) -> SslInfo<'static> {
    /// Any value except 0 means: no certificate was verified.
    const NOT_VERIFIED: u32 = 1;
    let has_certificate = tls.client_certificate.is_some();
    let verify = if has_certificate { 0 } else { NOT_VERIFIED };
    let mut ssl = SslInfo::new(true, has_certificate && !tls.is_resumed, has_certificate, verify);
    ssl.append_tlv(Tlv::SslVersion(tls.version.into()));
    ssl.append_tlv(Tlv::SslCipher(tls.cipher.into()));
    if let Some(name) = &tls.client_name {
        ssl.append_tlv(Tlv::SslCn((&**name).into()));
    }
    ssl
}

fn encode(version: ProxyVersion, header: &ProxyHeader<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoded = match version {
        ProxyVersion::V1 => header.encode_v1(&mut bytes),
        ProxyVersion::V2 => header.encode_v2(&mut bytes),
    };
    encoded.expect("both addresses are of one family, and all texts are short");
    bytes
}

/// The header has two addresses of one family.
fn of_one_family(one: SocketAddr, other: SocketAddr) -> (SocketAddr, SocketAddr) {
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let (one, other) = (plain(one), plain(other));
    if one.is_ipv4() == other.is_ipv4() {
        return (one, other);
    }
    let mapped = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => SocketAddr::from((ip.to_ipv6_mapped(), address.port())),
        IpAddr::V6(_) => address,
    };
    (mapped(one), mapped(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// Takes the header as `receive` does, and returns what is left of the bytes.
    fn take(mut bytes: &[u8]) -> Result<(Option<Origin>, usize), HeaderFault> {
        let mut header = Vec::new();
        loop {
            let wanted = missing(&header)?;
            if wanted == 0 {
                return Ok((parse(&header)?, bytes.len()));
            }
            // A byte at a time is the worst case.
            let Some((byte, rest)) = bytes.split_first() else { return Err(HeaderFault::Broken(Broken::Closed)) };
            header.push(*byte);
            bytes = rest;
        }
    }

    #[test]
    fn a_header_is_taken_and_not_a_byte_more() {
        let origin = Origin::of(at("192.0.2.1:40000"));
        for version in [ProxyVersion::V1, ProxyVersion::V2] {
            let mut bytes = header(version, &origin, Some(at("198.51.100.1:443")), None);
            bytes.extend_from_slice(b"GET / HTTP/1.1\r\n");
            let (told, left) = take(&bytes).unwrap();
            let told = told.unwrap();
            assert_eq!((told.address(), told.destination()), (at("192.0.2.1:40000"), Some(at("198.51.100.1:443"))));
            assert_eq!(left, b"GET / HTTP/1.1\r\n".len());
            let (told, left) = take(&local_header(version)).unwrap();
            assert!(told.is_none() && left == 0);
        }
    }

    #[test]
    fn addresses_of_two_families_become_one() {
        let origin = Origin::of(at("192.0.2.1:40000"));
        let bytes = header(ProxyVersion::V1, &origin, Some(at("[2001:db8::1]:443")), None);
        assert_eq!(bytes, b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::1 40000 443\r\n");
        let bytes = header(ProxyVersion::V1, &origin, Some(at("[::ffff:198.51.100.1]:443")), None);
        assert_eq!(bytes, b"PROXY TCP4 192.0.2.1 198.51.100.1 40000 443\r\n");
    }

    #[test]
    fn other_beginnings_and_invalid_headers_are_faults() {
        assert!(matches!(take(b"GET / HTTP/1.1\r\n"), Err(HeaderFault::Missing)));
        assert!(matches!(take(b"PROXY TCP4 x y 1 2\r\n"), Err(HeaderFault::Invalid(_))));
        assert!(matches!(take(&[b"PROXY TCP4 ", &b"1"[..].repeat(200)[..]].concat()), Err(HeaderFault::Invalid(_))));
        assert!(matches!(take(b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n"), Err(HeaderFault::Invalid(_))));
        assert!(matches!(take(b"PROXY TCP4 192.0.2.1"), Err(HeaderFault::Broken(Broken::Closed))));
        let mut long = SIGNATURE_V2.to_vec();
        long.extend_from_slice(&[0x21, 0x11, 0xff, 0xff]);
        assert!(matches!(take(&long), Err(HeaderFault::Invalid(_))));
    }
}
