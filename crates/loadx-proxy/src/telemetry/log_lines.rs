//! Writes whole lines to an output that may fail in the middle of a line, as a full disk does.

use std::fs::File;
use std::io::{self, ErrorKind, Seek as _};

use memchr::{memchr_iter, memrchr};

/// An output that may be able to take back what was written last.
pub(super) trait Sink: io::Write {
    /// Removes the last `bytes` bytes.
    ///
    /// # Errors
    /// When the output cannot take anything back; it is unchanged then.
    fn take_back(&mut self, bytes: usize) -> io::Result<()>;
}

/// Lines that were not written, and why.
#[derive(Debug)]
pub(super) struct Unwritten {
    pub(super) lines: usize,
    pub(super) error: io::Error,
}

/// Keeps an output at the beginning of a line.
#[derive(Debug)]
pub(super) struct Lines<S> {
    sink: S,
    /// Whether the output ends with a part of a line, which could not be taken back.
    is_torn: bool,
}

impl<S: Sink> Lines<S> {
    pub(super) fn new(sink: S) -> Self {
        Lines { sink, is_torn: false }
    }

    pub(super) fn sink(&self) -> &S {
        &self.sink
    }

    /// Writes whole lines. After an error, goes on from the first line that is not whole in the output, as long as each
    /// attempt writes a line.
    ///
    /// # Errors
    /// When some of the lines are not in the output as whole lines.
    pub(super) fn write(&mut self, mut lines: &[u8]) -> Result<(), Unwritten> {
        loop {
            let (whole, outcome) = self.attempt(lines);
            let Err(error) = outcome else { return Ok(()) };
            lines = &lines[whole..];
            if whole == 0 {
                return Err(Unwritten { lines: count(lines), error });
            }
        }
    }

    /// Returns the length of the lines that are whole in the output.
    fn attempt(&mut self, lines: &[u8]) -> (usize, io::Result<()>) {
        if self.is_torn {
            if let (_, Err(error)) = write_most(&mut self.sink, b"\n") {
                return (0, Err(error));
            }
            self.is_torn = false;
        }
        let (written, outcome) = write_most(&mut self.sink, lines);
        let whole = memrchr(b'\n', &lines[..written]).map_or(0, |end| end + 1);
        if written > whole {
            self.is_torn = self.sink.take_back(written - whole).is_err();
        }
        (whole, outcome)
    }
}

pub(super) fn count(lines: &[u8]) -> usize {
    memchr_iter(b'\n', lines).count()
}

/// The same as `write_all`, but also returns how many bytes were written.
fn write_most(sink: &mut impl io::Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match sink.write(&bytes[written..]) {
            Ok(0) => return (written, Err(ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

/// A file that is open for appending.
impl Sink for File {
    fn take_back(&mut self, bytes: usize) -> io::Result<()> {
        let metadata = self.metadata()?;
        let end = self.stream_position()?;
        // Behind the end of the last write are lines of another writer, which must stay.
        if !metadata.is_file() || metadata.len() != end {
            return Err(ErrorKind::Unsupported.into());
        }
        self.set_len(end - bytes as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk of some size.
    #[derive(Default)]
    struct Disk {
        content: Vec<u8>,
        size: usize,
        /// What is added to the size at each failure: someone removes files.
        freed: usize,
        takes_back: bool,
    }

    impl io::Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let fitting = bytes.len().min(self.size - self.content.len());
            if fitting == 0 {
                self.size += self.freed;
                return Err(ErrorKind::StorageFull.into());
            }
            self.content.extend_from_slice(&bytes[..fitting]);
            Ok(fitting)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Sink for Disk {
        fn take_back(&mut self, bytes: usize) -> io::Result<()> {
            if !self.takes_back {
                return Err(ErrorKind::Unsupported.into());
            }
            self.content.truncate(self.content.len() - bytes);
            Ok(())
        }
    }

    fn lost(outcome: Result<(), Unwritten>) -> usize {
        outcome.map_or_else(|unwritten| unwritten.lines, |()| 0)
    }

    #[test]
    fn a_full_disk_tears_no_line_and_each_lost_line_is_counted() {
        for size in 0..12 {
            let mut lines = Lines::new(Disk { size, takes_back: true, ..Disk::default() });
            assert_eq!(lost(lines.write(b"one\ntwo\nsix\n")), 3 - size / 4, "{size}");
            lines.sink.size = 100;
            assert_eq!(lost(lines.write(b"ten\n")), 0);
            let kept = &b"one\ntwo\nsix\n"[..size / 4 * 4];
            assert_eq!(lines.sink.content, [kept, b"ten\n"].concat(), "{size}");
        }
    }

    #[test]
    fn a_torn_line_that_stays_is_ended_before_the_next_line() {
        let mut lines = Lines::new(Disk { size: 6, ..Disk::default() });
        assert_eq!(lost(lines.write(b"one\ntwo\nsix\n")), 2);
        assert_eq!(lost(lines.write(b"ten\n")), 1);
        lines.sink.size = 100;
        assert_eq!(lost(lines.write(b"ten\n")), 0);
        assert_eq!(lines.sink.content, b"one\ntw\nten\n");
    }

    #[test]
    fn what_is_left_is_written_when_there_is_room_again() {
        let mut lines = Lines::new(Disk { size: 6, freed: 4, takes_back: true, ..Disk::default() });
        assert_eq!(lost(lines.write(b"one\ntwo\nsix\n")), 0);
        assert_eq!(lines.sink.content, b"one\ntwo\nsix\n");
    }

    #[test]
    fn a_file_keeps_the_lines_of_other_writers() {
        use std::io::Write as _;

        let path = std::env::temp_dir().join(format!("loadx-log-lines-{}", std::process::id()));
        let append = || File::options().create(true).append(true).open(&path).unwrap();
        let (mut file, mut other) = (append(), append());
        file.write_all(b"one\ntw").unwrap();
        file.take_back(2).unwrap();
        file.write_all(b"six\nte").unwrap();
        other.write_all(b"x\n").unwrap();
        file.take_back(2).unwrap_err();
        let content = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(content, b"one\nsix\ntex\n");
    }
}
