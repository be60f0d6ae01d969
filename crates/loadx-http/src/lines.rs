//! The field lines of a head: access, checks and copies.

use crate::fields::{FieldSet, Known};

/// A range of bytes in a head.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    /// The range from byte `start` to before byte `end`, of a head that is shorter than 4 GiB.
    pub(crate) fn new(start: usize, end: usize) -> Self {
        Span { start: start as u32, end: end as u32 }
    }

    pub(crate) fn in_bytes(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }
}

/// One field line of a head.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Line {
    pub(crate) name: Span,
    pub(crate) value: Span,
    pub(crate) known: Option<Known>,
}

/// Access to the field lines of a head in any storage.
pub(crate) trait Lines {
    /// The number of field lines.
    fn count(&self) -> usize;

    /// The head, from its first byte to the empty line.
    fn head(&self) -> &[u8];

    /// The offset of the start of a line in the head, in bytes.
    fn start(&self, index: usize) -> usize;

    fn name(&self, index: usize) -> &[u8];

    fn value(&self, index: usize) -> &[u8];

    fn known(&self, index: usize) -> Option<Known>;

    /// The values of all lines of one field.
    fn of(&self, known: Known) -> impl Iterator<Item = &[u8]> {
        (0..self.count()).filter(move |index| self.known(*index) == Some(known)).map(|index| self.value(index))
    }
}

/// The field lines of a head in the read buffer.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Received<'s, 'b> {
    pub(crate) head: &'b [u8],
    pub(crate) lines: &'s [Line],
}

impl Lines for Received<'_, '_> {
    fn count(&self) -> usize {
        self.lines.len()
    }

    fn head(&self) -> &[u8] {
        self.head
    }

    fn start(&self, index: usize) -> usize {
        self.lines[index].name.start as usize
    }

    fn name(&self, index: usize) -> &[u8] {
        self.lines[index].name.in_bytes(self.head)
    }

    fn value(&self, index: usize) -> &[u8] {
        self.lines[index].value.in_bytes(self.head)
    }

    fn known(&self, index: usize) -> Option<Known> {
        self.lines[index].known
    }
}

/// Copies the field lines that are not dropped, unchanged in order, case and value bytes. Copies adjacent lines in one
/// run. The `respaced` line, which is also in `dropped`, gets one space before its value.
pub(crate) fn copy_kept(lines: &impl Lines, dropped: FieldSet, respaced: Option<usize>, out: &mut Vec<u8>) {
    if let Some(respaced) = respaced {
        return copy_respaced(lines, dropped, respaced, out);
    }
    let (head, count) = (lines.head(), lines.count());
    let mut run_start = line_start(lines, 0);
    if dropped.is_empty() {
        return out.extend_from_slice(&head[run_start..head.len() - 2]);
    }
    for index in 0..count {
        if dropped.contains(index) {
            out.extend_from_slice(&head[run_start..line_start(lines, index)]);
            run_start = line_start(lines, index + 1);
        }
    }
    out.extend_from_slice(&head[run_start..head.len() - 2]);
}

/// A separate function, because the common path would otherwise take more instructions for each field.
#[cold]
fn copy_respaced(lines: &impl Lines, dropped: FieldSet, respaced: usize, out: &mut Vec<u8>) {
    for index in 0..lines.count() {
        if index == respaced {
            out.extend_from_slice(lines.name(index));
            out.extend_from_slice(b": ");
            out.extend_from_slice(lines.value(index));
            out.extend_from_slice(b"\r\n");
        } else if !dropped.contains(index) {
            out.extend_from_slice(&lines.head()[line_start(lines, index)..line_start(lines, index + 1)]);
        }
    }
}

/// The offset of a field line; after the last field line, the offset of the empty line that ends the head.
fn line_start(lines: &impl Lines, index: usize) -> usize {
    if index < lines.count() { lines.start(index) } else { lines.head().len() - 2 }
}
