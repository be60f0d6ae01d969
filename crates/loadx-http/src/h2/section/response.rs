//! The section of a response.

use std::ops::ControlFlow;

use super::SectionFault;
use super::fields::Fields;
use crate::reason_phrase;

/// Collects the section of a response, as text in the notation of HTTP/1.1.
#[derive(Debug)]
pub struct ResponseSection<'o> {
    fields: Fields<'o>,
    status: Option<u16>,
    has_fields: bool,
    has_length: bool,
    length: Option<u64>,
    to_head: bool,
}

impl<'o> ResponseSection<'o> {
    /// `size_max`: the largest section, in bytes (SETTINGS_MAX_HEADER_LIST_SIZE). `to_head`: whether this responds to a HEAD.
    /// `out` gets the text.
    pub fn new(size_max: usize, to_head: bool, out: &'o mut Vec<u8>) -> Self {
        let fields = Fields::new(size_max, out);
        ResponseSection { fields, status: None, has_fields: false, has_length: false, length: None, to_head }
    }

    /// Takes the next field.
    pub fn take(&mut self, name: &[u8], value: &[u8]) -> ControlFlow<()> {
        if self.fields.count(name, value) {
            match name {
                b":status" => self.status(value),
                [b':', ..] => self.fields.malformed("an unknown pseudo-header field"),
                _ if self.status.is_none() => self.fields.malformed("there is no :status before the fields"),
                _ => {
                    self.has_fields = true;
                    if name == b"content-length" {
                        self.has_length = true;
                        // What is no number is a fault of the parser of HTTP/1.1.
                        self.length = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    }
                    self.fields.put(name, value);
                }
            }
        }
        self.fields.flow()
    }

    fn status(&mut self, value: &[u8]) {
        let digits = |value: &[u8]| value.iter().all(u8::is_ascii_digit) && value.len() == 3 && value[0] != b'0';
        let status = std::str::from_utf8(value).ok().filter(|_| digits(value)).and_then(|text| text.parse().ok());
        match status {
            _ if self.status.is_some() => self.fields.malformed(":status appears twice"),
            _ if self.has_fields => self.fields.malformed("a pseudo-header field stands behind a field"),
            // HTTP/2 has no switch to another protocol (RFC 9113, section 8.6).
            Some(101) => self.fields.malformed(":status is 101"),
            None => self.fields.malformed(":status is no status"),
            Some(status) => {
                self.status = Some(status);
                self.fields.out.extend_from_slice(b"HTTP/1.1 ");
                self.fields.out.extend_from_slice(value);
                self.fields.out.push(b' ');
                self.fields.out.extend_from_slice(reason_phrase(status).as_bytes());
                self.fields.out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// Ends the section; the text is then a whole head of HTTP/1.1. Returns the status, and the length of the
    /// content in bytes if the length is known: 0 where the response has no content whatever its fields say. `ends`: whether the
    /// message has no content.
    ///
    /// # Errors
    /// Any [`SectionFault`].
    pub fn finish(mut self, ends: bool) -> Result<(u16, Option<u64>), SectionFault> {
        if self.status.is_none() {
            self.fields.malformed("there is no :status");
        }
        if ends && self.status.is_some_and(|status| status < 200) {
            self.fields.malformed("the message ends with an interim response");
        }
        let describes_other = self.to_head || self.status == Some(304);
        if ends && !describes_other && self.length.is_some_and(|length| length > 0) {
            self.fields.malformed("the message ends before its Content-Length");
        }
        match (self.fields.fault(), self.status) {
            (Some(fault), _) => Err(fault),
            (None, None) => Err(SectionFault::Malformed("there is no :status")),
            (None, Some(status)) => {
                let out = &mut *self.fields.out;
                // Without a line about the content, a message of HTTP/1.1 would go on to the end of the connection.
                if !self.has_length && !self.to_head && !matches!(status, 100..=199 | 204 | 304) {
                    let line: &[u8] = if ends { b"content-length: 0\r\n" } else { b"transfer-encoding: chunked\r\n" };
                    out.extend_from_slice(line);
                }
                out.extend_from_slice(b"\r\n");
                let has_no_content = self.to_head || matches!(status, 204 | 304);
                Ok((status, if has_no_content { Some(0) } else { self.length }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &[(&str, &str)], ends: bool) -> Result<(u16, String), SectionFault> {
        let mut out = Vec::new();
        let mut section = ResponseSection::new(16_384, false, &mut out);
        for (name, value) in fields {
            assert!(section.take(name.as_bytes(), value.as_bytes()).is_continue());
        }
        let (status, _) = section.finish(ends)?;
        Ok((status, String::from_utf8(out).unwrap()))
    }

    #[test]
    fn responses_become_heads() {
        let head = |fields: &[(&str, &str)], ends| read(fields, ends).unwrap().1;
        let ok = [(":status", "200"), ("x", "y")];
        assert_eq!(head(&ok, false), "HTTP/1.1 200 OK\r\nx: y\r\ntransfer-encoding: chunked\r\n\r\n");
        assert_eq!(head(&ok, true), "HTTP/1.1 200 OK\r\nx: y\r\ncontent-length: 0\r\n\r\n");
        let length = [(":status", "200"), ("content-length", "2")];
        assert_eq!(head(&length, false), "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n");
        assert_eq!(head(&[(":status", "304")], true), "HTTP/1.1 304 Not Modified\r\n\r\n");
        assert_eq!(head(&[(":status", "103"), ("link", "x")], false), "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n");
        let mut out = Vec::new();
        let mut to_head = ResponseSection::new(16_384, true, &mut out);
        assert!(to_head.take(b":status", b"200").is_continue());
        assert_eq!((to_head.finish(true), &out[..]), (Ok((200, Some(0))), &b"HTTP/1.1 200 OK\r\n\r\n"[..]));
    }

    #[test]
    fn malformed_responses_are_refused() {
        for fields in [
            &[][..],
            &[("x", "y")],
            &[("x", "y"), (":status", "200")],
            &[(":status", "200"), (":status", "200")],
            &[(":status", "200"), ("x", "y"), (":status", "200")],
            &[(":status", "101")],
            &[(":status", "20")],
            &[(":status", "2000")],
            &[(":status", "099")],
            &[(":status", "+20")],
            &[(":status", "")],
            &[(":status", "200"), (":path", "/")],
            &[(":status", "200"), ("connection", "close")],
            &[(":status", "200"), ("transfer-encoding", "chunked")],
            &[(":status", "200"), ("X", "y")],
            &[(":status", "200"), ("x", "a\r\nb: c")],
        ] {
            let told = read(fields, false);
            assert!(matches!(told, Err(SectionFault::Malformed(_))), "{fields:?}: {told:?}");
        }
        assert!(read(&[(":status", "103")], true).is_err(), "an interim response is no end");
        assert!(read(&[(":status", "200"), ("content-length", "5")], true).is_err());
        assert!(read(&[(":status", "304"), ("content-length", "5")], true).is_ok());
    }
}
