//! The dynamic table of HPACK (RFC 7541, section 2.3.2).

use std::collections::VecDeque;

/// What an entry costs beside its bytes (RFC 7541, section 4.1).
pub(super) const ENTRY_OVERHEAD: usize = 32;

/// The fields that were sent before, the newest first. The bytes lie one after the other in one buffer, and the table takes no
/// memory before its first entry.
#[derive(Debug)]
pub(super) struct Table {
    /// Names and values, the oldest first. The bytes of removed entries at the front stay for a while.
    bytes: Vec<u8>,
    /// The oldest first.
    entries: VecDeque<Entry>,
    /// The sum of the sizes of the entries.
    size: usize,
    max: usize,
}

#[derive(Copy, Clone, Debug)]
struct Entry {
    start: usize,
    name_length: usize,
    length: usize,
}

impl Table {
    pub(super) fn new(max: usize) -> Self {
        Table { bytes: Vec::new(), entries: VecDeque::new(), size: 0, max }
    }

    /// Changes the largest size. Removes what no longer fits.
    pub(super) fn resize(&mut self, max: usize) {
        self.max = max;
        self.make_room(0);
    }

    /// The name and the value of an entry; the newest has the index 0.
    pub(super) fn get(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let position = self.entries.len().checked_sub(index + 1)?;
        let Entry { start, name_length, length } = self.entries[position];
        Some(self.bytes[start..start + length].split_at(name_length))
    }

    /// Adds an entry, and removes the oldest ones where needed. An entry that is larger than the table empties the table.
    pub(super) fn add(&mut self, name: &[u8], value: &[u8]) {
        let length = name.len() + value.len();
        let size = length + ENTRY_OVERHEAD;
        self.make_room(size);
        if size > self.max {
            return;
        }
        let unused = self.entries.front().map_or(self.bytes.len(), |entry| entry.start);
        // The bytes move once for each round through the table.
        if unused > self.max {
            self.bytes.drain(..unused);
            self.entries.iter_mut().for_each(|entry| entry.start -= unused);
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.entries.push_back(Entry { start, name_length: name.len(), length });
        self.size += size;
    }

    /// Removes the oldest entries until `size` more fits, or nothing is left.
    fn make_room(&mut self, size: usize) {
        while self.size + size > self.max {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.size -= oldest.length + ENTRY_OVERHEAD;
        }
        if self.entries.is_empty() {
            self.bytes.clear();
        }
    }

    /// The memory that the table holds, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<Entry>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_entries_leave_and_memory_is_bounded() {
        let mut table = Table::new(200);
        let text = [b'x'; 300];
        for round in 0..10_000usize {
            let (name, value) = text[..round % 90].split_at(round % 90 / 2);
            table.add(name, value);
            assert_eq!(table.get(0), Some((name, value)));
            assert!(table.size <= 200 && table.memory() < 2_000, "{} {}", table.size, table.memory());
        }
        assert!(table.get(1).is_some() && table.get(6).is_none());
        table.add(&text[..100], &text[..69]);
        assert_eq!(table.get(0), None, "the entry is larger than the table");
        table.add(b"a", b"1");
        table.add(b"b", b"2");
        table.resize(ENTRY_OVERHEAD + 2);
        assert_eq!((table.get(0), table.get(1)), (Some((&b"b"[..], &b"2"[..])), None));
        table.resize(0);
        assert_eq!(table.get(0), None);
    }
}
