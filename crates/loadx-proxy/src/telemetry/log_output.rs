//! The output of the access log: standard output, or a file that may be rotated.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::limits::LOG_ROTATION_LOOK;

/// The output of the access log.
#[derive(Debug)]
pub(super) enum Output {
    Standard,
    File(LogFile),
}

/// A file, opened for appending.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    /// When LoadX last checked that the path leads to the open file.
    checked: Instant,
}

impl Output {
    /// Opens the file at `path`, or standard output without a path.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub(super) fn open(path: Option<&Path>) -> io::Result<Self> {
        let Some(path) = path else { return Ok(Output::Standard) };
        Ok(Output::File(LogFile { path: path.to_owned(), file: append(path)?, checked: Instant::now() }))
    }

    /// Writes whole lines. If the file was renamed (as log rotation does) or removed, opens a new file at the path.
    ///
    /// # Errors
    /// When the lines cannot be written.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Output::Standard => {
                let mut output = io::stdout().lock();
                output.write_all(lines).and_then(|()| output.flush())
            }
            Output::File(log) => {
                if log.checked.elapsed() >= LOG_ROTATION_LOOK {
                    log.checked = Instant::now();
                    if !log.is_at_path() {
                        log.file = append(&log.path)?;
                    }
                }
                log.file.write_all(lines)
            }
        }
    }

    /// Opens the file at the path again.
    ///
    /// # Errors
    /// When the file cannot be opened; the former file stays in use.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        if let Output::File(log) = self {
            log.file = append(&log.path)?;
        }
        Ok(())
    }
}

impl LogFile {
    /// Whether the path leads to the open file.
    fn is_at_path(&self) -> bool {
        match (std::fs::metadata(&self.path), self.file.metadata()) {
            (Ok(named), Ok(open)) => (named.dev(), named.ino()) == (open.dev(), open.ino()),
            (Err(_), _) => false,
            (Ok(_), Err(_)) => true,
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}
