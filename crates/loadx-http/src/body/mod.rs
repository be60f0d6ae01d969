//! Message bodies: where they end, and what of the bytes is content.

use crate::BodyFault;
use crate::limits::CHUNK_LINE_BYTES_MAX;
use crate::trailers::Trailers;

/// How the end of a body is told (RFC 9112, section 6).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After this many bytes. No body is a length of 0.
    Length(u64),
    /// By the last chunk.
    Chunked,
    /// By the end of the connection; responses only.
    UntilClose,
}

/// What a call of [`BodyDecoder::decode`] found.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of content, now at the front of the input.
    pub content: usize,
    /// Bytes of the input that belong to this body.
    pub consumed: usize,
}

/// Reads a body piece by piece, however it is cut.
#[derive(Debug)]
pub struct BodyDecoder {
    state: State,
    trailers: Trailers,
    /// How much more content chunks may announce.
    allowance: u64,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum State {
    Length {
        left: u64,
    },
    UntilClose,
    /// In the hexadecimal size of a chunk.
    Size {
        size: u64,
        digits: u8,
    },
    /// In the extensions that follow the size, `bytes` behind it.
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
    /// At the LF of the empty line that ends it all.
    LastLf,
    Complete,
}

/// What part of a chunk extension comes next (RFC 9112, section 7.1.1).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Part {
    /// White space, and then the semicolon of an extension.
    Semicolon,
    /// White space, and then a name.
    NameStart,
    Name,
    /// White space, and then the sign of a value or the semicolon of the next extension.
    NameEnd,
    /// White space, and then a value.
    ValueStart,
    Token,
    Quoted,
    /// The byte behind a backslash in a quoted value.
    Escaped,
    /// Behind the quote that ends a value.
    QuotedEnd,
}

impl Part {
    /// The part behind this byte; none when the byte cannot stand here.
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

/// Whether names and other words may hold this byte (RFC 9110, section 5.6.2).
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

impl BodyDecoder {
    /// A decoder at the start of a body that is framed so.
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Length(0) => State::Complete,
            Framing::Length(left) => State::Length { left },
            Framing::Chunked => State::Size { size: 0, digits: 0 },
            Framing::UntilClose => State::UntilClose,
        };
        BodyDecoder { state, trailers: Trailers::default(), allowance: u64::MAX }
    }

    /// Refuses a chunked body with more content than this, in bytes. Where the length was told, it is
    /// known before there is a decoder.
    pub fn set_content_max(&mut self, content_max: u64) {
        self.allowance = content_max;
    }

    /// Whether the body has ended.
    pub fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// How many bytes of content are still to come, where that is known.
    pub fn content_left(&self) -> Option<u64> {
        match self.state {
            State::Length { left } => Some(left),
            State::Complete => Some(0),
            _ => None,
        }
    }

    /// The field lines of the trailer section that may be passed on, each with its CR LF. Complete
    /// only when the body is.
    pub fn trailers(&self) -> &[u8] {
        self.trailers.kept()
    }

    /// Reads on: the content in `input` is moved together at its front. All of the input is consumed,
    /// unless the body ends in it.
    ///
    /// # Errors
    /// When the chunked coding is broken; the decoder is of no more use then.
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

    /// The connection ended: was that the end of the body?
    ///
    /// # Errors
    /// When more was to come.
    pub fn end_of_input(&mut self) -> Result<(), BodyFault> {
        match self.state {
            State::UntilClose | State::Complete => {
                self.state = State::Complete;
                Ok(())
            }
            _ => Err(BodyFault::Incomplete),
        }
    }

    /// Counts content that was taken from the connection without passing through here.
    pub fn advance(&mut self, bytes: u64) {
        self.state = match self.state {
            State::Length { left } if left == bytes => State::Complete,
            State::Length { left } => State::Length { left: left - bytes },
            State::Data { left } if left == bytes => State::DataCr,
            State::Data { left } => State::Data { left: left - bytes },
            state => state,
        };
    }

    /// How much content comes next in one run, in bytes; without end where only the end of the connection
    /// tells. 0 when the next byte is framing.
    pub fn run_left(&self) -> u64 {
        match self.state {
            State::Length { left } | State::Data { left } => left,
            State::UntilClose => u64::MAX,
            _ => 0,
        }
    }

    /// How many of the next `available` bytes are content, when the next byte is.
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
                // 15 digits cannot overflow, and no chunk is that large.
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
                // White space behind a size is part of an extension or an error: without an extension, the
                // grammar has no place for it.
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
            // A bare LF would end the line for a reader that is less strict, and begin another field.
            (State::TrailerStart | State::TrailerLine, b'\t' | b' '..=b'~' | 0x80..) => {
                self.trailers.push(byte)?;
                State::TrailerLine
            }
            (State::TrailerLf, b'\n') => {
                self.trailers.end_line()?;
                State::TrailerStart
            }
            (State::LastLf, b'\n') => State::Complete,
            _ => return Err(BAD_LINE),
        })
    }
}

/// What ends a chunked body that has no trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The line that announces a chunk.
#[derive(Debug)]
pub struct ChunkPrefix {
    bytes: [u8; 18],
    start: usize,
}

impl ChunkPrefix {
    /// The line for a chunk of `size` bytes.
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

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

#[cfg(test)]
mod tests;
