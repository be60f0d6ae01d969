//! Integers of HPACK (RFC 7541, section 5.1).

/// The largest integer that LoadX reads. No index and no length that LoadX accepts comes near.
const MAX: u64 = 1 << 24;

/// Reads an integer that begins in the low `bits` of the first byte. Returns the integer and the bytes after it.
///
/// # Errors
/// When the integer is cut off or larger than [`MAX`].
pub(super) fn read(block: &[u8], bits: u32) -> Result<(usize, &[u8]), &'static str> {
    const CUT: &str = "an integer is cut off";
    let (first, mut rest) = block.split_first().ok_or(CUT)?;
    let largest = (1u64 << bits) - 1;
    let mut value = u64::from(*first) & largest;
    if value < largest {
        return Ok((value as usize, rest));
    }
    // Four bytes reach MAX. More bytes would be larger, or zeros that a writer has no reason to send.
    for shift in [0, 7, 14, 21] {
        let (byte, after) = rest.split_first().ok_or(CUT)?;
        rest = after;
        value += u64::from(byte & 0x7f) << shift;
        if value > MAX {
            break;
        }
        if byte & 0x80 == 0 {
            return Ok((value as usize, rest));
        }
    }
    Err("an integer is too large")
}

/// Appends an integer that begins in the low `bits` of a byte whose other bits are those of `first`.
pub(super) fn put(mut value: usize, bits: u32, first: u8, out: &mut Vec<u8>) {
    let largest = (1 << bits) - 1;
    if value < largest {
        out.push(first | value as u8);
        return;
    }
    out.push(first | largest as u8);
    value -= largest;
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc_are_read_and_written() {
        // RFC 7541, appendix C.1.
        for (value, bits, coded) in [(10, 5, &[0b01010][..]), (1337, 5, &[0b11111, 0x9a, 0x0a]), (42, 8, &[42])] {
            let mut out = Vec::new();
            put(value, bits, 0, &mut out);
            assert_eq!(out, coded);
            assert_eq!(read(coded, bits), Ok((value, &[][..])));
        }
    }

    #[test]
    fn integers_survive_and_bounds_hold() {
        for bits in 4..=8 {
            for value in (0..300).chain([1 << 14, 1 << 21, (1 << 24) - 1, 1 << 24]) {
                let mut out = Vec::new();
                put(value, bits, 0, &mut out);
                out.push(0xaa);
                assert_eq!(read(&out, bits), Ok((value, &[0xaa][..])), "{value} {bits}");
            }
        }
        assert!(read(&[], 5).is_err());
        assert!(read(&[0x1f], 5).is_err());
        assert!(read(&[0x1f, 0x80, 0x80], 5).is_err());
        assert!(read(&[0x1f, 0xff, 0xff, 0xff, 0x7f], 5).is_err());
        assert!(read(&[0x1f, 0x80, 0x80, 0x80, 0x80, 0x00], 5).is_err());
    }
}
