//! The grammar beside httparse, which nobody here wrote and which accepts more.

use proptest::prelude::*;

use super::*;

/// A start line with its fields: name and value.
type Head = (Vec<Vec<u8>>, Vec<(Vec<u8>, Vec<u8>)>);

fn fields(bytes: &[u8], lines: &[Line]) -> Vec<(Vec<u8>, Vec<u8>)> {
    lines.iter().map(|line| (line.name.in_bytes(bytes).to_vec(), line.value.in_bytes(bytes).to_vec())).collect()
}

fn request(bytes: &[u8]) -> Result<(Head, usize), Stop> {
    let line = request_line(bytes)?;
    let mut lines = Vec::new();
    let length = field_lines(bytes, line.length, &mut lines)?;
    let version = if line.version == Version::Http11 { 1 } else { 0 };
    let start = vec![line.method.in_bytes(bytes).to_vec(), line.target.in_bytes(bytes).to_vec(), vec![version]];
    Ok(((start, fields(bytes, &lines)), length))
}

fn response(bytes: &[u8]) -> Result<(Head, usize), Stop> {
    let line = status_line(bytes)?;
    let mut lines = Vec::new();
    let length = field_lines(bytes, line.length, &mut lines)?;
    let version = if line.version == Version::Http11 { 1 } else { 0 };
    Ok(((vec![vec![version], line.code.to_string().into_bytes()], fields(bytes, &lines)), length))
}

fn named(headers: &[httparse::Header<'_>]) -> Vec<(Vec<u8>, Vec<u8>)> {
    headers.iter().map(|field| (field.name.as_bytes().to_vec(), field.value.to_vec())).collect()
}

/// `Ok(None)` for an incomplete head.
fn request_of_httparse(bytes: &[u8]) -> Result<Option<(Head, usize)>, httparse::Error> {
    let mut slots = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut raw = httparse::Request::new(&mut slots);
    Ok(match raw.parse(bytes)? {
        httparse::Status::Partial => None,
        httparse::Status::Complete(length) => {
            let (method, target) = (raw.method.unwrap().as_bytes().to_vec(), raw.path.unwrap().as_bytes().to_vec());
            Some(((vec![method, target, vec![raw.version.unwrap()]], named(raw.headers)), length))
        }
    })
}

/// `Ok(None)` for an incomplete head.
fn response_of_httparse(bytes: &[u8]) -> Result<Option<(Head, usize)>, httparse::Error> {
    let mut slots = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut raw = httparse::Response::new(&mut slots);
    Ok(match raw.parse(bytes)? {
        httparse::Status::Partial => None,
        httparse::Status::Complete(length) => {
            let code = raw.code.unwrap().to_string().into_bytes();
            Some(((vec![vec![raw.version.unwrap()], code], named(raw.headers)), length))
        }
    })
}

/// Whether LoadX refuses these bytes although httparse accepts them, for a rule of LoadX.
fn is_refused_by_rule(bytes: &[u8], head: &Head, length: usize) -> bool {
    let bare_lf = (0..length).any(|at| bytes[at] == b'\n' && (at == 0 || bytes[at - 1] != b'\r'));
    bare_lf || bytes.starts_with(b"\r\n") || head.1.iter().any(|(name, _)| name.is_empty())
}

type Ours = fn(&[u8]) -> Result<(Head, usize), Stop>;
type Theirs = fn(&[u8]) -> Result<Option<(Head, usize)>, httparse::Error>;

fn agree(bytes: &[u8], ours: Ours, theirs: Theirs) -> Result<(), TestCaseError> {
    match (ours(bytes), theirs(bytes)) {
        (Ok((head, length)), other) => {
            let other = match other {
                Ok(other) => other,
                // Bytes that are not UTF-8; `origin` refuses all bytes beyond ASCII.
                Err(httparse::Error::Token) if !head.0[1].is_ascii() => return Ok(()),
                other => return Err(TestCaseError::fail(format!("only LoadX accepts: {other:?}"))),
            };
            prop_assert_eq!(Some((head, length)), other);
            for end in 0..length {
                prop_assert_eq!(ours(&bytes[..end]), Err(Stop::Partial), "the first {} bytes", end);
            }
        }
        (Err(Stop::Partial), Ok(Some(_))) => prop_assert!(false, "LoadX waits for more of a whole head"),
        (Err(Stop::Fault(fault)), Ok(Some((head, length)))) => {
            prop_assert!(is_refused_by_rule(bytes, &head, length), "only LoadX refuses: {}", fault);
        }
        (Err(_), _) => {}
    }
    Ok(())
}

/// Pieces of heads, sound and unsound, so that joined pieces come close to heads.
fn pieces(starts: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    const FIELDS: &[&str] = &[
        "Host: a\r\n",
        "A:\r\n",
        "A: \t \r\n",
        "X-Long-Name-Of-A-Field:  a value \t of more than\teight bytes  \r\n",
        "Cookie: 0123456789 of more than sixteen bytes, and more than thirty-two; 0123456789 \u{e9} and so on: 0123456789\r\n",
        "Cookie: 0123456789 of more than thirty-two bytes with a byte that \u{2} is not allowed in a value\r\n",
        "b!#$%&'*+-.^_`|~9: \u{e4}\u{f6}\r\n",
        "A: b\n",
        " folded\r\n",
        ": nameless\r\n",
        "A : b\r\n",
        "A: b\rc\r\n",
        "A: \u{7f}\r\n",
        "A: 1234567\u{1}\r\n",
        "no colon\r\n",
    ];
    let start = prop::sample::select(starts).prop_map(|start| start.as_bytes().to_vec());
    let fields = prop::collection::vec(prop::sample::select(FIELDS), 0..6);
    let end = prop::sample::select(&["\r\n", "\n", "", "\r", "\r\nrest"][..]);
    let flip = prop::option::weighted(0.5, (any::<prop::sample::Index>(), any::<u8>()));
    (start, fields, end, flip).prop_map(|(mut bytes, fields, end, flip)| {
        fields.iter().for_each(|field| bytes.extend_from_slice(field.as_bytes()));
        bytes.extend_from_slice(end.as_bytes());
        if let Some((place, byte)) = flip
            && !bytes.is_empty()
        {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        bytes
    })
}

const REQUESTS: &[&str] = &[
    "GET / HTTP/1.1\r\n",
    "POST /a/long/path?with=a&query=%20 HTTP/1.0\r\n",
    "GET  / HTTP/1.1\r\n",
    "GET / HTTP/1.1 \r\n",
    "GET / HTTP/1.10\r\n",
    "GET / HTTP/2.0\r\n",
    "GET /\r\n",
    "GET / X\r\n",
    "G\u{e4}T / HTTP/1.1\r\n",
    "GET /\u{e4}\u{7f} HTTP/1.1\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    " GET / HTTP/1.1\r\n",
    "GET / http/1.1\r\n",
    "",
];

const RESPONSES: &[&str] = &[
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.0 404 Nicht \t gefunden \u{e4}\r\n",
    "HTTP/1.1 204\r\n",
    "HTTP/1.1 204 \r\n",
    "HTTP/1.1 20\r\n",
    "HTTP/1.1 2000\r\n",
    "HTTP/1.1  200 OK\r\n",
    "HTTP/1.1 099 Low\r\n",
    "HTTP/1.1 200 O\u{1}K\r\n",
    "HTTP/2 200\r\n",
    "HTTP/3.0 200 OK\r\n",
    "SSH-2.0-OpenSSH_9.2\r\n",
    "",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn requests_mean_to_loadx_what_they_mean_to_httparse(bytes in pieces(REQUESTS)) {
        agree(&bytes, request, request_of_httparse)?;
    }

    #[test]
    fn responses_mean_to_loadx_what_they_mean_to_httparse(bytes in pieces(RESPONSES)) {
        agree(&bytes, response, response_of_httparse)?;
    }

    #[test]
    fn any_bytes_mean_to_loadx_what_they_mean_to_httparse(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        agree(&bytes, request, request_of_httparse)?;
        agree(&bytes, response, response_of_httparse)?;
    }
}

#[test]
fn a_run_ends_at_its_first_foreign_byte() {
    for byte in 0..=u8::MAX {
        for place in 0..70 {
            let mut bytes = [b'a'; 75];
            bytes[place] = byte;
            // A borrow from this byte must not hide or invent another.
            bytes[place + 1] = b' ';
            let visible = if byte < b'!' || byte == 0x7f { place } else { place + 1 };
            assert_eq!(run_end::<b'!'>(&bytes, 0), visible, "{byte} at {place}");
            let text = if byte < b' ' || byte == 0x7f { place } else { bytes.len() };
            assert_eq!(run_end::<b' '>(&bytes, 0), text, "{byte} at {place}");
        }
    }
}

#[test]
fn what_cannot_become_a_version_is_refused_before_its_line_ends() {
    for (bytes, stop) in [
        (&b"HTT"[..], Stop::Partial),
        (b"HTTP/1", Stop::Partial),
        (b"HTTP/2.0", Stop::Partial),
        (b"HTTP/2.0\r", Fault::Version.into()),
        (b"HTTP/2\r\n", START_LINE.into()),
        (b"SSH", START_LINE.into()),
        (b"X\r\n", START_LINE.into()),
    ] {
        assert_eq!(not_a_version(bytes), stop, "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_token_ends_at_its_first_foreign_byte() {
    for byte in 0..=u8::MAX {
        for place in 0..20 {
            let mut bytes = [b'-'; 24];
            bytes[place] = byte;
            bytes[place + 1] = b':';
            let end = if IN_TOKENS[usize::from(byte)] { place + 1 } else { place };
            assert_eq!(token_end(&bytes, 0), end, "{byte} at {place}");
        }
    }
}
