//! The output of the access log: standard output, or a file that may be rotated.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::log_lines::{Lines, Sink, Unwritten};
use crate::limits::LOG_ROTATION_LOOK;

/// The output of the access log.
#[derive(Debug)]
pub(super) enum Output {
    Standard(Lines<Standard>),
    File(LogFile),
}

/// Standard output, without the buffer of the standard library, which hides how much was written.
#[derive(Debug)]
pub(super) struct Standard;

/// A file, opened for appending.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    lines: Lines<File>,
    /// When LoadX last checked that the path leads to the open file.
    checked: Instant,
    /// Whether the last look found that the file at the path cannot be opened.
    is_away: bool,
}

impl Output {
    /// Opens the file at `path`, or standard output without a path.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub(super) fn open(path: Option<&Path>) -> io::Result<Self> {
        let Some(path) = path else { return Ok(Output::Standard(Lines::new(Standard))) };
        let lines = Lines::new(append(path)?);
        Ok(Output::File(LogFile { path: path.to_owned(), lines, checked: Instant::now(), is_away: false }))
    }

    /// Writes whole lines. If the file was renamed (as log rotation does) or removed, opens a new file at the path.
    ///
    /// # Errors
    /// When some of the lines cannot be written.
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), Unwritten> {
        match self {
            Output::Standard(output) => {
                // After a reload a former thread may still write: without the lock, lines would mix in a full pipe.
                let _alone = io::stdout().lock();
                output.write(lines)
            }
            Output::File(log) => {
                log.follow_path();
                log.lines.write(lines)
            }
        }
    }

    /// Opens the file at the path again.
    ///
    /// # Errors
    /// When the file cannot be opened; the former file stays in use.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        match self {
            Output::Standard(_) => Ok(()),
            Output::File(log) => log.reopen(),
        }
    }
}

impl LogFile {
    /// Now and then, opens the file at the path if it is another one.
    fn follow_path(&mut self) {
        if self.checked.elapsed() < LOG_ROTATION_LOOK {
            return;
        }
        self.checked = Instant::now();
        if let Err(error) = self.look() {
            let path = self.path.display();
            tracing::error!("the access log cannot be opened at {path}, lines go on to the former file: {error}");
        }
    }

    /// Opens the file at the path if it is another one. Until that succeeds the former file stays in use: it can be
    /// written as before.
    ///
    /// # Errors
    /// At the first of several failures.
    fn look(&mut self) -> io::Result<()> {
        let was_away = self.is_away;
        let outcome = self.reopen();
        self.is_away = outcome.is_err();
        if was_away { Ok(()) } else { outcome }
    }

    fn reopen(&mut self) -> io::Result<()> {
        // The open file may end with a torn line, which only the present `lines` know of.
        if !self.is_at_path() {
            self.lines = Lines::new(append(&self.path)?);
        }
        Ok(())
    }

    /// Whether the path leads to the open file.
    fn is_at_path(&self) -> bool {
        match (std::fs::metadata(&self.path), self.lines.sink().metadata()) {
            (Ok(named), Ok(open)) => (named.dev(), named.ino()) == (open.dev(), open.ino()),
            (Err(_), _) => false,
            (Ok(_), Err(_)) => true,
        }
    }
}

impl io::Write for Standard {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(io::stdout(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Standard {
    /// A pipe and a terminal take nothing back, and a file may be shared with other programs.
    fn take_back(&mut self, _: usize) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

fn append(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_missing_folder_is_an_error_once_and_the_former_file_stays_in_use() {
        let folder = std::env::temp_dir().join(format!("loadx-log-output-{}", std::process::id()));
        let (logs, moved) = (folder.join("logs"), folder.join("moved"));
        fs::create_dir_all(&logs).unwrap();
        let Output::File(mut log) = Output::open(Some(&logs.join("log"))).unwrap() else { panic!("not a file") };
        for _ in 0..2 {
            log.look().unwrap();
            fs::rename(&logs, &moved).unwrap();
            log.look().unwrap_err();
            log.look().unwrap();
            log.lines.write(b"line\n").unwrap();
            fs::rename(&moved, &logs).unwrap();
        }
        let content = fs::read(logs.join("log")).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(content, b"line\nline\n");
    }
}
