//! A parser of HTTP/1.1 that shares no code with LoadX and accepts one spelling only.

use loadx_http::Framing;

pub(crate) fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// A message in the only accepted spelling.
#[derive(Debug)]
pub(crate) struct Plain {
    pub(crate) start: Vec<u8>,
    /// Names (in lower case) and values.
    pub(crate) fields: Vec<(String, Vec<u8>)>,
}

impl Plain {
    pub(crate) fn read(head: &[u8]) -> Option<Plain> {
        if head_length(head) != Some(head.len()) && !head.ends_with(b"\r\n\r\n") {
            return None;
        }
        let clean = |line: &[u8]| line.iter().all(Self::is_text);
        let mut lines = Self::lines(&head[..head.len() - 2])?.into_iter();
        let start = lines.next()?.to_vec();
        let mut fields = Vec::new();
        for line in lines {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            if name.is_empty() || !name.iter().all(Self::in_tokens) || !clean(line) {
                return None;
            }
            fields.push((String::from_utf8_lossy(name).to_ascii_lowercase(), value.to_vec()));
        }
        clean(&start).then_some(Plain { start, fields })
    }

    /// Splits at CR LF; `None` when a CR or LF is anywhere else.
    pub(crate) fn lines(bytes: &[u8]) -> Option<Vec<&[u8]>> {
        let mut lines = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let end = rest.windows(2).position(|window| window == b"\r\n")?;
            let line = &rest[..end];
            if line.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
                return None;
            }
            lines.push(line);
            rest = &rest[end + 2..];
        }
        Some(lines)
    }

    pub(crate) fn all<'p>(&'p self, name: &'p str) -> impl Iterator<Item = &'p [u8]> {
        self.fields.iter().filter(move |(field, _)| field == name).map(|(_, value)| value.as_slice())
    }

    /// The framing of a request.
    pub(crate) fn framing(&self) -> Framing {
        let lengths: Vec<_> = self.all("content-length").collect();
        let codings: Vec<_> = self.all("transfer-encoding").collect();
        match (lengths.as_slice(), codings.as_slice()) {
            ([], []) => Framing::Length(0),
            ([], [b"chunked"]) => Framing::Chunked,
            ([length], []) => {
                let text = std::str::from_utf8(length).expect("digits");
                let number: u64 = text.parse().expect("a length");
                assert_eq!(number.to_string(), text);
                Framing::Length(number)
            }
            both => panic!("ambiguous: {both:?}"),
        }
    }

    /// The content, the trailers and the length in bytes of a chunked body (RFC 9112, section 7.1); `None` when the
    /// body is malformed or incomplete.
    #[expect(clippy::type_complexity, reason = "a triple of plain data, for one reader")]
    pub(crate) fn chunks(bytes: &[u8]) -> Option<(Vec<u8>, Vec<(String, Vec<u8>)>, usize)> {
        let line = |from: usize| {
            let end = from + bytes[from..].windows(2).position(|window| window == b"\r\n")?;
            Some((&bytes[from..end], end + 2))
        };
        let (mut content, mut at) = (Vec::new(), 0);
        loop {
            let (size_line, after) = line(at)?;
            let digits: Vec<u8> = size_line.iter().copied().take_while(u8::is_ascii_hexdigit).collect();
            let behind = &size_line[digits.len()..];
            let bounded = behind.len() <= loadx_http::limits::CHUNK_LINE_BYTES_MAX && digits.len() <= 15;
            if digits.is_empty() || !Self::are_extensions(behind) || !bounded {
                return None;
            }
            let size = usize::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?;
            at = after;
            if size == 0 {
                break;
            }
            content.extend_from_slice(bytes.get(at..at.checked_add(size)?)?);
            at += size;
            if bytes.get(at..at + 2)? != b"\r\n" {
                return None;
            }
            at += 2;
        }
        let trailers_from = at;
        loop {
            let (trailer, after) = line(at)?;
            at = after;
            if trailer.is_empty() {
                break;
            }
        }
        let section = &bytes[trailers_from..at];
        if section.len() > loadx_http::limits::TRAILER_BYTES_MAX {
            return None;
        }
        let trailers = Plain::read(&[b"T\r\n".as_slice(), section].concat())?;
        Some((content, trailers.fields, at))
    }

    /// Whether `text` is empty or consists of chunk extensions (RFC 9112, section 7.1.1).
    pub(crate) fn are_extensions(mut text: &[u8]) -> bool {
        let space = |text: &[u8]| text.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let word = |text: &[u8]| text.iter().take_while(|byte| Self::in_tokens(byte)).count();
        while !text.is_empty() {
            let Some(named) = text[space(text)..].strip_prefix(b";") else { return false };
            let named = &named[space(named)..];
            let (name, behind) = named.split_at(word(named));
            if name.is_empty() {
                return false;
            }
            text = behind;
            let Some(value) = behind[space(behind)..].strip_prefix(b"=") else { continue };
            let value = &value[space(value)..];
            let length = if value.starts_with(b"\"") { Self::quoted(value) } else { word(value) };
            if length == 0 {
                return false;
            }
            text = &value[length..];
        }
        true
    }

    /// The length of the quoted string at the start of `text` (RFC 9110, section 5.6.4); 0 when the string has no end.
    pub(crate) fn quoted(text: &[u8]) -> usize {
        let mut at = 1;
        while let Some(byte) = text.get(at) {
            match byte {
                b'"' => return at + 1,
                b'\\' if text.get(at + 1).is_some_and(Self::is_text) => at += 2,
                b'\\' => return 0,
                byte if Self::is_text(byte) => at += 1,
                _ => return 0,
            }
        }
        0
    }

    pub(crate) fn in_tokens(byte: &u8) -> bool {
        byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
    }

    /// Whether a value may contain this byte: no control byte except the tab.
    pub(crate) fn is_text(byte: &u8) -> bool {
        *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f)
    }
}
