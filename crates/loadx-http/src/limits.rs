//! The limits of HTTP/1.1 messages.

/// The largest head of a request or response, in bytes.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;

/// The longest request target, in bytes. RFC 9112, section 3, recommends at least 8,000 for a start line.
pub const TARGET_BYTES_MAX: usize = 16 * 1024;

/// The largest number of fields in a head.
pub const FIELDS_MAX: usize = 100;

/// The longest chunk size line with its extensions, in bytes.
pub const CHUNK_LINE_BYTES_MAX: usize = 256;

/// The largest trailer section, in bytes.
pub const TRAILER_BYTES_MAX: usize = 8 * 1024;
