//! Why a stream or a connection ends.

use std::fmt;

/// An error code (RFC 9113, section 7). Codes that the RFC does not name are [`Other`](Code::Other).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Code {
    /// A graceful end, or no error.
    NoError,
    /// Something that the protocol forbids.
    ProtocolError,
    /// A defect of the sender of the code.
    InternalError,
    /// More content than the window allows.
    FlowControlError,
    /// The settings were not acknowledged in time.
    SettingsTimeout,
    /// A frame for a stream that has ended.
    StreamClosed,
    /// A frame with a wrong size.
    FrameSizeError,
    /// The stream was refused before any processing.
    RefusedStream,
    /// The stream is no longer needed.
    Cancel,
    /// The two sides no longer agree on the compression of field sections.
    CompressionError,
    /// The connection of a CONNECT broke.
    ConnectError,
    /// The other side sends too much.
    EnhanceYourCalm,
    /// The properties of TLS do not suffice.
    InadequateSecurity,
    /// The resource is served over HTTP/1.1 only.
    Http11Required,
    /// A code that is not in the RFC.
    Other(u32),
}

/// The codes of the RFC, each at its number.
const CODES: [(Code, &str); 14] = [
    (Code::NoError, "NO_ERROR"),
    (Code::ProtocolError, "PROTOCOL_ERROR"),
    (Code::InternalError, "INTERNAL_ERROR"),
    (Code::FlowControlError, "FLOW_CONTROL_ERROR"),
    (Code::SettingsTimeout, "SETTINGS_TIMEOUT"),
    (Code::StreamClosed, "STREAM_CLOSED"),
    (Code::FrameSizeError, "FRAME_SIZE_ERROR"),
    (Code::RefusedStream, "REFUSED_STREAM"),
    (Code::Cancel, "CANCEL"),
    (Code::CompressionError, "COMPRESSION_ERROR"),
    (Code::ConnectError, "CONNECT_ERROR"),
    (Code::EnhanceYourCalm, "ENHANCE_YOUR_CALM"),
    (Code::InadequateSecurity, "INADEQUATE_SECURITY"),
    (Code::Http11Required, "HTTP_1_1_REQUIRED"),
];

impl Code {
    /// The code with this number.
    pub fn of(number: u32) -> Self {
        usize::try_from(number).ok().and_then(|number| CODES.get(number)).map_or(Code::Other(number), |(code, _)| *code)
    }

    /// The number of the code.
    pub fn number(self) -> u32 {
        match self {
            Code::Other(number) => number,
            code => CODES.iter().position(|(known, _)| *known == code).unwrap_or(0) as u32,
        }
    }
}

impl Code {
    /// The name in the RFC; `OTHER` for a code that the RFC does not name.
    pub fn name(self) -> &'static str {
        CODES.iter().find(|(known, _)| *known == self).map_or("OTHER", |(_, name)| name)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Code::Other(number) => write!(f, "error code {number}"),
            code => f.write_str(code.name()),
        }
    }
}

/// What the other side did wrong.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection must end (RFC 9113, section 5.4.1).
    Connection(Code, &'static str),
    /// The stream must end (RFC 9113, section 5.4.2).
    Stream(u32, Code, &'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Connection(code, reason) => write!(f, "{reason} ({code})"),
            Fault::Stream(stream, code, reason) => write!(f, "stream {stream}: {reason} ({code})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_keep_their_numbers() {
        for number in 0..20 {
            assert_eq!(Code::of(number).number(), number);
        }
        assert_eq!((Code::of(0xd), Code::of(0xe)), (Code::Http11Required, Code::Other(14)));
        assert_eq!((Code::Cancel.to_string(), Code::Other(99).to_string()), ("CANCEL".into(), "error code 99".into()));
    }
}
