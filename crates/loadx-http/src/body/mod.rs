//! Message bodies: the end of a body, and the content in its bytes.

use crate::BodyFault;
use std::sync::Arc;

use crate::limits::CHUNK_LINE_BYTES_MAX;
use crate::trailers::Trailers;

/// How a message marks the end of its body (RFC 9112, section 6).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Framing {
    /// The body ends after this many bytes. A message without a body has length 0.
    Length(u64),
    /// The body ends with the last chunk.
    Chunked,
    /// The body ends with the connection; responses only.
    UntilClose,
}

/// The result of a call of [`BodyDecoder::decode`].
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// The bytes of content, which are now at the start of the input.
    pub content: usize,
    /// The bytes of the input that belong to this body.
    pub consumed: usize,
}

/// Reads a body in pieces of any size.
#[derive(Debug)]
pub struct BodyDecoder {
    state: State,
    /// Boxed, and only made for a body that has or may have trailers: a decoder is moved often.
    trailers: Option<Box<Trailers>>,
    /// The bytes of content that further chunks may announce.
    allowance: u64,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum State {
    Length {
        left: u64,
    },
    UntilClose,
    /// Within the hexadecimal size of a chunk.
    Size {
        size: u64,
        digits: u8,
    },
    /// Within the extensions, `bytes` after the size.
    Extension {
        size: u64,
        bytes: usize,
        part: Part,
    },
    SizeLf {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// At the start of a line of the trailer section.
    TrailerStart,
    TrailerLine,
    TrailerLf,
    /// At the LF of the empty line that ends the body.
    LastLf,
    Complete,
}

/// The next part of a chunk extension (RFC 9112, section 7.1.1).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Part {
    /// White space, then the semicolon of an extension.
    Semicolon,
    /// White space, then a name.
    NameStart,
    Name,
    /// White space, then the equals sign of a value or the semicolon of the next extension.
    NameEnd,
    /// White space, then a value.
    ValueStart,
    Token,
    Quoted,
    /// The byte after a backslash in a quoted value.
    Escaped,
    /// After the quote that ends a value.
    QuotedEnd,
}

impl Part {
    /// The part after this byte; `None` when the grammar does not allow the byte here.
    fn next(self, byte: u8) -> Option<Part> {
        Some(match (self, byte) {
            (Part::Quoted, b'"') => Part::QuotedEnd,
            (Part::Quoted, b'\\') => Part::Escaped,
            (Part::Quoted | Part::Escaped, b'\t' | b' '..=b'~' | 0x80..) => Part::Quoted,
            (Part::Semicolon | Part::NameStart | Part::NameEnd | Part::ValueStart, b' ' | b'\t') => self,
            (Part::Name, b' ' | b'\t') => Part::NameEnd,
            (Part::Token | Part::QuotedEnd, b' ' | b'\t') => Part::Semicolon,
            (Part::Semicolon | Part::Name | Part::NameEnd | Part::Token | Part::QuotedEnd, b';') => Part::NameStart,
            (Part::Name | Part::NameEnd, b'=') => Part::ValueStart,
            (Part::ValueStart, b'"') => Part::Quoted,
            (Part::NameStart | Part::Name, _) if is_token_byte(byte) => Part::Name,
            (Part::ValueStart | Part::Token, _) if is_token_byte(byte) => Part::Token,
            _ => return None,
        })
    }

    /// Whether the line may end here.
    fn may_end(self) -> bool {
        matches!(self, Part::Name | Part::Token | Part::QuotedEnd)
    }
}

/// Whether a token may contain this byte (RFC 9110, section 5.6.2).
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

impl BodyDecoder {
    /// A decoder at the start of a body with this framing.
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Length(0) => State::Complete,
            Framing::Length(left) => State::Length { left },
            Framing::Chunked => State::Size { size: 0, digits: 0 },
            Framing::UntilClose => State::UntilClose,
        };
        BodyDecoder { state, trailers: None, allowance: u64::MAX }
    }

    /// Limits the content of a chunked body, in bytes; `decode` then fails with [`BodyFault::TooLarge`]. For other
    /// framings the caller knows the length before it makes a decoder.
    pub fn set_content_max(&mut self, content_max: u64) {
        self.allowance = content_max;
    }

    /// Removes trailer fields of these names, and fields that a server may read as these.
    pub fn remove_trailers(&mut self, names: &[Arc<str>]) {
        self.trailers.get_or_insert_default().remove(names);
    }

    /// Whether the body has ended.
    pub fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// The bytes of content that are still to come; `None` if unknown.
    pub fn content_left(&self) -> Option<u64> {
        match self.state {
            State::Length { left } => Some(left),
            State::Complete => Some(0),
            _ => None,
        }
    }

    /// The field lines of the trailer section that LoadX forwards, each with its CR LF. Complete only when the body is
    /// complete.
    pub fn trailers(&self) -> &[u8] {
        self.trailers.as_ref().map_or(&[], |trailers| trailers.kept())
    }

    /// Reads the next bytes: moves the content in `input` together at the start of `input`. Consumes all of `input`,
    /// unless the body ends within `input`.
    ///
    /// # Errors
    /// When the chunked coding is malformed or the content is larger than the limit. The decoder must not be used
    /// afterwards.
    pub fn decode(&mut self, input: &mut [u8]) -> Result<Decoded, BodyFault> {
        let (mut content, mut at) = (0, 0);
        while at < input.len() && self.state != State::Complete {
            if let Some(left) = self.content_run(input.len() - at) {
                let run = left.min(input.len() - at);
                if content != at {
                    input.copy_within(at..at + run, content);
                }
                content += run;
                at += run;
                self.advance(run as u64);
            } else {
                self.state = self.step(input[at])?;
                at += 1;
            }
        }
        Ok(Decoded { content, consumed: at })
    }

    /// Tells the decoder that the connection has ended.
    ///
    /// # Errors
    /// [`BodyFault::Incomplete`] when the body was not complete.
    pub fn end_of_input(&mut self) -> Result<(), BodyFault> {
        match self.state {
            State::UntilClose | State::Complete => {
                self.state = State::Complete;
                Ok(())
            }
            _ => Err(BodyFault::Incomplete),
        }
    }

    /// Counts `bytes` of content that the caller took from the connection without calling
    /// [`decode`](BodyDecoder::decode).
    pub fn advance(&mut self, bytes: u64) {
        self.state = match self.state {
            State::Length { left } if left == bytes => State::Complete,
            State::Length { left } => State::Length { left: left - bytes },
            State::Data { left } if left == bytes => State::DataCr,
            State::Data { left } => State::Data { left: left - bytes },
            state => state,
        };
    }

    /// The bytes of content that follow without framing between them; `u64::MAX` when the body ends with the
    /// connection. 0 when the next byte is framing.
    pub fn run_left(&self) -> u64 {
        match self.state {
            State::Length { left } | State::Data { left } => left,
            State::UntilClose => u64::MAX,
            _ => 0,
        }
    }

    /// The number of content bytes among the next `available` bytes; `None` when the next byte is framing.
    fn content_run(&self, available: usize) -> Option<usize> {
        match self.state {
            State::UntilClose => Some(available),
            State::Length { left } | State::Data { left } => Some(usize::try_from(left).unwrap_or(usize::MAX)),
            _ => None,
        }
    }

    /// Reads one byte of the chunked coding (RFC 9112, section 7.1).
    fn step(&mut self, byte: u8) -> Result<State, BodyFault> {
        const BAD_SIZE: BodyFault = BodyFault::Chunk("a chunk size is malformed");
        const BAD_LINE: BodyFault = BodyFault::Chunk("a chunk does not end in CR LF");
        Ok(match (self.state, byte) {
            (State::Size { size, digits }, _) if byte.is_ascii_hexdigit() => {
                let digit = u64::from((byte as char).to_digit(16).unwrap_or_default());
                // 15 digits cannot overflow 64 bits, and no real chunk has a size of more digits.
                if digits == 15 {
                    return Err(BodyFault::Chunk("a chunk size is too large"));
                }
                State::Size { size: size << 4 | digit, digits: digits + 1 }
            }
            (State::Size { digits: 0, .. }, _) => return Err(BAD_SIZE),
            (State::Size { size, .. }, b'\r') => State::SizeLf { size },
            (State::Size { size, .. }, b';') => State::Extension { size, bytes: 1, part: Part::NameStart },
            (State::Size { size, .. }, b' ' | b'\t') => State::Extension { size, bytes: 1, part: Part::Semicolon },
            (State::Size { .. }, _) => return Err(BAD_SIZE),
            (State::Extension { size, part, .. }, b'\r') if part.may_end() => State::SizeLf { size },
            (State::Extension { bytes: CHUNK_LINE_BYTES_MAX, .. }, _) => {
                return Err(BodyFault::Chunk("a chunk extension is too long"));
            }
            (State::Extension { size, bytes, part }, _) => {
                // White space after a size must belong to an extension: without an extension, the grammar allows no
                // white space here.
                let part = part.next(byte).ok_or(BodyFault::Chunk("a chunk extension is malformed"))?;
                State::Extension { size, bytes: bytes + 1, part }
            }
            (State::SizeLf { size: 0 }, b'\n') => State::TrailerStart,
            (State::SizeLf { size }, b'\n') => {
                self.allowance = self.allowance.checked_sub(size).ok_or(BodyFault::TooLarge)?;
                State::Data { left: size }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { size: 0, digits: 0 },
            (State::TrailerStart, b'\r') => State::LastLf,
            (State::TrailerStart, b'\n') => return Err(BAD_LINE),
            (State::TrailerLine, b'\r') => State::TrailerLf,
            // A less strict parser would take a bare LF for the end of the line, and read another field after it.
            (State::TrailerStart | State::TrailerLine, b'\t' | b' '..=b'~' | 0x80..) => {
                self.trailers.get_or_insert_default().push(byte)?;
                State::TrailerLine
            }
            (State::TrailerLf, b'\n') => {
                self.trailers.get_or_insert_default().end_line()?;
                State::TrailerStart
            }
            (State::LastLf, b'\n') => State::Complete,
            _ => return Err(BAD_LINE),
        })
    }
}

/// The end of a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The chunk size line.
#[derive(Debug)]
pub struct ChunkPrefix {
    bytes: [u8; 18],
    start: usize,
}

impl ChunkPrefix {
    /// The chunk size line for a chunk of `size` bytes.
    pub fn new(size: usize) -> Self {
        let mut bytes = *b"0000000000000000\r\n";
        let mut start = 16;
        let mut rest = size;
        while rest > 0 || start == 16 {
            start -= 1;
            bytes[start] = b"0123456789abcdef"[rest & 15];
            rest >>= 4;
        }
        ChunkPrefix { bytes, start }
    }

    /// The bytes of the line, with CR LF.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

#[cfg(test)]
mod tests;
