//! Reads field sections.

use std::fmt;
use std::ops::{ControlFlow, Range};

use super::table::Table;
use super::{fixed, huffman, integer};

/// Reads the field sections of one direction of a connection.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
}

/// The largest table that the other side may use, in bytes: the value before any settings (RFC 9113, section 6.5.2), which LoadX
/// does not change. Another value would count only from the acknowledgement of LoadX's settings.
const TABLE_MAX: usize = 4_096;

/// Why a field section cannot be read. The two ends no longer agree on the table, so that the connection must end
/// (RFC 9113, section 4.3).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum HpackFault {
    /// The section breaks the rules of HPACK.
    Malformed(&'static str),
    /// The caller took no more fields.
    Stopped,
}

impl fmt::Display for HpackFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HpackFault::Malformed(reason) => reason,
            HpackFault::Stopped => "the field section is too large",
        })
    }
}

impl From<&'static str> for HpackFault {
    fn from(reason: &'static str) -> Self {
        HpackFault::Malformed(reason)
    }
}

/// A name or a value of a literal.
enum Part<'b> {
    Slice(&'b [u8]),
    /// A place in the scratch memory.
    Decoded(Range<usize>),
}

impl Part<'_> {
    fn bytes<'p>(&'p self, scratch: &'p [u8]) -> &'p [u8] {
        match self {
            Part::Slice(bytes) => bytes,
            Part::Decoded(range) => &scratch[range.clone()],
        }
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder { table: Table::new(TABLE_MAX) }
    }
}

impl Decoder {
    /// Reads a whole field section, and calls `take` with each name and value. `scratch` is memory that the decoder needs
    /// meanwhile; its content is of no use afterwards.
    ///
    /// # Errors
    /// Any [`HpackFault`]; the connection must end.
    pub fn decode(
        &mut self,
        section: &[u8],
        scratch: &mut Vec<u8>,
        mut take: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), HpackFault> {
        let mut rest = section;
        let mut is_begin = true;
        let mut resizes = 0;
        while let Some(first) = rest.first() {
            let taken = match first {
                0x80.. => {
                    let (index, after) = integer::read(rest, 7)?;
                    rest = after;
                    let (name, value) = self.entry(index)?;
                    take(name, value)
                }
                0x20..0x40 => {
                    if !is_begin {
                        return Err("a change of the table's size stands behind a field".into());
                    }
                    let (size, after) = integer::read(rest, 5)?;
                    rest = after;
                    // The smallest and the last size suffice (RFC 7541, section 4.2).
                    resizes += 1;
                    if resizes > 2 {
                        return Err("the table changes its size more than twice".into());
                    }
                    if size > TABLE_MAX {
                        return Err("the table would be larger than allowed".into());
                    }
                    self.table.resize(size);
                    continue;
                }
                _ => {
                    // Literals without indexing and those that are never indexed differ only for who writes them again.
                    let is_added = *first >= 0x40;
                    let (index, after) = integer::read(rest, if is_added { 6 } else { 4 })?;
                    rest = after;
                    scratch.clear();
                    let name = match index {
                        0 => string(&mut rest, scratch)?,
                        index => {
                            // Adding the field may remove the entry with the name.
                            let (name, _) = self.entry(index)?;
                            scratch.extend_from_slice(name);
                            Part::Decoded(0..name.len())
                        }
                    };
                    let value = string(&mut rest, scratch)?;
                    let (name, value) = (name.bytes(scratch), value.bytes(scratch));
                    if is_added {
                        self.table.add(name, value);
                    }
                    take(name, value)
                }
            };
            if taken.is_break() {
                return Err(HpackFault::Stopped);
            }
            is_begin = false;
        }
        Ok(())
    }

    /// The entry with this index in the static and the dynamic table together (RFC 7541, section 2.3.3).
    fn entry(&self, index: usize) -> Result<(&[u8], &[u8]), &'static str> {
        const NONE: &str = "an index has no entry";
        let position = index.checked_sub(1).ok_or(NONE)?;
        match fixed::ENTRIES.get(position) {
            Some((name, value)) => Ok((name.as_bytes(), value.as_bytes())),
            None => self.table.get(position - fixed::ENTRIES.len()).ok_or(NONE),
        }
    }

    /// The memory that the table holds, in bytes.
    pub fn memory(&self) -> usize {
        self.table.memory()
    }
}

/// Reads a string at the beginning of `rest` (RFC 7541, section 5.2). Appends a string in the Huffman code to `scratch`.
fn string<'b>(rest: &mut &'b [u8], scratch: &mut Vec<u8>) -> Result<Part<'b>, &'static str> {
    const CUT: &str = "a string is cut off";
    let is_coded = rest.first().ok_or(CUT)? & 0x80 != 0;
    let (length, after) = integer::read(rest, 7)?;
    let (bytes, after) = after.split_at_checked(length).ok_or(CUT)?;
    *rest = after;
    if !is_coded {
        return Ok(Part::Slice(bytes));
    }
    let start = scratch.len();
    huffman::decode(bytes, scratch)?;
    Ok(Part::Decoded(start..scratch.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(decoder: &mut Decoder, section: &[u8]) -> Result<Vec<(String, String)>, HpackFault> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let mut fields = Vec::new();
        decoder.decode(section, &mut Vec::new(), |name, value| {
            fields.push((text(name), text(value)));
            ControlFlow::Continue(())
        })?;
        Ok(fields)
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    /// RFC 7541, appendix C.3 and C.4: three requests on one connection, without and with the Huffman code.
    #[test]
    fn the_requests_of_the_rfc_are_read() {
        for sections in [
            [
                "828684410f7777772e6578616d706c652e636f6d",
                "828684be58086e6f2d6361636865",
                "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
            ],
            [
                "828684418cf1e3c2e5f23a6ba0ab90f4ff",
                "828684be5886a8eb10649cbf",
                "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
            ],
        ] {
            let mut decoder = Decoder::default();
            let read = sections.map(|section| {
                let fields = decode(&mut decoder, &bytes(section)).unwrap();
                fields.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join("\n")
            });
            assert_eq!(read[0], ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com");
            assert_eq!(read[1], format!("{}\ncache-control: no-cache", read[0]));
            let third = ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com";
            assert_eq!(read[2], format!("{third}\ncustom-key: custom-value"));
        }
    }

    /// RFC 7541, appendix C.6: responses with a table of 256 bytes, so that entries leave.
    #[test]
    fn the_responses_of_the_rfc_are_read() {
        let mut decoder = Decoder { table: Table::new(256) };
        let first = "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff\
                     6e919d29ad171863c78f0b97c8e9ae82ae43d3";
        let fields = decode(&mut decoder, &bytes(first)).unwrap();
        let date = "Mon, 21 Oct 2013 20:13:21 GMT";
        let wanted =
            [(":status", "302"), ("cache-control", "private"), ("date", date), ("location", "https://www.example.com")];
        let owned = |fields: &[(&str, &str)]| -> Vec<(String, String)> {
            fields.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
        };
        assert_eq!(fields, owned(&wanted));
        let fields = decode(&mut decoder, &bytes("4883640effc1c0bf")).unwrap();
        assert_eq!(fields, owned(&[&[(":status", "307")], &wanted[1..]].concat()));
        let third = "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960\
                     d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007";
        let fields = decode(&mut decoder, &bytes(third)).unwrap();
        assert_eq!(fields[0], (":status".into(), "200".into()));
        assert_eq!(fields[2], ("date".into(), "Mon, 21 Oct 2013 20:13:22 GMT".into()));
        let cookie = "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
        assert_eq!(fields[5], ("set-cookie".into(), cookie.into()));
    }

    #[test]
    fn faults_are_found() {
        for (section, reason) in [
            ("80", "an index has no entry"),
            ("be", "an index has no entry"),
            ("ff ff ff ff ff 0f", "an integer is too large"),
            ("0f", "an integer is cut off"),
            ("40", "a string is cut off"),
            ("40 01", "a string is cut off"),
            ("40 01 61", "a string is cut off"),
            ("40 01 61 05 62", "a string is cut off"),
            ("40 81 ff 00", "the padding of a Huffman code is not valid"),
            ("82 20", "a change of the table's size stands behind a field"),
            ("3f e2 1f", "the table would be larger than allowed"),
            ("3f e1 1f 20 20", "the table changes its size more than twice"),
        ] {
            let mut decoder = Decoder::default();
            assert_eq!(decode(&mut decoder, &bytes(section)), Err(HpackFault::Malformed(reason)), "{section}");
        }
        let mut decoder = Decoder::default();
        assert_eq!(decode(&mut decoder, &bytes("20 3fe11f 82")).unwrap().len(), 1, "up to the limit");
    }

    #[test]
    fn an_entry_that_removes_its_own_name_is_read() {
        let mut decoder = Decoder::default();
        // A table of 40 bytes has room for one field of eight bytes.
        let section = bytes("3f 09 40 04 6e616d65 04 6f6e6531 7e 04 74776f32 be");
        let fields = decode(&mut decoder, &section).unwrap();
        let wanted = [("name", "one1"), ("name", "two2"), ("name", "two2")];
        assert_eq!(fields, wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn the_caller_ends_a_section_that_grows_too_large() {
        let mut decoder = Decoder::default();
        let mut left = 3;
        let told = decoder.decode(&[0x82; 1_000], &mut Vec::new(), |_, _| {
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!((told, left), (Err(HpackFault::Stopped), 0));
    }
}
