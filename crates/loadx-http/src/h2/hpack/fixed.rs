//! The static table of HPACK (RFC 7541, appendix A).

/// The entries; the first has the index 1.
pub(super) const ENTRIES: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// The slots of [`BY_HASH`].
const SLOTS: usize = 256;

/// The index of the first entry of each name, by the hash of the name; 0 for none.
static BY_HASH: [u8; SLOTS] = {
    let mut slots = [0; SLOTS];
    let mut position = 0;
    while position < ENTRIES.len() {
        let slot = hash(ENTRIES[position].0.as_bytes());
        if slots[slot] == 0 {
            slots[slot] = position as u8 + 1;
        }
        position += 1;
    }
    slots
};

/// A hash without collisions between the names of the table; a test proves that.
const fn hash(name: &[u8]) -> usize {
    if name.is_empty() {
        return 0;
    }
    let (first, middle, last) = (name[0] as usize, name[name.len() / 2] as usize, name[name.len() - 1] as usize);
    (first * HASH.0 + middle * HASH.1 + last * HASH.2 + name.len() * HASH.3) % SLOTS
}

/// The factors of [`hash`].
const HASH: (usize, usize, usize, usize) = (255, 201, 17, 245);

/// The index of the first entry with this name, which is in lower case.
pub(super) fn index_of(name: &[u8]) -> Option<usize> {
    let index = usize::from(BY_HASH[hash(name)]);
    (index > 0 && ENTRIES[index - 1].0.as_bytes() == name).then_some(index)
}

/// The index of the entry with this name and this value. `named`: the index of the first entry with the name.
pub(super) fn index_with_value(named: usize, value: &[u8]) -> Option<usize> {
    let (name, _) = ENTRIES[named - 1];
    let same = ENTRIES[named - 1..].iter().take_while(|(other, _)| *other == name);
    same.zip(named..).find(|((_, known), _)| !known.is_empty() && known.as_bytes() == value).map(|(_, index)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found() {
        for (position, (name, value)) in ENTRIES.iter().enumerate() {
            let first = ENTRIES.iter().position(|(other, _)| other == name).unwrap() + 1;
            assert_eq!(index_of(name.as_bytes()), Some(first), "{name}");
            let whole = (!value.is_empty()).then_some(position + 1);
            assert_eq!(index_with_value(first, value.as_bytes()), whole, "{name}: {value}");
        }
        for other in ["", "x", "hosts", ":statu", "content-typf"] {
            assert_eq!(index_of(other.as_bytes()), None, "{other}");
        }
    }
}
