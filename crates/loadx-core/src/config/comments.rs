//! Comments and trailing commas, which JSON does not know and people write.

/// Blanks what JSON does not know: comments (`//` to the end of the line, `/* … */`) and commas before a closing
/// bracket. Every other byte keeps its place, so that faults still show the right line and column.
///
/// # Errors
/// Where a comment begins that has no end.
pub(super) fn blanked(text: &str) -> Result<String, usize> {
    let mut bytes = text.as_bytes().to_vec();
    let mut at = 0;
    // A comma after which nothing but white space and comments has come.
    let mut comma = None;
    while at < bytes.len() {
        match (bytes[at], bytes.get(at + 1)) {
            (b'"', _) => {
                at = string_end(&bytes, at);
                comma = None;
                continue;
            }
            (b'/', Some(b'/')) => {
                let end = bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |length| at + length);
                blank(&mut bytes[at..end]);
                at = end;
                continue;
            }
            (b'/', Some(b'*')) => {
                let closed = bytes[at + 2..].windows(2).position(|two| two == b"*/");
                let length = closed.ok_or(at)?;
                let end = at + 2 + length + 2;
                blank(&mut bytes[at..end]);
                at = end;
                continue;
            }
            (b',', _) => comma = Some(at),
            (b'}' | b']', _) => {
                if let Some(comma) = comma.take() {
                    bytes[comma] = b' ';
                }
            }
            (byte, _) if !byte.is_ascii_whitespace() => comma = None,
            _ => {}
        }
        at += 1;
    }
    Ok(String::from_utf8(bytes).expect("whole characters were replaced by spaces"))
}

/// Where the string that begins at `start` has ended.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn blank(bytes: &mut [u8]) {
    for byte in bytes.iter_mut().filter(|byte| **byte != b'\n') {
        *byte = b' ';
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_trailing_commas_become_spaces() {
        for (typed, json) in [
            ("{\"a\": 1, // one\n}", "{\"a\": 1        \n}"),
            ("[1, /* é\n */ 2,]", "[1,      \n    2 ]"),
            ("{\"a//b\": \"/*\\\"\",}", "{\"a//b\": \"/*\\\"\" }"),
            ("[1,,]", "[1, ]"),
            ("[,]", "[ ]"),
            ("\"open", "\"open"),
        ] {
            assert_eq!(blanked(typed).as_deref(), Ok(json));
        }
        assert_eq!(blanked("{} /* a */ /* open */*/ /* é"), Err(24));
        assert_eq!(blanked("/*/"), Err(0));
    }
}
