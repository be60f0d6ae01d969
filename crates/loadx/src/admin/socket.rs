//! The Unix socket of the admin API: where it is, how it is made, and how `loadx ctl` finds it.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

/// The most clients that wait to be accepted.
const BACKLOG: i32 = 64;

/// A socket that exists. Dropping it removes the path, unless another process has taken the path over.
#[derive(Debug)]
pub(crate) struct AdminPath {
    path: PathBuf,
    /// Device and inode of the socket.
    identity: (u64, u64),
}

impl Drop for AdminPath {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // The path is of no use any more, and the next start replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl AdminPath {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// A socket that accepts clients and does not have its path yet.
#[derive(Debug)]
pub(super) struct Bound {
    listener: UnixListener,
    /// The path until the socket gets its own.
    beside: PathBuf,
    path: PathBuf,
}

impl Bound {
    /// Gives the socket its path. A former socket there is replaced at once: no client meets no socket.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn name(self) -> io::Result<(UnixListener, AdminPath)> {
        fs::rename(&self.beside, &self.path)?;
        let identity = identity(&self.path)?;
        Ok((self.listener.try_clone()?, AdminPath { path: self.path.clone(), identity }))
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        // Fails if the socket has got its path.
        let _ = fs::remove_file(&self.beside);
    }
}

/// Makes a socket for `path`, for this user alone. The socket will replace a socket that nobody serves any more;
/// `replaces_served`: also one that another process serves.
///
/// # Errors
/// When another process serves the path, when the path is no socket, or when the system refuses.
pub(super) fn bind(path: &Path, replaces_served: bool) -> io::Result<Bound> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the path exists and is no socket"));
        }
        Ok(_) if !replaces_served && UnixStream::connect(path).is_ok() => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another LoadX serves this socket"));
        }
        Ok(_) | Err(_) => {}
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let beside = path.with_file_name(name);
    // A former process with this id may have left one.
    let _ = fs::remove_file(&beside);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(&beside)?)?;
    let bound = Bound { listener: socket.try_clone()?.into(), beside, path: path.to_owned() };
    // Nobody can connect before the socket listens, so that the permissions hold from the beginning.
    fs::set_permissions(&bound.beside, fs::Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(bound)
}

/// The path of the socket of this process, in the first runtime directory that can be used.
pub(super) fn default_path() -> io::Result<PathBuf> {
    let mut last = io::ErrorKind::NotFound.into();
    for directory in directories() {
        match private(&directory) {
            Ok(()) => return Ok(directory.join(format!("{}.sock", std::process::id()))),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Makes sure that the directory exists and that only this user and root can put files there.
fn private(directory: &Path) -> io::Result<()> {
    if !directory.exists() {
        fs::DirBuilder::new().mode(0o700).recursive(true).create(directory)?;
    }
    if !is_trusted(directory) {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the runtime directory belongs to somebody else"));
    }
    rustix::fs::access(directory, rustix::fs::Access::WRITE_OK).map_err(io::Error::from)
}

/// Whether only this user and root can put files into the directory.
fn is_trusted(directory: &Path) -> bool {
    let user = rustix::process::geteuid().as_raw();
    fs::symlink_metadata(directory)
        .is_ok_and(|metadata| metadata.is_dir() && [user, 0].contains(&metadata.uid()) && metadata.mode() & 0o022 == 0)
}

/// The runtime directories, the best one first.
fn directories() -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let user = rustix::process::geteuid();
    let of_system = || PathBuf::from("/run/loadx");
    let mut directories: Vec<PathBuf> = variable("RUNTIME_DIRECTORY").into_iter().collect();
    if user.is_root() {
        directories.push(of_system());
    }
    directories.extend(variable("XDG_RUNTIME_DIR").map(|directory| directory.join("loadx")));
    directories.push(std::env::temp_dir().join(format!("loadx-{}", user.as_raw())));
    directories
}

/// The sockets that a LoadX serves, and the directories that were searched.
pub(crate) fn find() -> (Vec<PathBuf>, Vec<PathBuf>) {
    let mut searched = directories();
    if !searched.contains(&PathBuf::from("/run/loadx")) {
        searched.push("/run/loadx".into());
    }
    // In a directory of another user a stranger could wait for the config of an operator. That of the service belongs to the
    // user of the service, and only root makes directories in /run.
    let is_searched = |directory: &&PathBuf| is_trusted(directory) || directory.starts_with("/run/loadx");
    let trusted = searched.iter().filter(is_searched);
    let entries = trusted.filter_map(|directory| fs::read_dir(directory).ok()).flatten().flatten();
    let sockets = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "sock"));
    let mut served: Vec<PathBuf> = sockets.filter(|path| is_served(path)).collect();
    served.sort();
    served.dedup();
    (served, searched)
}

/// Whether a process serves the socket. A socket that this user may not use counts too, so that the user learns of it.
fn is_served(path: &Path) -> bool {
    match UnixStream::connect(path) {
        Ok(_) => true,
        Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
    }
}
