//! The folder with the certificates and their keys.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest as _, Sha256};

use crate::{Bundle, CertsError};

/// The folder of the locks in the store.
const LOCKS: &str = "locks";

/// The folder of the answers to authorities in the store.
const ANSWERS: &str = "answers";

/// The longest time for which an answer stays.
const ANSWER_AGE_MAX: Duration = Duration::from_secs(3_600);

/// The folder of the requests for renewals in the store.
const RENEWALS: &str = "renewals";

/// The folder with the certificates and their keys. Several LoadX may share the folder.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

/// The right to change a part of the folder. Dropping the lock lets others change the part.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "the open file holds the lock")] File);

impl Store {
    /// A store in this folder, which only this user may read. Makes the folder if it does not exist.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(folder: &Path) -> Result<Self, CertsError> {
        make_folder(folder).map_err(CertsError::file(folder))?;
        close_to_others(folder).map_err(CertsError::file(folder))?;
        Ok(Store { folder: folder.to_owned() })
    }

    /// Where the store keeps its files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Waits until no other LoadX has the lock of this name.
    ///
    /// # Errors
    /// When the system refuses the lock.
    pub fn lock(&self, name: &str) -> Result<Lock, CertsError> {
        let (path, file) = self.lock_file(name)?;
        flock(&file, FlockOperation::LockExclusive).map_err(|error| CertsError::File(path, error.into()))?;
        Ok(Lock(file))
    }

    /// The lock of this name; none if another LoadX has the lock.
    ///
    /// # Errors
    /// When the system refuses the lock.
    pub fn try_lock(&self, name: &str) -> Result<Option<Lock>, CertsError> {
        let (path, file) = self.lock_file(name)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(CertsError::File(path, error.into())),
        }
    }

    fn lock_file(&self, name: &str) -> Result<(PathBuf, File), CertsError> {
        let path = self.path(LOCKS, name).with_extension("lock");
        let open = || {
            make_folder(&self.folder.join(LOCKS))?;
            private(&path, false)
        };
        let file = open().map_err(CertsError::file(&path))?;
        Ok((path, file))
    }

    /// The certificate with this name in a folder of the store; none if there is none yet.
    ///
    /// # Errors
    /// When the file cannot be read, or has something else.
    pub fn load(&self, kind: &str, name: &str) -> Result<Option<Bundle>, CertsError> {
        let path = self.path(kind, name);
        if let Err(error) = check_owner(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(CertsError::File(path, error));
        }
        match fs::read_to_string(&path) {
            Ok(text) => Bundle::new(text).map(Some).map_err(|reason| CertsError::Content(path, reason)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(CertsError::File(path, error)),
        }
    }

    /// Keeps a certificate. A crash leaves the former file or the new file, whole.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, kind: &str, name: &str, bundle: &Bundle) -> Result<(), CertsError> {
        let path = self.path(kind, name);
        replace(&path, bundle.text()).map_err(CertsError::file(&path))
    }

    /// Removes a certificate with its key. A certificate that is not there is no error.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn remove(&self, kind: &str, name: &str) -> Result<(), CertsError> {
        let path = self.path(kind, name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(CertsError::File(path, error)),
            _ => Ok(()),
        }
    }

    /// The text of another file of the store, such as that of an account; none if there is no such file.
    pub(crate) fn read(&self, path: &Path) -> Result<Option<String>, CertsError> {
        match fs::read_to_string(path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(CertsError::File(path.to_owned(), error)),
        }
    }

    /// Replaces another file of the store.
    pub(crate) fn write(&self, path: &Path, text: &str) -> Result<(), CertsError> {
        replace(path, text).map_err(CertsError::file(path))
    }

    /// The file of a certificate. A name of a host has no character that is special in names of files; `*` becomes `_`.
    pub fn path(&self, kind: &str, name: &str) -> PathBuf {
        let safe = |character: char| match character {
            'a'..='z' | '0'..='9' | '-' | '.' => character,
            _ => '_',
        };
        let name: String = name.chars().map(safe).collect();
        self.folder.join(kind).join(format!("{name}.pem"))
    }

    /// When the certificate with this name was last replaced; none if there is none.
    pub fn replaced_at(&self, kind: &str, name: &str) -> Option<SystemTime> {
        fs::metadata(self.path(kind, name)).and_then(|metadata| metadata.modified()).ok()
    }

    /// Asks the LoadX that use the store for another certificate for this name.
    ///
    /// # Errors
    /// When the file of the request cannot be written.
    pub fn ask_renewal(&self, name: &str) -> Result<(), CertsError> {
        let path = self.path(RENEWALS, name);
        replace(&path, "").map_err(CertsError::file(&path))
    }

    /// Whether there are requests of [`ask_renewal`](Self::ask_renewal).
    pub fn has_renewals(&self) -> bool {
        fs::read_dir(self.folder.join(RENEWALS)).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Takes the request of [`ask_renewal`](Self::ask_renewal), so that only one LoadX follows the request. Returns whether
    /// there was one.
    pub fn take_renewal(&self, name: &str) -> bool {
        fs::remove_file(self.path(RENEWALS, name)).is_ok()
    }

    /// Notes how many orders for a name have failed in a row, and when LoadX may try again: a restart must not ask the
    /// authority again at once. Without `failures` the note is removed.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn note_failures(&self, kind: &str, name: &str, failures: Option<(u32, SystemTime)>) -> Result<(), CertsError> {
        let path = self.failures_path(kind, name);
        let Some((count, next)) = failures else {
            // Without the file there is nothing to remove.
            let _ = fs::remove_file(path);
            return Ok(());
        };
        let seconds = next.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        replace(&path, &format!("{count} {seconds}\n")).map_err(CertsError::file(&path))
    }

    /// What [`note_failures`](Self::note_failures) noted.
    pub fn failures(&self, kind: &str, name: &str) -> Option<(u32, SystemTime)> {
        let text = fs::read_to_string(self.failures_path(kind, name)).ok()?;
        let (count, seconds) = text.trim().split_once(' ')?;
        Some((count.parse().ok()?, SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.parse().ok()?)))
    }

    fn failures_path(&self, kind: &str, name: &str) -> PathBuf {
        self.path(&format!("{kind}/failures"), name).with_extension("txt")
    }

    /// Puts an answer to an authority where the other LoadX of the store find the answer. `key`: the token or the name.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn give_answer(&self, key: &str, text: &str) -> Result<(), CertsError> {
        let path = self.answer_path(key);
        self.drop_old_answers();
        replace(&path, text).map_err(CertsError::file(&path))
    }

    /// The answer that some LoadX of the store gave.
    pub fn answer(&self, key: &str) -> Option<String> {
        fs::read_to_string(self.answer_path(key)).ok()
    }

    /// Removes an answer.
    pub fn withdraw_answer(&self, key: &str) {
        // Without the file there is nothing to remove.
        let _ = fs::remove_file(self.answer_path(key));
    }

    /// The hash keeps keys of strangers out of names of files.
    fn answer_path(&self, key: &str) -> PathBuf {
        let mut name = String::new();
        for byte in Sha256::digest(key.as_bytes()) {
            let _ = write!(name, "{byte:02x}");
        }
        self.folder.join(ANSWERS).join(name)
    }

    /// Removes answers that a LoadX left behind that ended without a warning.
    fn drop_old_answers(&self) {
        let Ok(entries) = fs::read_dir(self.folder.join(ANSWERS)) else { return };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let age = fs::metadata(&path).and_then(|metadata| metadata.modified()).ok();
            let age = age.and_then(|written| SystemTime::now().duration_since(written).ok());
            if age.is_some_and(|age| age > ANSWER_AGE_MAX) {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// The folders with certificates: one for each authority.
    ///
    /// # Errors
    /// When the folder of the store cannot be read.
    pub fn kinds(&self) -> Result<Vec<String>, CertsError> {
        let entries = fs::read_dir(&self.folder).map_err(CertsError::file(&self.folder))?;
        let folders = entries.filter_map(Result::ok).filter(|entry| entry.path().is_dir());
        let names = folders.filter_map(|entry| entry.file_name().into_string().ok());
        let mut kinds: Vec<String> =
            names.filter(|name| ![LOCKS, RENEWALS, ANSWERS].contains(&name.as_str())).collect();
        kinds.sort();
        Ok(kinds)
    }

    /// The names of the files of certificates in a folder of the store.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn list(&self, kind: &str) -> Result<Vec<PathBuf>, CertsError> {
        let folder = self.folder.join(kind);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(CertsError::File(folder, error)),
        };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let mut paths: Vec<PathBuf> =
            paths.filter(|path| path.extension().is_some_and(|extension| extension == "pem")).collect();
        paths.sort();
        Ok(paths)
    }
}

/// Replaces a file as a whole: a crash leaves the former text or the new text.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    make_folder(folder)?;
    let beside = path.with_extension("new");
    let mut file = private(&beside, true)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    // The name survives a power failure too.
    File::open(folder)?.sync_all()
}

fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Lets only this user into a folder: who may write there could put certificates and keys there.
fn close_to_others(folder: &Path) -> io::Result<()> {
    check_owner(folder)?;
    let permissions = fs::metadata(folder)?.permissions();
    if permissions.mode() & 0o077 != 0 {
        tracing::warn!("other users could enter {}; LoadX changes the permissions to 0700", folder.display());
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Refuses what another user has put there.
fn check_owner(path: &Path) -> io::Result<()> {
    let owner = fs::metadata(path)?.uid();
    if owner != rustix::process::geteuid().as_raw() && owner != 0 {
        return Err(io::Error::other(format!("the owner is another user (number {owner})")));
    }
    Ok(())
}

/// A file that only this user may read.
fn private(path: &Path, is_new: bool) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(is_new).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_within_the_folder() {
        let folder = tempfile::TempDir::new().unwrap();
        let store = Store::open(&folder.path().join("certs")).unwrap();
        for name in ["../../etc/passwd", "a/b", "*.example.com", "::1", "\0"] {
            assert_eq!(store.path("local", name).parent().unwrap(), store.folder().join("local"), "{name}");
        }
    }

    #[test]
    fn only_the_user_may_read() {
        let folder = tempfile::TempDir::new().unwrap();
        let store = Store::open(&folder.path().join("certs")).unwrap();
        let authority = crate::LocalAuthority::open(&store).unwrap();
        let bundle = authority.issue(&["localhost".into()]).unwrap();
        store.save("local", "localhost", &bundle).unwrap();
        assert_eq!(store.load("local", "localhost").unwrap().unwrap(), bundle);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(store.folder()), 0o700);
        assert_eq!(mode(&store.path("local", "localhost")), 0o600);
        assert_eq!(mode(&store.path("local", "authority")), 0o600);
        // A folder that others could enter is closed.
        fs::set_permissions(store.folder(), fs::Permissions::from_mode(0o777)).unwrap();
        Store::open(store.folder()).unwrap();
        assert_eq!(mode(store.folder()), 0o700);
    }
}
