//! Bodies with every framing, cut at every place.

use super::*;
use crate::limits::TRAILER_BYTES_MAX;
use proptest::prelude::*;

fn decode_all(framing: Framing, pieces: &[&[u8]]) -> Result<(Vec<u8>, BodyDecoder, usize), BodyFault> {
    let mut decoder = BodyDecoder::new(framing);
    let (mut content, mut consumed) = (Vec::new(), 0);
    for piece in pieces {
        let mut piece = piece.to_vec();
        let decoded = decoder.decode(&mut piece)?;
        content.extend_from_slice(&piece[..decoded.content]);
        consumed += decoded.consumed;
    }
    Ok((content, decoder, consumed))
}

fn chunk_fault(text: &str) -> bool {
    matches!(decode_all(Framing::Chunked, &[text.as_bytes()]), Err(BodyFault::Chunk(_)))
}

#[test]
fn a_body_with_a_length_ends_after_its_length() {
    let (content, decoder, consumed) = decode_all(Framing::Length(5), &[b"he", b"llo, next"]).unwrap();
    assert_eq!((content.as_slice(), consumed), (b"hello".as_slice(), 5));
    assert!(decoder.is_complete());
}

#[test]
fn a_truncated_body_is_incomplete() {
    let (_, mut decoder, _) = decode_all(Framing::Length(5), &[b"he"]).unwrap();
    assert_eq!(decoder.end_of_input(), Err(BodyFault::Incomplete));
    let (_, mut decoder, _) = decode_all(Framing::Chunked, &[b"2\r\nhe\r\n"]).unwrap();
    assert_eq!(decoder.end_of_input(), Err(BodyFault::Incomplete));
    let (_, mut decoder, _) = decode_all(Framing::UntilClose, &[b"he"]).unwrap();
    assert_eq!(decoder.end_of_input(), Ok(()));
}

#[test]
fn chunks_extensions_and_trailers() {
    let text = b"4;a=\"b\"\r\nWiki\r\n5 ;c\r\npedia\r\nE\r\n in\r\n\r\nchunks.\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\nB: 2\r\n\r\nnext";
    let (content, decoder, consumed) = decode_all(Framing::Chunked, &[text]).unwrap();
    assert_eq!(content, b"Wikipedia in\r\n\r\nchunks.");
    assert!(decoder.is_complete());
    assert_eq!(decoder.trailers(), b"X-Sum: 1\r\nB: 2\r\n");
    assert_eq!(consumed, text.len() - 4);
}

#[test]
fn broken_chunks_are_refused() {
    for bad in [
        "\r\n",
        "g\r\n",
        "-1\r\n",
        "0x5\r\n",
        "5\nhello\r\n",
        "5\r\nhelloX\r\n",
        "5\r\nhello\n",
        "5\r\nhello\r\r\n",
        "1000000000000000\r\n",
        "ffffffffffffffff1\r\n",
        "5;a\nhello",
        "5;\u{1}\r\n",
        "5 5\r\nhello",
        "5 x\r\nhello",
        " 5\r\nhello",
        "5 \r\nhello",
        "5\t\r\nhello",
        "5;\r\nhello",
        "5; \r\nhello",
        "5;;a\r\nhello",
        "5;a;\r\nhello",
        "5;a \r\nhello",
        "5;a b\r\nhello",
        "5;=a\r\nhello",
        "5;a=\r\nhello",
        "5;a= \r\nhello",
        "5;a=b \r\nhello",
        "5;a=b c\r\nhello",
        "5;a==b\r\nhello",
        "5;a=b=c\r\nhello",
        "5;\"a\"\r\nhello",
        "5;a=\"b\r\nhello",
        "5;a=\"b\\\"\r\nhello",
        "5;a=\"b\"c\r\nhello",
        "5;a=\"b\" \r\nhello",
        "5;a=\"\u{1}\"\r\nhello",
        "5;a=\"\u{7f}\"\r\nhello",
        "5;a=\"\\\u{7f}\"\r\nhello",
        "5;\u{e4}\r\nhello",
        "5;a(\r\nhello",
        "0\r\nbad trailer\r\n\r\n",
        "0\r\n: x\r\n\r\n",
        "0\r\nA: b\n\r\n",
        "0\r\nX: y\n\nGET /admin HTTP/1.1\nHost: e\nA: b\r\n\r\n",
        "0\r\nX: y\nContent-Length: 5\r\n\r\n",
        "0\r\nX: a\0b\r\n\r\n",
        "0\r\n\n",
    ] {
        assert!(chunk_fault(bad), "{bad:?}");
    }
    // The limit is exact.
    assert!(!chunk_fault(&format!("5;{}\r\n", "x".repeat(CHUNK_LINE_BYTES_MAX - 1))));
    assert!(chunk_fault(&format!("5;{}\r\n", "x".repeat(CHUNK_LINE_BYTES_MAX))));
    assert!(chunk_fault(&format!("0\r\nA: {}", "x".repeat(TRAILER_BYTES_MAX))));
    // Removed trailers count too, and the limit is exact.
    assert!(chunk_fault(&format!("0\r\n{}", "Cookie: 1\r\n".repeat(TRAILER_BYTES_MAX / 11 + 1))));
    let section = |length: usize| format!("0\r\nA: {}\r\n\r\n", "x".repeat(length - "A: \r\n\r\n".len()));
    assert!(!chunk_fault(&section(TRAILER_BYTES_MAX)));
    assert!(chunk_fault(&section(TRAILER_BYTES_MAX + 1)));
}

#[test]
fn valid_extensions_are_removed() {
    for extension in [
        ";a",
        ";a;b",
        " ;a",
        "\t; a\t= b ;\tc",
        ";a=b;c=d",
        ";a=\"\"",
        ";a=\"b \\\" ; \t\\\\\"",
        ";a = \"b\" ; c",
        ";a=\"\u{e4}\\\u{e4}\"",
        ";!#$%&'*+-.^_`|~1=x",
    ] {
        let text = format!("5{extension}\r\nhello\r\n0{extension}\r\n\r\n");
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        for pieces in [&[text.as_bytes()], bytes.as_slice()] {
            let (content, decoder, _) = decode_all(Framing::Chunked, pieces).expect(extension);
            assert!(content == b"hello" && decoder.is_complete(), "{extension}");
        }
    }
}

#[test]
fn too_much_content_is_refused_before_it_is_passed_on() {
    let decode = |text: &str| {
        let mut decoder = BodyDecoder::new(Framing::Chunked);
        decoder.set_content_max(6);
        decoder.decode(&mut text.as_bytes().to_vec()).map(|decoded| decoded.content)
    };
    assert_eq!(decode("5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"), Ok(6));
    assert_eq!(decode("5\r\nhello\r\n2\r\n"), Err(BodyFault::TooLarge));
}

#[test]
fn prefixes_are_minimal() {
    for (size, line) in [(0, "0\r\n"), (1, "1\r\n"), (255, "ff\r\n"), (65_536, "10000\r\n")] {
        assert_eq!(ChunkPrefix::new(size).as_bytes(), line.as_bytes());
    }
    assert_eq!(ChunkPrefix::new(usize::MAX).as_bytes(), b"ffffffffffffffff\r\n");
}

fn chunked(chunks: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
        out.extend_from_slice(ChunkPrefix::new(chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(LAST_CHUNK);
    out
}

proptest! {
    #[test]
    fn a_chunked_body_reads_the_same_however_it_is_cut(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
        cuts in prop::collection::vec(1usize..20, 1..40),
    ) {
        let encoded = chunked(&chunks);
        let mut pieces: Vec<&[u8]> = Vec::new();
        let mut rest = encoded.as_slice();
        for cut in cuts.iter().cycle().take(encoded.len()) {
            let (piece, left) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece);
            rest = left;
        }
        let (content, decoder, consumed) = decode_all(Framing::Chunked, &pieces).unwrap();
        prop_assert_eq!(content, chunks.concat());
        prop_assert!(decoder.is_complete());
        prop_assert_eq!(consumed, encoded.len());
    }

    /// Forwarded trailers contain no byte that a less strict parser could take for the end of a line or of the section.
    #[test]
    fn trailers_are_clean(section in "([A-Za-z0-9:; \\t\r\n\0]|\r\n){0,60}") {
        let body = format!("0\r\n{section}\r\n\r\n");
        if let Ok((_, decoder, _)) = decode_all(Framing::Chunked, &[body.as_bytes()]) {
            let trailers = decoder.trailers();
            for (at, byte) in trailers.iter().enumerate() {
                match byte {
                    b'\r' => prop_assert_eq!(trailers.get(at + 1), Some(&b'\n')),
                    b'\n' => prop_assert_eq!(at.checked_sub(1).map(|before| trailers[before]), Some(b'\r')),
                    byte => prop_assert!(*byte == b'\t' || *byte >= b' '),
                }
            }
        }
    }

    #[test]
    fn no_input_causes_a_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..6)) {
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        for framing in [Framing::Chunked, Framing::Length(33), Framing::UntilClose] {
            let _ = decode_all(framing, &pieces);
        }
    }
}
