//! Where the lines of the access log go: standard output, or a file that may be rotated.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::limits::LOG_ROTATION_LOOK;

/// The output of the log.
#[derive(Debug)]
pub(super) enum Output {
    Standard,
    File(LogFile),
}

/// A file that is appended to.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    /// When the name of the file was last compared with the file.
    looked: Instant,
}

impl Output {
    /// # Errors
    /// When the file cannot be opened.
    pub(super) fn open(path: Option<&Path>) -> io::Result<Self> {
        let Some(path) = path else { return Ok(Output::Standard) };
        Ok(Output::File(LogFile { path: path.to_owned(), file: append(path)?, looked: Instant::now() }))
    }

    /// Writes whole lines. A file that was renamed or removed is left, and a new file of the name is begun: so logs are
    /// rotated by renaming them.
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
                if log.looked.elapsed() >= LOG_ROTATION_LOOK {
                    log.looked = Instant::now();
                    if !log.has_its_name() {
                        log.file = append(&log.path)?;
                    }
                }
                log.file.write_all(lines)
            }
        }
    }

    /// Opens the file by its name again.
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
    /// Whether the name still leads to the open file.
    fn has_its_name(&self) -> bool {
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
