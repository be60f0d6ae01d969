//! Writes responses of LoadX's own in the notation of HTTP/1.1.

use std::io::Write as _;

use loadx_http::{Version, reason_phrase};

use crate::sides::OwnResponse;

/// How to write a response.
#[derive(Copy, Clone, Debug)]
pub(crate) struct ReplyOptions {
    pub(crate) version: Version,
    /// Whether the connection stays open.
    pub(crate) persistent: bool,
    /// Whether the request was a HEAD.
    pub(crate) to_head: bool,
}

/// Appends a response to `out`. `date`: the text of Date. Returns the number of content bytes.
pub(crate) fn write_own(own: &OwnResponse<'_>, options: ReplyOptions, date: &str, out: &mut Vec<u8>) -> u64 {
    let connection = match (options.persistent, options.version) {
        (_, Version::Http2) | (true, Version::Http11) => "",
        (false, _) => "Connection: close\r\n",
        (true, Version::Http10) => "Connection: keep-alive\r\n",
    };
    let kind = own.content_type.map_or_else(String::new, |kind| format!("Content-Type: {kind}\r\n"));
    let length = if matches!(own.status, 204 | 304) {
        String::new()
    } else {
        format!("Content-Length: {}\r\n", own.content.len())
    };
    write!(
        out,
        "HTTP/1.1 {} {}\r\n{kind}{length}{}Date: {date}\r\n{connection}\r\n",
        own.status,
        reason_phrase(own.status),
        own.fields,
    )
    .expect("writing to a Vec cannot fail");
    if options.to_head {
        return 0;
    }
    out.extend_from_slice(&own.content);
    own.content.len() as u64
}
