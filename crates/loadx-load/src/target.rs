//! The server and the path of the requests.

use std::fmt;

/// The parts of an `http://` URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Path and query.
    pub path: String,
}

impl Target {
    /// Parses `http://host:port/path`, with or without the scheme.
    ///
    /// # Errors
    /// When the URL is malformed: the mistake, with an example of a valid URL.
    pub fn parse(url: &str) -> Result<Target, String> {
        let bad = |what: &str| format!("\"{url}\" {what}; write something like http://localhost:8080/");
        let rest = match url.split_once("://") {
            Some(("http", rest)) => rest,
            Some((scheme, _)) => return Err(bad(&format!("has the scheme {scheme}; only http is supported"))),
            None => url,
        };
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') && !port.ends_with(']') => {
                (host, port.parse().map_err(|_| bad("has no valid port"))?)
            }
            _ => (authority, 80),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || path.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err(bad("is not a URL"));
        }
        Ok(Target { host: host.to_owned(), port, path: path.to_owned() })
    }

    /// The value of Host.
    pub(crate) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_or_explained() {
        let target = |host: &str, port, path: &str| Target { host: host.into(), port, path: path.into() };
        assert_eq!(Target::parse("http://localhost:8080"), Ok(target("localhost", 8080, "/")));
        assert_eq!(Target::parse("http://a/b?c"), Ok(target("a", 80, "/b?c")));
        assert_eq!(Target::parse("[::1]:81/x"), Ok(target("::1", 81, "/x")));
        assert_eq!(Target::parse("[::1]"), Ok(target("::1", 80, "/")));
        assert!(Target::parse("https://a").unwrap_err().contains("only http"));
        assert!(Target::parse("http://a:x/").unwrap_err().contains("port"));
        assert!(Target::parse("").is_err());
        assert!(Target::parse("http://a/b c").is_err());
        assert_eq!(target("::1", 81, "/x").to_string(), "http://[::1]:81/x");
    }
}
