//! The server and the path of the requests.

use std::fmt;
use std::path::PathBuf;

/// A server, by its URL and by the way to reach the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Whether the connection has TLS.
    pub tls: bool,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The Unix socket of the server, in place of a TCP connection to host and port.
    pub socket: Option<PathBuf>,
}

/// The parts of a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The server.
    pub origin: Origin,
    /// Path and query.
    pub path: String,
}

impl Target {
    /// Parses `http://host:port/path` or `https://…`; without a scheme, the scheme is http.
    ///
    /// # Errors
    /// When the URL is malformed: the mistake, with an example of a valid URL.
    pub fn parse(url: &str) -> Result<Target, String> {
        let bad = |what: &str| format!("\"{url}\" {what}; write something like http://localhost:8080/");
        let (tls, rest) = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            Some((scheme, _)) => {
                return Err(bad(&format!("has the scheme {scheme}; only http and https are supported")));
            }
            None => (false, url),
        };
        let (authority, path) = match rest.find(['/', '?']) {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') && !port.ends_with(']') => {
                (host, port.parse().map_err(|_| bad("has no valid port"))?)
            }
            _ => (authority, if tls { 443 } else { 80 }),
        };
        if authority.contains('@') {
            // Without the URL in the message: it has a password.
            return Err(
                "a URL cannot have a user and a password; send them with -H \"Authorization: Basic ...\"".to_owned()
            );
        }
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let path = if path.starts_with('?') { format!("/{path}") } else { path.to_owned() };
        let is_plain = |text: &str| text.bytes().all(|byte| byte > b' ' && byte != 0x7f);
        if host.is_empty()
            || host.contains(['<', '>', '"', '*', '\u{feff}'])
            || !is_plain(host)
            || !is_plain(&path)
            || path.contains('#')
        {
            return Err(bad("is not a URL"));
        }
        let origin = Origin { tls, host: host.to_owned(), port, socket: None };
        Ok(Target { origin, path })
    }
}

impl Origin {
    /// The value of Host.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The scheme of URLs of the server.
    pub fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.origin.scheme(), self.origin.authority(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_or_explained() {
        let target = |tls, host: &str, port, path: &str| Target {
            origin: Origin { tls, host: host.into(), port, socket: None },
            path: path.into(),
        };
        assert_eq!(Target::parse("http://localhost:8080"), Ok(target(false, "localhost", 8080, "/")));
        assert_eq!(Target::parse("http://a/b?c"), Ok(target(false, "a", 80, "/b?c")));
        assert_eq!(Target::parse("https://a"), Ok(target(true, "a", 443, "/")));
        assert_eq!(Target::parse("https://a:8443/b"), Ok(target(true, "a", 8443, "/b")));
        assert_eq!(Target::parse("a?b=/c"), Ok(target(false, "a", 80, "/?b=/c")));
        assert_eq!(Target::parse("[::1]:81/x"), Ok(target(false, "::1", 81, "/x")));
        assert_eq!(Target::parse("[::1]"), Ok(target(false, "::1", 80, "/")));
        assert!(Target::parse("ftp://a").unwrap_err().contains("only http"));
        assert!(Target::parse("http://a:x/").unwrap_err().contains("port"));
        for faulty in ["", "http://a/b c", "http://a b/", "http://a/b\u{7f}", "http://a/#b"] {
            assert!(Target::parse(faulty).is_err(), "{faulty}");
        }
        assert_eq!(target(false, "::1", 81, "/x").to_string(), "http://[::1]:81/x");
        assert_eq!(target(true, "a", 443, "/").to_string(), "https://a:443/");
    }
}
