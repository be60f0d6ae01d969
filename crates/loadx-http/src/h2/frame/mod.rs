//! Frames (RFC 9113, section 4 and 6).

mod read;
mod write;

pub use read::{Frame, FrameHead, SettingsEntries};
pub use write::{
    put_continuation, put_data_head, put_goaway, put_headers, put_ping, put_reset, put_settings, put_settings_ack,
    put_window_update,
};

/// The length of the head of a frame, in bytes.
pub const HEAD_BYTES: usize = 9;

/// What a client sends first (RFC 9113, section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The kinds of frames that LoadX knows.
mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const PRIORITY: u8 = 2;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PUSH_PROMISE: u8 = 5;
    pub(super) const PING: u8 = 6;
    pub(super) const GOAWAY: u8 = 7;
    pub(super) const WINDOW_UPDATE: u8 = 8;
    pub(super) const CONTINUATION: u8 = 9;
    /// RFC 9218, section 7.1.
    pub(super) const PRIORITY_UPDATE: u8 = 16;
}

mod flag {
    pub(super) const ACK: u8 = 0x1;
    pub(super) const END_STREAM: u8 = 0x1;
    pub(super) const END_HEADERS: u8 = 0x4;
    pub(super) const PADDED: u8 = 0x8;
    pub(super) const PRIORITY: u8 = 0x20;
}
