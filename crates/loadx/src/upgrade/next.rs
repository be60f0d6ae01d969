//! The side of the process that goes.

use std::ffi::OsString;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::channel::Channel;
use super::link::SuccessorLink;
use super::{Answer, HELLO_MAX, Hello, LET_GO_MAX, LetGo, Offer, PROTOCOL, START_MAX, Settled, VARIABLE};

/// How this LoadX was started.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    binary: Result<PathBuf, String>,
    arguments: Vec<OsString>,
}

impl Program {
    /// This process. The path is the one that LoadX was started by, and not the file behind symbolic links: after an upgrade
    /// of a package the link leads to the new binary.
    pub(crate) fn this() -> Self {
        let mut arguments = std::env::args_os();
        let typed = arguments.next().map(PathBuf::from);
        // A name without a path is looked up in PATH again.
        let is_usable = |path: &PathBuf| path.components().count() == 1 || path.exists();
        let running =
            || std::env::current_exe().map_err(|error| format!("the path of the binary is not known: {error}"));
        Program { binary: typed.filter(is_usable).map_or_else(running, Ok), arguments: arguments.collect() }
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

/// The process that is being started, for a LoadX that stops meanwhile.
#[derive(Clone, Debug, Default)]
pub(crate) struct Starting(Arc<Mutex<Slot>>);

#[derive(Debug, Default)]
struct Slot {
    child: Option<Child>,
    /// Whether this LoadX stops, and starts nothing any more.
    is_closed: bool,
}

impl Starting {
    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the process that is being started, if there is one, and each one that would be started later.
    pub(crate) fn close(&self) {
        self.slot().is_closed = true;
        self.end();
    }

    fn end(&self) {
        let child = self.slot().child.take();
        if let Some(mut child) = child {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Notes the process. Ends the process at once if this LoadX stops.
    fn note(&self, child: Child) {
        let is_closed = {
            let mut slot = self.slot();
            slot.child = Some(child);
            slot.is_closed
        };
        if is_closed {
            self.end();
        }
    }

    /// Whether the process has ended, or ends within a moment.
    fn has_ended(&self) -> bool {
        let began = Instant::now();
        while began.elapsed() < ENDING_MAX {
            let is_running = self.slot().child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)));
            if !is_running {
                return true;
            }
            std::thread::sleep(ENDING_LOOK);
        }
        false
    }
}

/// How long a process whose connection has ended may take to end, and the time between two looks.
const ENDING_MAX: Duration = Duration::from_millis(500);
const ENDING_LOOK: Duration = Duration::from_millis(10);

/// A process that serves and waits for the former one to let go.
#[derive(Debug)]
pub(crate) struct Next {
    channel: Channel,
    starting: Starting,
    pid: u32,
    version: String,
}

impl Next {
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Lets the new process take the path of the admin socket, and waits until it has settled.
    ///
    /// # Errors
    /// When the new process ends before, or this LoadX stops.
    pub(crate) fn let_go(mut self) -> Result<SuccessorLink, String> {
        let mut settle = || -> io::Result<()> {
            self.channel.limit(LET_GO_MAX)?;
            self.channel.send(&LetGo)?;
            self.channel.receive::<Settled>().map(|Settled| ())
        };
        // A process that serves and is slow, or has given up the connection, must not be ended.
        if settle().is_err() && self.starting.has_ended() {
            self.starting.end();
            return Err("the new process ended while it took over".to_owned());
        }
        let Some(mut child) = self.starting.slot().child.take() else { return Err("this LoadX stops".to_owned()) };
        let reaping = std::thread::Builder::new().name("loadx-reaper".to_owned());
        // Without the thread, a new process that ends soon stays as a zombie until this one ends.
        let _ = reaping.spawn(move || child.wait());
        SuccessorLink::new(self.channel).map_err(|error| error.to_string())
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
    (sockets, admin_sockets): (&[OwnedFd], &[TcpListener]),
    starting: &Starting,
) -> Result<Next, String> {
    let mut command = program.command(binary)?;
    let shown = command.get_program().to_string_lossy().into_owned();
    let (near, far) = UnixStream::pair().map_err(|error| format!("no connection to the new process: {error}"))?;
    let started = command.stdin(Stdio::from(OwnedFd::from(far))).spawn();
    // The command holds the other end of the connection, whose end tells that the new process has ended.
    drop(command);
    let child = started.map_err(|error| format!("cannot start {shown}: {error}"))?;
    let pid = child.id();
    starting.note(child);
    let mut channel = Channel::new(near);
    let descriptors: Vec<BorrowedFd<'_>> =
        sockets.iter().map(|socket| socket.as_fd()).chain(admin_sockets.iter().map(|socket| socket.as_fd())).collect();
    let reason = match give(&mut channel, offer, &descriptors) {
        Ok((version, Answer::Serving)) => {
            return Ok(Next { channel, starting: starting.clone(), pid, version });
        }
        Ok((_, Answer::Failed(reason))) => reason,
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => format!("{shown} did not serve in time"),
            io::ErrorKind::InvalidData => {
                format!("{shown} does not answer as a LoadX: is it one that knows this kind of upgrade?")
            }
            _ => format!("{shown} ended before it served"),
        },
    };
    // A process that hangs must not stay.
    starting.end();
    Err(reason)
}

/// Returns the version of the new process and its answer.
fn give(channel: &mut Channel, offer: &Offer, descriptors: &[BorrowedFd<'_>]) -> io::Result<(String, Answer)> {
    channel.limit(HELLO_MAX)?;
    let Hello { protocol, version } = channel.receive()?;
    if protocol != PROTOCOL {
        let told = format!("LoadX {version} speaks version {protocol} of the upgrade, and this one version {PROTOCOL}");
        return Ok((version, Answer::Failed(told)));
    }
    channel.limit(START_MAX)?;
    channel.send(offer)?;
    channel.send_descriptors(descriptors)?;
    Ok((version, channel.receive()?))
}
