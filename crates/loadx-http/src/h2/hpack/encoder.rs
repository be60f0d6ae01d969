//! Writes field sections.
//!
//! LoadX adds no field to the table of the other side: a table on both sides would be memory for each connection, which an
//! attacker fills, and what LoadX writes is often different from field section to field section.

use super::{fixed, huffman, integer};

/// Appends a field. The name is in lower case.
pub fn put_field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    let named = fixed::index_of(name);
    if let Some(index) = named.and_then(|named| fixed::index_with_value(named, value)) {
        return integer::put(index, 7, 0x80, out);
    }
    // Never indexed: what the sender marked so must be passed on so (RFC 7541, section 6.2.3), and the marks of single fields do not
    // survive the notation of HTTP/1.1.
    integer::put(named.unwrap_or(0), 4, 0x10, out);
    if named.is_none() {
        put_string(name, out);
    }
    put_string(value, out);
}

/// Appends the pseudo-header field of a status.
pub fn put_status(status: u16, out: &mut Vec<u8>) {
    let digits = [b'0' + (status / 100 % 10) as u8, b'0' + (status / 10 % 10) as u8, b'0' + (status % 10) as u8];
    put_field(b":status", &digits, out);
}

fn put_string(text: &[u8], out: &mut Vec<u8>) {
    let coded = huffman::coded_length(text);
    if coded < text.len() {
        integer::put(coded, 7, 0x80, out);
        huffman::encode(text, out);
    } else {
        integer::put(text.len(), 7, 0, out);
        out.extend_from_slice(text);
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use proptest::prelude::*;

    use super::super::Decoder;
    use super::*;

    #[test]
    fn known_fields_take_one_byte() {
        let mut out = Vec::new();
        put_status(200, &mut out);
        put_status(404, &mut out);
        put_field(b":method", b"GET", &mut out);
        assert_eq!(out, [0x88, 0x8d, 0x82]);
        out.clear();
        put_status(418, &mut out);
        assert_eq!(out, [0x18, 0x03, b'4', b'1', b'8'], "no Huffman code, which would be as long");
        out.clear();
        put_field(b"authorization", b"x", &mut out);
        assert_eq!(out, [0x1f, 23 - 15, 1, b'x'], "never added to a table");
    }

    proptest! {
        #[test]
        fn fields_survive(fields in proptest::collection::vec((
            prop_oneof![Just(b"content-type".to_vec()), Just(b":status".to_vec()), "[a-z-]{1,20}".prop_map(String::into_bytes)],
            proptest::collection::vec(any::<u8>(), 0..300),
        ), 0..20)) {
            let mut section = Vec::new();
            for (name, value) in &fields {
                put_field(name, value, &mut section);
            }
            let mut read = Vec::new();
            let told = Decoder::default().decode(&section, &mut Vec::new(), |name, value| {
                read.push((name.to_vec(), value.to_vec()));
                ControlFlow::Continue(())
            });
            prop_assert_eq!(told, Ok(()));
            prop_assert_eq!(read, fields);
        }
    }
}
