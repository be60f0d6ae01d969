//! Addresses and paths in options of the command line.

use std::net::Ipv6Addr;

use loadx_core::config::{self, HostPort};

/// All IPv4 addresses of the machine.
pub(super) const ALL_ADDRESSES: &str = "0.0.0.0";

/// The address of a backend, and whether the backend speaks TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BackendAddress {
    pub(super) at: HostPort,
    pub(super) tls: bool,
}

/// Parses the address of a backend: `host:port`, `http://host:port` or `https://host:port`; `https://host` means port 443.
pub(super) fn parse_backend(text: &str) -> Result<BackendAddress, String> {
    let (authority, tls) = authority(text)?;
    if tls && !has_port(authority) {
        return Ok(BackendAddress { at: named(unbracketed(authority), HTTPS_PORT)?, tls });
    }
    parse_at(authority).map(|at| BackendAddress { at, tls })
}

/// The port of https (RFC 9110, section 4.2.2).
const HTTPS_PORT: u16 = 443;

fn has_port(authority: &str) -> bool {
    authority.rsplit_once(':').is_some_and(|(_, port)| is_number(port))
}

fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

fn parse_at(authority: &str) -> Result<HostPort, String> {
    if is_number(authority) {
        return Err(format!("the host is missing; write HOST:PORT, such as localhost:{authority}"));
    }
    let (host, port) = split(authority)?;
    if host.is_empty() {
        return Err(format!("the host is missing; write HOST:PORT, such as localhost:{port}"));
    }
    let port = match port.parse() {
        Ok(port @ 1..) => port,
        _ => return Err(format!("\"{port}\" is not a port; a port is a number from 1 to 65535")),
    };
    named(host, port)
}

/// Parses the address to listen on: `host:port`, or `:port` for all IPv4 addresses.
pub(super) fn parse_listen(text: &str) -> Result<HostPort, String> {
    let (authority, tls) = authority(text)?;
    if tls {
        return Err("write HOST:PORT, and name the hosts for HTTPS with --https NAME".to_owned());
    }
    if is_number(authority) {
        return Err(format!("write :{authority} to listen on port {authority} of all addresses"));
    }
    let (host, port) = split(authority)?;
    let port = port.parse().map_err(|_| format!("\"{port}\" is not a port; a port is a number from 0 to 65535"))?;
    named(if host.is_empty() { ALL_ADDRESSES } else { host }, port)
}

/// Parses a name for which LoadX gets a certificate.
pub(super) fn parse_name(text: &str) -> Result<String, String> {
    if text.starts_with("*.") {
        return Err("a name with * needs a config file with \"dns_hook\"; docs/https.md shows one".to_owned());
    }
    let tls = serde_json::json!({ "auto": [text] });
    accepted(&serde_json::json!({ "tls": tls, "backend_servers": [{ "host": "localhost", "port": 1 }] })).map_err(
        |()| {
            format!(
                "\"{text}\" is not a host; write a name without scheme and port, such as app.example.com or localhost"
            )
        },
    )?;
    Ok(text.to_owned())
}

/// Parses the path of health probes.
pub(super) fn parse_path(text: &str) -> Result<String, String> {
    accepted(&serde_json::json!({
        "backend_servers": [{ "host": "localhost", "port": 1 }],
        "health_check_path": text,
    }))
    .map_err(|_| "write a path that begins with / and has no spaces, such as /health".to_owned())?;
    Ok(text.to_owned())
}

/// The part of a URL between the scheme and the path, and whether the scheme is https; the URL may have no path except `/`.
fn authority(text: &str) -> Result<(&str, bool), String> {
    let (rest, tls) = match text.split_once("://") {
        None => (text, false),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (rest, false),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (rest, true),
        Some((scheme, _)) => {
            return Err(format!("the scheme \"{scheme}\" is not supported; write http://HOST:PORT or HOST:PORT"));
        }
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if !matches!(path, "" | "/") {
        return Err(format!(
            "a path is not possible here: LoadX passes on the path of each request; leave out \"{path}\""
        ));
    }
    if authority.contains('@') {
        return Err("a user name is not possible here; write HOST:PORT, such as localhost:8001".to_owned());
    }
    Ok((authority, tls))
}

/// Host and port of `host:port`. An IPv6 address loses its brackets.
fn split(authority: &str) -> Result<(&str, &str), String> {
    let brackets = "an IPv6 address stands in brackets";
    let missing = "the port is missing; write HOST:PORT, such as localhost:8001";
    if let Some((address, rest)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let port = rest.strip_prefix(':').ok_or(missing)?;
        return match address.parse::<Ipv6Addr>() {
            Ok(_) => Ok((address, port)),
            Err(_) => Err(format!("\"{address}\" is not an IPv6 address, and only such an address stands in brackets")),
        };
    }
    let (host, port) = authority.rsplit_once(':').ok_or(missing)?;
    if !host.contains(':') {
        return Ok((host, port));
    }
    Err(if host.parse::<Ipv6Addr>().is_ok() {
        format!("{brackets}: [{host}]:{port}")
    } else if authority.parse::<Ipv6Addr>().is_ok() {
        format!("{brackets} and a port follows: [{authority}]:8001")
    } else {
        format!("\"{host}\" is not a host; write HOST:PORT, such as localhost:8001 ({brackets}: [::1]:8001)")
    })
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The address, if the config accepts its host.
fn named(host: &str, port: u16) -> Result<HostPort, String> {
    accepted(&serde_json::json!({ "backend_servers": [{ "host": host, "port": 1 }] })).map_err(|()| {
        format!("\"{host}\" is not a host name or IP address; write HOST:PORT, such as localhost:8001")
    })?;
    Ok(HostPort { host: host.to_owned(), port })
}

/// Whether the config reader takes these values. The reader owns the rules; this module must not have a second set.
fn accepted(file: &serde_json::Value) -> Result<(), ()> {
    config::parse(&file.to_string()).map(|_| ()).map_err(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, port: u16) -> Result<HostPort, String> {
        Ok(HostPort { host: host.into(), port })
    }

    fn backend(host: &str, port: u16, tls: bool) -> Result<BackendAddress, String> {
        at(host, port).map(|at| BackendAddress { at, tls })
    }

    #[test]
    fn backends_are_read() {
        assert_eq!(parse_backend("localhost:8001"), backend("localhost", 8001, false));
        assert_eq!(parse_backend("http://localhost:8001"), backend("localhost", 8001, false));
        assert_eq!(parse_backend("HTTP://10.0.0.7:80/"), backend("10.0.0.7", 80, false));
        assert_eq!(parse_backend("[::1]:80"), backend("::1", 80, false));
        assert_eq!(parse_backend("http://[::1]:80/"), backend("::1", 80, false));
        assert_eq!(parse_backend("https://app.test:8443"), backend("app.test", 8443, true));
        assert_eq!(parse_backend("https://app.test/"), backend("app.test", 443, true));
        assert_eq!(parse_backend("https://[::1]"), backend("::1", 443, true));
    }

    #[test]
    fn bad_backends_are_explained() {
        for (text, told) in [
            ("localhost", "port is missing"),
            ("http://localhost", "port is missing"),
            ("[::1]", "port is missing"),
            ("8001", "such as localhost:8001"),
            (":80", "host is missing"),
            ("localhost:0", "1 to 65535"),
            ("localhost:65536", "1 to 65535"),
            ("::1:80", "[::1]:80"),
            ("::1", "[::1]:8001"),
            ("[localhost]:80", "not an IPv6 address"),
            ("localhost:8001:8002", "\"localhost:8001\" is not a host"),
            ("a b:80", "\"a b\" is not a host name"),
            ("ftp://localhost:8001", "\"ftp\" is not supported"),
            ("http://localhost:8001/api", "leave out \"/api\""),
            ("localhost:8001?x", "leave out \"?x\""),
            ("http://me@localhost:8001", "user name"),
        ] {
            let error = parse_backend(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    #[test]
    fn addresses_to_listen_on_are_read_or_explained() {
        assert_eq!(parse_listen(":8089"), at("0.0.0.0", 8089));
        assert_eq!(parse_listen("127.0.0.1:0"), at("127.0.0.1", 0));
        assert_eq!(parse_listen("[::]:8089"), at("::", 8089));
        assert_eq!(parse_listen("http://127.0.0.1:8089/"), at("127.0.0.1", 8089));
        assert!(parse_listen("8089").unwrap_err().contains("write :8089"));
        assert!(parse_listen("localhost").unwrap_err().contains("port is missing"));
        assert!(parse_listen(":x").unwrap_err().contains("0 to 65535"));
    }

    #[test]
    fn paths_are_read_or_explained() {
        assert_eq!(parse_path("/live?full=1"), Ok("/live?full=1".to_owned()));
        assert!(parse_path("live").unwrap_err().contains("begins with /"));
        assert!(parse_path("/a b").unwrap_err().contains("no spaces"));
    }
}
