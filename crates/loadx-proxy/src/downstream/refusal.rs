//! Requests that are refused before they become an exchange.

use loadx_core::{ErrorKind, ProxyError};
use loadx_http::Fault;

use crate::limits::REFUSED_LINE_BYTES_MAX;

pub(super) fn refusal_of(fault: Fault) -> ProxyError {
    ProxyError::new(fault.status(), ErrorKind::HttpRequestError, fault.to_string())
}

/// The method and the target of a refused request, for the access log, with `-` for a missing part; and the value of
/// Host, if there is one. The target may contain spaces, because the request may be refused for them.
pub(super) fn start_line(bytes: &[u8]) -> (&[u8], &[u8], Option<&[u8]>) {
    let head = &bytes.trim_ascii_start();
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let line = lines.next().unwrap_or_default();
    let line = &line[..line.len().min(REFUSED_LINE_BYTES_MAX)];
    let version = line.iter().rposition(|byte| *byte == b' ').filter(|at| line[at + 1..].starts_with(b"HTTP/"));
    let mut words = line[..version.unwrap_or(line.len())].splitn(2, |byte| *byte == b' ');
    let mut word = || words.next().filter(|word| !word.is_empty()).unwrap_or(b"-");
    let of_host =
        |line: &'_ [u8]| line.split_at_checked(5).is_some_and(|(name, _)| name.eq_ignore_ascii_case(b"host:"));
    let host = lines.take_while(|line| !line.is_empty()).find(|line| of_host(line));
    (word(), word(), host.map(|line| line[5..].trim_ascii()).filter(|host| !host.is_empty()))
}
