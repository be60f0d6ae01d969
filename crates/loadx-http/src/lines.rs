//! The field lines of a head: access, checks and copies.

use crate::Fault;
use crate::fields::{Field, FieldSet, Known};

/// The offset of `part` in `whole`, in bytes. `part` must be a slice of `whole`.
pub(crate) fn offset_in(whole: &[u8], part: &[u8]) -> usize {
    part.as_ptr() as usize - whole.as_ptr() as usize
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
    pub(crate) fields: &'s [Field<'b>],
}

impl Lines for Received<'_, '_> {
    fn count(&self) -> usize {
        self.fields.len()
    }

    fn head(&self) -> &[u8] {
        self.head
    }

    fn start(&self, index: usize) -> usize {
        offset_in(self.head, self.fields[index].name.as_bytes())
    }

    fn name(&self, index: usize) -> &[u8] {
        self.fields[index].name.as_bytes()
    }

    fn value(&self, index: usize) -> &[u8] {
        self.fields[index].value
    }

    fn known(&self, index: usize) -> Option<Known> {
        Known::of(self.name(index))
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

/// Checks what the parser does not check: every line must end in CR LF (RFC 9112, section 2.2 would allow a bare LF,
/// but a backend that reads lines differently would see other fields), and every field must have a name.
///
/// The parser guarantees that an LF is only at the end of a line, before the name of the next field.
pub(crate) fn check_lines(lines: &Received<'_, '_>) -> Result<(), Fault> {
    const BARE_LF: Fault = Fault::Malformed("a line ends in a bare LF");
    let Received { head, fields } = lines;
    if !head.ends_with(b"\r\n\r\n") {
        return Err(BARE_LF);
    }
    for field in *fields {
        if field.name.is_empty() {
            return Err(Fault::Malformed("a field has no name"));
        }
        if !head[..offset_in(head, field.name.as_bytes())].ends_with(b"\r\n") {
            return Err(BARE_LF);
        }
    }
    Ok(())
}
