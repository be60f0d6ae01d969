//! The settings of a connection (RFC 9113, section 6.5.2).

use super::fault::{Code, Fault};
use super::flow::WINDOW_MAX;

/// The bounds of the largest frame (RFC 9113, section 6.5.2).
const FRAME_MAX: std::ops::RangeInclusive<u32> = (1 << 14)..=(1 << 24) - 1;

/// One setting. LoadX ignores settings that it does not know.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// SETTINGS_HEADER_TABLE_SIZE, in bytes.
    TableSize(u32),
    /// SETTINGS_ENABLE_PUSH.
    Push(bool),
    /// SETTINGS_MAX_CONCURRENT_STREAMS.
    StreamsMax(u32),
    /// SETTINGS_INITIAL_WINDOW_SIZE, in bytes.
    Window(u32),
    /// SETTINGS_MAX_FRAME_SIZE, in bytes.
    FrameMax(u32),
    /// SETTINGS_MAX_HEADER_LIST_SIZE, in bytes.
    FieldsMax(u32),
    /// SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441).
    ExtendedConnect(bool),
    /// SETTINGS_NO_RFC7540_PRIORITIES (RFC 9218).
    NoTreePriorities(bool),
}

impl Setting {
    /// The setting with this number and value; `None` for a setting that LoadX does not know.
    ///
    /// # Errors
    /// A fault of the connection when the value is out of range.
    pub fn of(number: u16, value: u32) -> Result<Option<Self>, Fault> {
        let flag = |reason| match value {
            0 | 1 => Ok(value == 1),
            _ => Err(Fault::Connection(Code::ProtocolError, reason)),
        };
        Ok(Some(match number {
            1 => Setting::TableSize(value),
            2 => Setting::Push(flag("SETTINGS_ENABLE_PUSH is neither 0 nor 1")?),
            3 => Setting::StreamsMax(value),
            4 if value > WINDOW_MAX => {
                let reason = "SETTINGS_INITIAL_WINDOW_SIZE is larger than a window may be";
                return Err(Fault::Connection(Code::FlowControlError, reason));
            }
            4 => Setting::Window(value),
            5 if !FRAME_MAX.contains(&value) => {
                return Err(Fault::Connection(Code::ProtocolError, "SETTINGS_MAX_FRAME_SIZE is out of range"));
            }
            5 => Setting::FrameMax(value),
            6 => Setting::FieldsMax(value),
            8 => Setting::ExtendedConnect(flag("SETTINGS_ENABLE_CONNECT_PROTOCOL is neither 0 nor 1")?),
            9 => Setting::NoTreePriorities(flag("SETTINGS_NO_RFC7540_PRIORITIES is neither 0 nor 1")?),
            _ => return Ok(None),
        }))
    }

    /// The number and the value.
    pub fn parts(self) -> (u16, u32) {
        match self {
            Setting::TableSize(value) => (1, value),
            Setting::Push(is_on) => (2, is_on.into()),
            Setting::StreamsMax(value) => (3, value),
            Setting::Window(value) => (4, value),
            Setting::FrameMax(value) => (5, value),
            Setting::FieldsMax(value) => (6, value),
            Setting::ExtendedConnect(is_on) => (8, is_on.into()),
            Setting::NoTreePriorities(is_on) => (9, is_on.into()),
        }
    }
}

/// All settings of one side.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The largest table that the other side may use to compress, in bytes.
    pub table_size: u32,
    /// Whether the other side may push.
    pub push: bool,
    /// The largest number of streams that the other side may have open; `None` for no limit.
    pub streams_max: Option<u32>,
    /// The window of a new stream for content of the other side, in bytes.
    pub window: u32,
    /// The largest frame that the other side may send, in bytes.
    pub frame_max: u32,
    /// The largest field section that the other side should send, in bytes; `None` for no limit.
    pub fields_max: Option<u32>,
    /// Whether the other side may use extended CONNECT.
    pub extended_connect: bool,
}

/// The settings before the first SETTINGS frame.
impl Default for Settings {
    fn default() -> Self {
        Settings {
            table_size: 4_096,
            push: true,
            streams_max: None,
            window: 65_535,
            frame_max: 16_384,
            fields_max: None,
            extended_connect: false,
        }
    }
}

impl Settings {
    /// Changes one setting.
    pub fn set(&mut self, setting: Setting) {
        match setting {
            Setting::TableSize(value) => self.table_size = value,
            Setting::Push(is_on) => self.push = is_on,
            Setting::StreamsMax(value) => self.streams_max = Some(value),
            Setting::Window(value) => self.window = value,
            Setting::FrameMax(value) => self.frame_max = value,
            Setting::FieldsMax(value) => self.fields_max = Some(value),
            Setting::ExtendedConnect(is_on) => self.extended_connect = is_on,
            // LoadX heeds no trees of priorities, whatever the other side says.
            Setting::NoTreePriorities(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_faults() {
        for (number, value, code) in [
            (2, 2, Code::ProtocolError),
            (4, 1 << 31, Code::FlowControlError),
            (5, 16_383, Code::ProtocolError),
            (5, 1 << 24, Code::ProtocolError),
            (8, 2, Code::ProtocolError),
            (9, 7, Code::ProtocolError),
        ] {
            let told = Setting::of(number, value);
            assert!(matches!(told, Err(Fault::Connection(found, _)) if found == code), "{number}: {told:?}");
        }
        for (number, value) in [(1, u32::MAX), (2, 0), (3, 0), (4, WINDOW_MAX), (5, 16_384), (6, 0), (8, 1), (9, 1)] {
            assert_eq!(Setting::of(number, value).unwrap().unwrap().parts(), (number, value));
        }
        for number in [0, 7, 10, u16::MAX] {
            assert_eq!(Setting::of(number, u32::MAX), Ok(None), "an unknown setting");
        }
    }
}
