//! Removes comments and trailing commas, which JSON does not allow.

/// Replaces comments (`//` to the end of the line, `/* … */`) and commas before a closing bracket by spaces. All other
/// bytes keep their place, so that faults show the right line and column.
///
/// # Errors
/// The start of a comment without an end.
pub(super) fn blanked(text: &str) -> Result<String, usize> {
    let mut bytes = text.as_bytes().to_vec();
    let mut at = 0;
    // The last comma, if only white space and comments follow the comma.
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

/// The end of the string that begins at `start`.
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
