//! The section behind the content.

use std::ops::ControlFlow;

use super::SectionFault;
use super::fields::Fields;

/// Collects a trailer section, as text in the notation of HTTP/1.1.
#[derive(Debug)]
pub struct TrailerSection<'o> {
    fields: Fields<'o>,
}

impl<'o> TrailerSection<'o> {
    /// `size_max`: the largest section, in bytes. `out` gets the text.
    pub fn new(size_max: usize, out: &'o mut Vec<u8>) -> Self {
        TrailerSection { fields: Fields::new(size_max, out) }
    }

    /// Takes the next field.
    pub fn take(&mut self, name: &[u8], value: &[u8]) -> ControlFlow<()> {
        if self.fields.count(name, value) {
            match name.first() {
                Some(b':') => self.fields.malformed("a trailer section has a pseudo-header field"),
                _ => self.fields.put(name, value),
            }
        }
        self.fields.flow()
    }

    /// Ends the section. Trailers end the message (RFC 9113, section 8.1), so that `ends` must be true.
    ///
    /// # Errors
    /// Any [`SectionFault`].
    pub fn finish(mut self, ends: bool) -> Result<(), SectionFault> {
        if !ends {
            self.fields.malformed("a trailer section does not end the message");
        }
        self.fields.fault().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &[(&str, &str)], ends: bool) -> Result<String, SectionFault> {
        let mut out = Vec::new();
        let mut section = TrailerSection::new(1_000, &mut out);
        for (name, value) in fields {
            let _ = section.take(name.as_bytes(), value.as_bytes());
        }
        section.finish(ends)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn trailers_are_fields_that_end_the_message() {
        assert_eq!(read(&[("grpc-status", "0"), ("x", "")], true).as_deref(), Ok("grpc-status: 0\r\nx: \r\n"));
        for (fields, ends) in [
            (&[("x", "y")][..], false),
            (&[(":path", "/")], true),
            (&[(":status", "200")], true),
            (&[("X", "y")], true),
            (&[("x", "a\nb")], true),
            (&[("transfer-encoding", "x")], true),
        ] {
            assert!(matches!(read(fields, ends), Err(SectionFault::Malformed(_))), "{fields:?}");
        }
        let long = "y".repeat(1_000);
        assert_eq!(read(&[("x", &long)], true), Err(SectionFault::TooLarge));
    }
}
