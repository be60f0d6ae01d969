//! The name of a request: in the log, in replies, and in X-Request-Id on both sides.

use std::fmt;

/// Names one request: by random bits, or as a trusted proxy named the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestId {
    bits: u64,
    kept: Option<Box<[u8]>>,
}

/// Room for an id that is spelled out.
pub(crate) type Spelled = [u8; 16];

/// Room for the field line of an id.
pub(crate) type Line = [u8; NAME.len() + RequestId::BYTES_MAX + 2];

/// Room that holds nothing yet.
pub(crate) const EMPTY_LINE: Line = [0; NAME.len() + RequestId::BYTES_MAX + 2];

const NAME: &[u8] = b"X-Request-Id: ";

/// The sixteen hexadecimal digits of a number. Twice a request: all digits at once take 50 instructions, a table for each
/// byte takes 200.
fn digits(bits: u64) -> Spelled {
    /// Eight digits, one in each byte of a number.
    fn eight(half: u32) -> [u8; 8] {
        let mut nibbles = u64::from(half);
        nibbles = (nibbles | nibbles << 16) & 0x0000_ffff_0000_ffff;
        nibbles = (nibbles | nibbles << 8) & 0x00ff_00ff_00ff_00ff;
        nibbles = (nibbles | nibbles << 4) & 0x0f0f_0f0f_0f0f_0f0f;
        // 1 in each byte whose nibble is above 9: the sum with 6 reaches the upper half of the byte.
        let letters = ((nibbles + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
        (nibbles + 0x3030_3030_3030_3030 + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
    }
    let mut all = [0; 16];
    all[..8].copy_from_slice(&eight((bits >> 32) as u32));
    all[8..].copy_from_slice(&eight(bits as u32));
    all
}

impl RequestId {
    /// The longest id that is taken over from a trusted proxy, in bytes; a UUID has 36.
    pub(crate) const BYTES_MAX: usize = 64;

    /// An id of sixteen hexadecimal digits.
    pub(crate) const fn made(bits: u64) -> Self {
        RequestId { bits, kept: None }
    }

    /// The id that a trusted proxy chose, if the id can stand in a log; with random bits of LoadX's own.
    pub(crate) fn kept(chosen: &[u8], bits: u64) -> Option<Self> {
        let sound = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:+/=@".contains(byte);
        let fits = !chosen.is_empty() && chosen.len() <= Self::BYTES_MAX && chosen.iter().all(sound);
        fits.then(|| RequestId { bits, kept: Some(chosen.into()) })
    }

    /// The id in characters.
    pub(crate) fn spelled<'s>(&'s self, room: &'s mut Spelled) -> &'s [u8] {
        if let Some(kept) = &self.kept {
            return kept;
        }
        *room = digits(self.bits);
        room
    }

    /// The field line of the id.
    pub(crate) fn line<'r>(&self, room: &'r mut Line) -> &'r [u8] {
        let Some(id) = &self.kept else {
            // The usual id: of one length, so that the whole line is written without a loop over its parts.
            let mut line = *b"X-Request-Id: 0123456789abcdef\r\n";
            line[NAME.len()..NAME.len() + 16].copy_from_slice(&digits(self.bits));
            let room = &mut room[..line.len()];
            room.copy_from_slice(&line);
            return room;
        };
        let end = NAME.len() + id.len();
        room[..NAME.len()].copy_from_slice(NAME);
        room[NAME.len()..end].copy_from_slice(id);
        room[end..end + 2].copy_from_slice(b"\r\n");
        &room[..end + 2]
    }

    /// 64 random bits that belong to the request.
    pub(crate) fn bits(&self) -> u64 {
        self.bits
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(self.spelled(&mut Spelled::default())).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_sixteen_digits_or_what_a_trusted_proxy_chose() {
        assert_eq!(RequestId::made(0x0123_4567_89ab_cdef).to_string(), "0123456789abcdef");
        assert_eq!(RequestId::made(0xfedc_ba98_0000_9a0a).to_string(), "fedcba9800009a0a");
        assert_eq!(RequestId::kept(b"a1-b2", 7).map(|id| id.to_string()).as_deref(), Some("a1-b2"));
        for bad in [b"".as_slice(), b"a b", b"a\"b", b"a\x00", &[b'a'; 65]] {
            assert_eq!(RequestId::kept(bad, 7), None, "{bad:?}");
        }
    }
}
