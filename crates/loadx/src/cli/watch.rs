//! Noticing that the config file changed, whatever way it is changed: written in place, replaced by a rename as editors do,
//! or by the swap of a symbolic link as Kubernetes does.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The time between two looks at the file. Polling needs no watch on each folder of a path with symbolic links.
pub(super) const INTERVAL: Duration = Duration::from_millis(500);

/// The identity and the age of a file: device, inode, length, and the times of the last change of the content and of the
/// file's attributes, in nanoseconds. The attributes tell of new permissions, and of changes that keep the first time.
type Version = (u64, u64, u64, [i128; 2]);

/// Watches one file.
pub(super) struct Watch {
    path: PathBuf,
    /// The version that was read last.
    read: Option<Version>,
    /// The version at the last look.
    seen: Option<Version>,
}

impl Watch {
    pub(super) fn new(path: &Path) -> Self {
        let version = version(path);
        Watch { path: path.to_owned(), read: version, seen: version }
    }

    /// Looks at the file. Returns whether the file is to be read again: the file changed since it was read last, and did
    /// not change since the last look, so that a file that is being written is left alone.
    pub(super) fn is_due(&mut self) -> bool {
        let before = std::mem::replace(&mut self.seen, version(&self.path));
        // A file that is missing for a moment is being replaced.
        let is_settled = self.seen.is_some() && self.seen == before;
        let is_due = is_settled && self.seen != self.read;
        if is_due {
            self.read = self.seen;
        }
        is_due
    }

    /// Notes that the present content of the file was not read.
    pub(super) fn note_unread(&mut self) {
        self.read = None;
    }

    /// Notes that the file was read for another reason.
    pub(super) fn note_read(&mut self) {
        self.read = version(&self.path);
        self.seen = self.read;
    }
}

fn version(path: &Path) -> Option<Version> {
    let metadata = std::fs::metadata(path).ok()?;
    let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let changed = nanos(metadata.mtime(), metadata.mtime_nsec());
    let touched = nanos(metadata.ctime(), metadata.ctime_nsec());
    Some((metadata.dev(), metadata.ino(), metadata.len(), [changed, touched]))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn every_way_to_change_a_file_is_noticed_once_and_when_it_has_settled() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("config.json");
        std::fs::write(&path, "1").unwrap();
        let mut watch = Watch::new(&path);
        let mut due = |expected: [bool; 3]| {
            assert_eq!([watch.is_due(), watch.is_due(), watch.is_due()], expected);
        };
        due([false; 3]);
        std::fs::write(&path, "in place").unwrap();
        due([false, true, false]);
        let other = directory.path().join("other");
        std::fs::write(&other, "renamed").unwrap();
        std::fs::rename(&other, &path).unwrap();
        due([false, true, false]);
        let mut readable = std::fs::metadata(&path).unwrap().permissions();
        readable.set_mode(0o640);
        std::fs::set_permissions(&path, readable).unwrap();
        due([false, true, false]);
        std::fs::remove_file(&path).unwrap();
        due([false; 3]);
        let target = directory.path().join("target");
        std::fs::write(&target, "linked").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        due([false, true, false]);
        let next = directory.path().join("next");
        std::fs::write(&next, "linked again").unwrap();
        std::os::unix::fs::symlink(&next, &other).unwrap();
        std::fs::rename(&other, &path).unwrap();
        due([false, true, false]);
    }
}
