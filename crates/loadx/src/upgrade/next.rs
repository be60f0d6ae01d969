//! The side of the process that goes.

use std::ffi::OsString;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::channel::Channel;
use super::{Answer, LetGo, Offer, START_MAX, VARIABLE};

/// How this LoadX was started.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// The path of the binary, as it was at the start: a package that replaces the binary puts the new one there.
    binary: Result<PathBuf, String>,
    arguments: Vec<OsString>,
}

impl Program {
    /// This process.
    pub(crate) fn this() -> Self {
        Program {
            binary: std::env::current_exe().map_err(|error| format!("the path of the binary is not known: {error}")),
            arguments: std::env::args_os().skip(1).collect(),
        }
    }

    fn command(&self, binary: Option<PathBuf>) -> Result<Command, String> {
        let binary = binary.map_or_else(|| self.binary.clone(), Ok)?;
        let mut command = Command::new(binary);
        command.args(&self.arguments).env(VARIABLE, "1");
        // These are for the process with the id of this one.
        for variable in ["WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
            command.env_remove(variable);
        }
        Ok(command)
    }
}

/// The process that has taken over.
#[derive(Debug)]
pub(crate) struct Next {
    channel: Channel,
    child: Child,
    version: String,
}

impl Next {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Tells the new process that this one accepts no more clients.
    pub(crate) fn let_go(mut self) {
        // The new process goes on without the message, too.
        let _ = self.channel.send(&LetGo);
    }
}

/// Starts the new process, gives the sockets, and waits until the new process serves. Blocks.
///
/// # Errors
/// Why the new process does not serve. The new process has ended then.
pub(crate) fn begin(
    program: &Program,
    binary: Option<PathBuf>,
    offer: &Offer,
    sockets: &[OwnedFd],
    admin_sockets: &[TcpListener],
) -> Result<Next, String> {
    let mut command = program.command(binary)?;
    let shown = command.get_program().to_string_lossy().into_owned();
    let (near, far) = UnixStream::pair().map_err(|error| format!("no connection to the new process: {error}"))?;
    let started = command.stdin(Stdio::from(OwnedFd::from(far))).spawn();
    // The command holds the other end of the connection, whose end tells that the new process has ended.
    drop(command);
    let mut child = started.map_err(|error| format!("cannot start {shown}: {error}"))?;
    let mut channel = Channel::new(near);
    let descriptors: Vec<BorrowedFd<'_>> =
        sockets.iter().map(|socket| socket.as_fd()).chain(admin_sockets.iter().map(|socket| socket.as_fd())).collect();
    let answer = give(&mut channel, offer, &descriptors);
    let reason = match answer {
        Ok(Answer::Serving { version }) => return Ok(Next { channel, child, version }),
        Ok(Answer::Failed(reason)) => reason,
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                format!("{shown} did not serve within {} s", START_MAX.as_secs())
            }
            io::ErrorKind::InvalidData => {
                format!("{shown} does not answer as a LoadX: is it one that knows this kind of upgrade?")
            }
            _ => format!("{shown} ended before it served"),
        },
    };
    // A process that hangs must not hold the sockets.
    let _ = child.kill();
    let _ = child.wait();
    Err(reason)
}

fn give(channel: &mut Channel, offer: &Offer, descriptors: &[BorrowedFd<'_>]) -> io::Result<Answer> {
    channel.limit(START_MAX)?;
    channel.send(offer)?;
    channel.send_descriptors(descriptors)?;
    channel.receive()
}
