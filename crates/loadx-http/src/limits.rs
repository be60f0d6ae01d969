//! The limits of HTTP messages and of HTTP/2 connections.

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

/// The limits of HTTP/2.
pub mod h2 {
    /// The most requests of one connection that run at the same time (SETTINGS_MAX_CONCURRENT_STREAMS).
    pub const STREAMS_MAX: u32 = 100;

    /// The largest field section, in bytes, as RFC 9113, section 6.5.2, counts (SETTINGS_MAX_HEADER_LIST_SIZE). The parser of
    /// heads has its own limit, [`HEAD_BYTES_MAX`](super::HEAD_BYTES_MAX), without the 32 bytes for each field.
    pub const SECTION_BYTES_MAX: usize = 36 * 1024;

    /// The largest compressed field section, in bytes; a larger one ends the connection. Larger than [`SECTION_BYTES_MAX`], so that
    /// a client whose fields are somewhat too large gets an answer.
    pub const FRAGMENT_BYTES_MAX: usize = 64 * 1024;

    /// The content that a client may send on one stream before LoadX has passed the content on, in bytes: the value that
    /// holds without a setting.
    pub const STREAM_WINDOW: u32 = 65_535;

    /// The most requests of one connection to a backend at the same time, if the backend does not allow fewer.
    pub const REQUEST_STREAMS_MAX: u32 = 100;

    /// The number of requests that LoadX cancels on a connection to a backend before LoadX opens another connection: servers take many
    /// cancelled requests for an attack (CVE-2023-44487), some from 500 on, and would end the connection for all of its requests.
    pub const REQUEST_RESETS_MAX: u32 = 400;

    /// The content that a backend may send on one stream before LoadX has passed the content on, in bytes.
    pub const RESPONSE_STREAM_WINDOW: u32 = 65_535;

    /// The content that the other side may send on all streams together before LoadX has passed the content on, in bytes: as much as on
    /// all streams one by one, so that uploads that no backend takes do not stop the other uploads of the connection.
    pub const CONNECTION_WINDOW: u32 = STREAMS_MAX * STREAM_WINDOW;

    /// The largest frame, in bytes (SETTINGS_MAX_FRAME_SIZE): the value that holds without a setting. LoadX does not send larger
    /// ones either, so that responses can take turns.
    pub const FRAME_BYTES_MAX: usize = 16_384;

    /// The most frames that move nothing (such as PING, SETTINGS, WINDOW_UPDATE, empty DATA) before the client must wait or do
    /// something useful: each request and each frame with content earns a few more.
    pub const IDLE_FRAMES_MAX: u32 = 1_000;
    /// The most of such frames that useful work earns: two WINDOW_UPDATE for each frame of 10 bytes in a window of
    /// [`STREAM_WINDOW`], which can come when the stream is closed.
    pub const IDLE_FRAMES_EARNED_MAX: u32 = 16_000;
    /// The number of frames that move nothing that a client may send per second without end.
    pub const IDLE_FRAMES_PER_SECOND: u32 = 100;

    /// The most faults in single streams before the connection ends.
    pub const STREAM_FAULTS_MAX: u32 = 100;
    /// The number of faults in single streams per second that a client may cause without end.
    pub const STREAM_FAULTS_PER_SECOND: u32 = 10;

    /// The number of a client's streams that LoadX has reset whose late frames LoadX still ignores: the client opens a further stream
    /// only when it knows of the end of another one, so that a few more than [`STREAMS_MAX`] are enough.
    pub const RECENT_RESETS: usize = 128;

    /// The number of requests to a backend that LoadX has cancelled whose late answers LoadX still ignores: all that there can be.
    pub const RECENT_REQUEST_RESETS: usize = (REQUEST_RESETS_MAX + REQUEST_STREAMS_MAX) as usize;
}
