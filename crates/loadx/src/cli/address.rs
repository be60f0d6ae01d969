//! Addresses and paths in options of the command line.

use std::net::Ipv6Addr;

use loadx_core::config::{self, HostPort};

/// All IPv4 addresses of the machine.
pub(super) const ALL_ADDRESSES: &str = "0.0.0.0";

/// Parses the address of a backend: `host:port` or `http://host:port`.
pub(super) fn parse_backend(text: &str) -> Result<HostPort, String> {
    let authority = authority(text)?;
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
    let authority = authority(text)?;
    if is_number(authority) {
        return Err(format!("write :{authority} to listen on port {authority} of all addresses"));
    }
    let (host, port) = split(authority)?;
    let port = port.parse().map_err(|_| format!("\"{port}\" is not a port; a port is a number from 0 to 65535"))?;
    named(if host.is_empty() { ALL_ADDRESSES } else { host }, port)
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

/// The part of a URL between the scheme and the path; the URL may have no path except `/`.
fn authority(text: &str) -> Result<&str, String> {
    let rest = match text.split_once("://") {
        None => text,
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => {
            return Err(
                "https is not supported: LoadX speaks plain HTTP; write http://HOST:PORT or HOST:PORT".to_owned()
            );
        }
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
    Ok(authority)
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

    #[test]
    fn backends_are_read() {
        assert_eq!(parse_backend("localhost:8001"), at("localhost", 8001));
        assert_eq!(parse_backend("http://localhost:8001"), at("localhost", 8001));
        assert_eq!(parse_backend("HTTP://10.0.0.7:80/"), at("10.0.0.7", 80));
        assert_eq!(parse_backend("[::1]:80"), at("::1", 80));
        assert_eq!(parse_backend("http://[::1]:80/"), at("::1", 80));
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
            ("https://localhost:8001", "https is not supported"),
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
