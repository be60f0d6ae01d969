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

/// The two hexadecimal digits of every byte.
const DIGITS: [[u8; 2]; 256] = {
    let mut table = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = [b"0123456789abcdef"[byte >> 4], b"0123456789abcdef"[byte & 15]];
        byte += 1;
    }
    table
};

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
        for (pair, byte) in room.chunks_exact_mut(2).zip(self.bits.to_be_bytes()) {
            pair.copy_from_slice(&DIGITS[usize::from(byte)]);
        }
        room
    }

    /// The field line of the id.
    pub(crate) fn line<'r>(&self, room: &'r mut Line) -> &'r [u8] {
        let Some(id) = &self.kept else {
            // The usual id: of one length, so that the whole line is written without a loop over its parts.
            let mut line = *b"X-Request-Id: 0123456789abcdef\r\n";
            for (index, byte) in self.bits.to_be_bytes().into_iter().enumerate() {
                let [high, low] = DIGITS[usize::from(byte)];
                (line[NAME.len() + 2 * index], line[NAME.len() + 2 * index + 1]) = (high, low);
            }
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
        assert_eq!(RequestId::kept(b"a1-b2", 7).map(|id| id.to_string()).as_deref(), Some("a1-b2"));
        for bad in [b"".as_slice(), b"a b", b"a\"b", b"a\x00", &[b'a'; 65]] {
            assert_eq!(RequestId::kept(bad, 7), None, "{bad:?}");
        }
    }
}
