//! The context of a trace: traceparent of W3C Trace Context, version 00.

/// The place of a request in a trace.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct TraceParent {
    trace_id: u128,
    parent_id: u64,
    flags: u8,
}

impl TraceParent {
    /// The length of the value in bytes.
    pub const LENGTH: usize = 55;

    /// The place after the span `parent_id` in a trace. Zeros, which are invalid, become ones.
    pub fn new(trace_id: u128, parent_id: u64, is_sampled: bool) -> Self {
        TraceParent { trace_id: trace_id.max(1), parent_id: parent_id.max(1), flags: u8::from(is_sampled) }
    }

    /// Reads the value of traceparent; `None` if the value is invalid, so that another trace must begin. Of a later version
    /// only the part counts that version 00 has.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (known, rest) = value.split_at_checked(Self::LENGTH)?;
        let dashes = [2, 35, 52].into_iter().all(|at| known[at] == b'-');
        let version = number(&known[..2])?;
        // Version 255 is invalid, version 0 has nothing more, and later versions go on after a dash.
        if !dashes
            || version == 0xff
            || (version == 0 && !rest.is_empty())
            || rest.first().is_some_and(|byte| *byte != b'-')
        {
            return None;
        }
        let (trace_id, parent_id) = (number(&known[3..35])?, number(&known[36..52])?);
        let flags = number(&known[53..])?;
        (trace_id != 0 && parent_id != 0).then_some(TraceParent {
            trace_id,
            parent_id: parent_id as u64,
            flags: flags as u8,
        })
    }

    /// The same trace after another span.
    pub fn after(self, parent_id: u64) -> Self {
        TraceParent { parent_id: parent_id.max(1), ..self }
    }

    /// The id of the trace, in hexadecimal digits.
    pub fn trace_id(&self) -> [u8; 32] {
        let mut digits = [0; 32];
        put_number(&mut digits, self.trace_id);
        digits
    }

    /// The numbers of the trace and of the last span.
    pub fn ids(&self) -> (u128, u64) {
        (self.trace_id, self.parent_id)
    }

    /// Whether the caller may have recorded the trace.
    pub fn is_sampled(&self) -> bool {
        self.flags & 1 != 0
    }

    /// The value of traceparent.
    pub fn value(&self) -> [u8; Self::LENGTH] {
        let mut value = *b"00-00000000000000000000000000000000-0000000000000000-00";
        put_number(&mut value[3..35], self.trace_id);
        put_number(&mut value[36..52], self.parent_id.into());
        // Other flags than these two are unknown to version 00, and are not passed on.
        put_number(&mut value[53..], (self.flags & 3).into());
        value
    }
}

/// The number of lower-case hexadecimal digits.
fn number(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

fn put_number(digits: &mut [u8], mut number: u128) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_valid_value_is_read_and_written_alike() {
        let parent = TraceParent::parse(VALID.as_bytes()).unwrap();
        assert_eq!(parent.value(), VALID.as_bytes());
        assert_eq!(parent.trace_id(), *b"0af7651916cd43dd8448eb211c80319c");
        assert!(parent.is_sampled());
        assert_eq!(parent.after(0x10).value()[36..], *b"0000000000000010-01");
        let later = TraceParent::parse(format!("cc{}-what", &VALID[2..]).as_bytes()).unwrap();
        assert_eq!(later, parent);
        let begun = TraceParent::new(0, 0, false);
        assert_eq!(TraceParent::parse(&begun.value()), Some(begun));
    }

    #[test]
    fn an_invalid_value_begins_another_trace() {
        for value in [
            "",
            "00",
            &VALID[..54],
            &format!("{VALID}-"),
            &format!("ff{}", &VALID[2..]),
            &format!("01{}x", &VALID[2..]),
            &VALID.to_uppercase(),
            &VALID.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &VALID.replace("b7ad6b7169203331", &"0".repeat(16)),
            &VALID.replacen('-', "_", 1),
            &VALID.replace("01", "0g"),
        ] {
            assert_eq!(TraceParent::parse(value.as_bytes()), None, "{value}");
        }
    }
}
