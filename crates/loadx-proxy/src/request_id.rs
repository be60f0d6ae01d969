//! The id of a request: in the log, in error responses, and in X-Request-Id on both sides.

use std::fmt;

/// The id of one request: random bits, or the id that a trusted proxy sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestId {
    bits: u64,
    kept: Option<Box<[u8]>>,
}

/// Space for the digits of an id.
pub(crate) type Spelled = [u8; 16];

/// Space for the field line of an id.
pub(crate) type Line = [u8; NAME.len() + RequestId::BYTES_MAX + 2];

/// An unused [`Line`].
pub(crate) const EMPTY_LINE: Line = [0; NAME.len() + RequestId::BYTES_MAX + 2];

const NAME: &[u8] = b"X-Request-Id: ";

/// The sixteen hexadecimal digits of a number. Runs twice per request, so computes all digits at once: 50 instructions,
/// against 200 with a table for each byte.
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
    /// The longest accepted id of a trusted proxy, in bytes; a UUID has 36.
    pub(crate) const BYTES_MAX: usize = 64;

    /// An id of sixteen hexadecimal digits.
    pub(crate) const fn made(bits: u64) -> Self {
        RequestId { bits, kept: None }
    }

    /// The id that a trusted proxy sent, with random bits of LoadX's own. `None` if the id is empty, too long, or has
    /// characters that are unsafe in a log.
    pub(crate) fn kept(chosen: &[u8], bits: u64) -> Option<Self> {
        let safe = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:+/=@".contains(byte);
        let fits = !chosen.is_empty() && chosen.len() <= Self::BYTES_MAX && chosen.iter().all(safe);
        fits.then(|| RequestId { bits, kept: Some(chosen.into()) })
    }

    /// The id as ASCII text.
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
            // The common case has a fixed length, so that the line is one copy.
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

    /// The 64 random bits of the request.
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
    fn an_id_is_sixteen_digits_or_the_id_of_a_trusted_proxy() {
        assert_eq!(RequestId::made(0x0123_4567_89ab_cdef).to_string(), "0123456789abcdef");
        assert_eq!(RequestId::made(0xfedc_ba98_0000_9a0a).to_string(), "fedcba9800009a0a");
        assert_eq!(RequestId::kept(b"a1-b2", 7).map(|id| id.to_string()).as_deref(), Some("a1-b2"));
        for bad in [b"".as_slice(), b"a b", b"a\"b", b"a\x00", &[b'a'; 65]] {
            assert_eq!(RequestId::kept(bad, 7), None, "{bad:?}");
        }
    }
}
