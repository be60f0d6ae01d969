//! The Huffman code of HPACK (RFC 7541, appendix B).
//!
//! The code is canonical: among the codes of one length, symbols have ascending codes, and a longer code follows a shorter one.
//! So all tables follow from the lengths.

/// The length of the code of each byte, in bits. The code of the end has 30 bits.
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, //
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, //
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, //
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, //
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, //
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, //
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, //
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, //
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, //
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, //
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, //
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, //
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, //
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, //
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, //
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, //
];

/// The longest code.
const LONGEST: usize = 30;

/// The codes up to this length have an entry of their own in [`SHORT`].
const SHORT_BITS: usize = 8;

/// The codes of one length.
#[derive(Copy, Clone)]
struct Length {
    /// The first code, at the left of 32 bits.
    first: u32,
    /// The first value of 32 bits that begins with a longer code; for the longest codes there is none.
    limit: u64,
    /// The position of the first symbol in [`SYMBOLS`].
    start: usize,
}

const fn by_length() -> ([Length; LONGEST + 1], [u8; 256], [u32; 256]) {
    let mut lengths = [Length { first: 0, limit: 0, start: 0 }; LONGEST + 1];
    let (mut symbols, mut codes) = ([0; 256], [0; 256]);
    let (mut code, mut place, mut length): (u64, usize, usize) = (0, 0, 1);
    while length <= LONGEST {
        code <<= 1;
        lengths[length].first = (code << (32 - length)) as u32;
        lengths[length].start = place;
        let mut symbol = 0;
        while symbol < 256 {
            if LENGTHS[symbol] as usize == length {
                symbols[place] = symbol as u8;
                codes[symbol] = code as u32;
                place += 1;
                code += 1;
            }
            symbol += 1;
        }
        lengths[length].limit = code << (32 - length);
        length += 1;
    }
    (lengths, symbols, codes)
}

static BY_LENGTH: [Length; LONGEST + 1] = by_length().0;

/// The bytes in the order of their codes.
static SYMBOLS: [u8; 256] = by_length().1;

/// The code of each byte, at the right.
static CODES: [u32; 256] = by_length().2;

/// The byte whose code begins eight bits, and the length of its code; 0 if the code is longer.
static SHORT: [(u8, u8); 1 << SHORT_BITS] = {
    let mut short = [(0, 0); 1 << SHORT_BITS];
    let codes = by_length().2;
    let mut symbol = 0;
    while symbol < 256 {
        let length = LENGTHS[symbol] as usize;
        if length <= SHORT_BITS {
            let first = (codes[symbol] as usize) << (SHORT_BITS - length);
            let mut at = first;
            while at < first + (1 << (SHORT_BITS - length)) {
                short[at] = (symbol as u8, length as u8);
                at += 1;
            }
        }
        symbol += 1;
    }
    short
};

/// Appends what `coded` means to `out`.
///
/// # Errors
/// When the padding is longer than seven bits or has other bits than those of the code of the end, or when the code of the end
/// stands in the text (RFC 7541, section 5.2).
pub(super) fn decode(coded: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
    // The shortest code has five bits.
    out.reserve(coded.len() * 8 / 5);
    // The bits that are not decoded yet, at the left.
    let (mut window, mut bits) = (0u64, 0usize);
    let mut rest = coded.iter();
    loop {
        while bits <= 56 {
            let Some(byte) = rest.next() else { break };
            window |= u64::from(*byte) << (56 - bits);
            bits += 8;
        }
        let (symbol, length) = SHORT[(window >> (64 - SHORT_BITS)) as usize];
        let (symbol, length) = match length {
            0 => long(window)?,
            length => (symbol, usize::from(length)),
        };
        if length > bits {
            break;
        }
        out.push(symbol);
        window <<= length;
        bits -= length;
    }
    let is_padding = bits < 8 && window >> (64 - 8) == 0xff & !(0xff >> bits);
    if is_padding { Ok(()) } else { Err("the padding of a Huffman code is not valid") }
}

/// The byte whose code is longer than [`SHORT_BITS`], and the length of the code.
#[inline(never)]
fn long(window: u64) -> Result<(u8, usize), &'static str> {
    let head = (window >> 32) as u32;
    let found = (SHORT_BITS + 1..=LONGEST).find(|length| u64::from(head) < BY_LENGTH[*length].limit);
    let Some(length) = found else { return Err("the end of a Huffman code stands in the text") };
    let Length { first, start, .. } = BY_LENGTH[length];
    Ok((SYMBOLS[start + ((head - first) >> (32 - length)) as usize], length))
}

/// The length of the code of a text, in bytes.
pub(super) fn coded_length(text: &[u8]) -> usize {
    let bits: usize = text.iter().map(|byte| usize::from(LENGTHS[usize::from(*byte)])).sum();
    bits.div_ceil(8)
}

/// Appends the code of a text to `out`.
pub(super) fn encode(text: &[u8], out: &mut Vec<u8>) {
    // The bits that do not fill a byte yet, at the right.
    let (mut held, mut bits) = (0u64, 0u32);
    for byte in text {
        let length = u32::from(LENGTHS[usize::from(*byte)]);
        held = held << length | u64::from(CODES[usize::from(*byte)]);
        bits += length;
        while bits >= 8 {
            bits -= 8;
            out.push((held >> bits) as u8);
        }
    }
    if bits > 0 {
        // The padding is the beginning of the code of the end, which has only ones.
        out.push((held << (8 - bits)) as u8 | (0xff >> bits));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(coded: &[u8]) -> Result<Vec<u8>, &'static str> {
        let mut out = Vec::new();
        decode(coded, &mut out).map(|()| out)
    }

    #[test]
    fn the_examples_of_the_rfc_are_read_and_written() {
        // RFC 7541, appendix C.4.1 and C.6.1.
        for (text, coded) in [
            ("www.example.com", &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff][..]),
            ("no-cache", &[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]),
            ("302", &[0x64, 0x02]),
            ("private", &[0xae, 0xc3, 0x77, 0x1a, 0x4b]),
        ] {
            let mut out = Vec::new();
            encode(text.as_bytes(), &mut out);
            assert_eq!(out, coded);
            assert_eq!(coded_length(text.as_bytes()), coded.len());
            assert_eq!(decoded(coded), Ok(text.as_bytes().to_vec()));
        }
    }

    #[test]
    fn every_byte_survives() {
        let all: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
        for text in (0..all.len()).map(|start| &all[start..]) {
            let mut coded = Vec::new();
            encode(text, &mut coded);
            assert_eq!(decoded(&coded).as_deref(), Ok(text));
        }
    }

    #[test]
    fn other_padding_and_the_code_of_the_end_are_faults() {
        assert_eq!(decoded(&[]), Ok(Vec::new()));
        // "0" is 00000, then three bits of padding.
        assert_eq!(decoded(&[0b0000_0111]), Ok(b"0".to_vec()));
        assert!(decoded(&[0b0000_0110]).is_err());
        assert!(decoded(&[0b0000_0000]).is_err(), "a second code is not complete");
        // Eight bits of padding.
        assert!(decoded(&[0xff]).is_err());
        assert!(decoded(&[0b0000_0111, 0xff]).is_err());
        assert!(decoded(&[0xff; 4]).is_err(), "the end");
        assert!(decoded(&[0xff; 40]).is_err(), "the end");
    }
}
