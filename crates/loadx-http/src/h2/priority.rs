//! Priorities of responses (RFC 9218).

/// The order in which a client wants responses.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Priority {
    /// 0 is the most urgent, 7 the least.
    pub urgency: u8,
    /// Whether the client can use parts of the response, so that responses of the same urgency share the connection.
    pub is_incremental: bool,
}

/// The priority of a request that names none (RFC 9218, section 4).
impl Default for Priority {
    fn default() -> Self {
        Priority { urgency: 3, is_incremental: false }
    }
}

impl Priority {
    /// Reads the value of the field `priority`, which is a dictionary (RFC 8941). Ignores what is unknown or out of range
    /// (RFC 9218, section 4).
    pub fn of(value: &[u8]) -> Self {
        let mut priority = Priority::default();
        for member in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            // A parameter of a member has no meaning.
            match member.split(|byte| *byte == b';').next().unwrap_or_default() {
                [b'u', b'=', urgency @ b'0'..=b'7'] => priority.urgency = urgency - b'0',
                b"i" | b"i=?1" => priority.is_incremental = true,
                b"i=?0" => priority.is_incremental = false,
                _ => {}
            }
        }
        priority
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_and_nonsense_is_ignored() {
        for (value, urgency, is_incremental) in [
            (&b""[..], 3, false),
            (b"u=0", 0, false),
            (b"u=7, i", 7, true),
            (b"i=?1,u=1", 1, true),
            (b"i;x=1, u=2;y", 2, true),
            (b"i, i=?0", 3, false),
            (b"u=8", 3, false),
            (b"u=-1, u=10, u, i=1, other=9", 3, false),
            (b"\xff\xfe, u=5", 5, false),
        ] {
            assert_eq!(Priority::of(value), Priority { urgency, is_incremental }, "{value:?}");
        }
    }
}
