//! Three backends, the second of which can be broken.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process};

use super::manner::Manner;
use crate::Trouble;

/// The longest time that a program may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// A network namespace that holds the second backend, so that its packets can vanish.
struct Hole {
    name: String,
}

/// The address of the second backend in its own network namespace, and the address of this side.
const HOLE: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(10, 99, 7, 2), Ipv4Addr::new(10, 99, 7, 1));

fn ip(arguments: &str) -> io::Result<()> {
    let status = Command::new("ip").args(arguments.split(' ')).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("ip {arguments} failed"))) }
}

impl Hole {
    fn new() -> io::Result<Hole> {
        let hole = Hole { name: format!("loadx-faults-{}", std::process::id()) };
        let (name, (far, near)) = (&hole.name, HOLE);
        ip(&format!("netns add {name}"))?;
        ip(&format!("link add faults0 type veth peer name faults1 netns {name}"))?;
        ip(&format!("addr add {near}/24 dev faults0"))?;
        ip("link set faults0 up")?;
        ip(&format!("-n {name} link set lo up"))?;
        ip(&format!("-n {name} link set faults1 up"))?;
        hole.open()?;
        // Without this, the system would find within seconds that nobody answers for the address.
        let output = Command::new("ip").args(["-n", name, "link", "show", "faults1"]).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let hardware = text.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap_or_default();
        ip(&format!("neigh replace {far} lladdr {hardware} dev faults0 nud permanent"))?;
        Ok(hole)
    }

    /// Lets packets through.
    fn open(&self) -> io::Result<()> {
        ip(&format!("-n {} addr add {}/24 dev faults1", self.name, HOLE.0))
    }

    /// Lets packets vanish.
    fn close(&self) -> io::Result<()> {
        ip(&format!("-n {} addr del {}/24 dev faults1", self.name, HOLE.0))
    }
}

impl Drop for Hole {
    fn drop(&mut self) {
        // The interface would leave some time after its namespace, and the next measurement needs its name.
        let _ = ip("link del faults0");
        let _ = ip(&format!("netns del {}", self.name));
    }
}

/// A backend process.
struct Backend {
    at: SocketAddr,
    file: PathBuf,
    /// The name of its network namespace, if it has one of its own.
    namespace: Option<String>,
    child: Child,
}

impl Backend {
    fn start(at: SocketAddr, file: PathBuf, namespace: Option<String>) -> io::Result<Backend> {
        let child = spawn(at, &file, namespace.as_deref())?;
        Ok(Backend { at, file, namespace, child })
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    fn start_again(&mut self) -> io::Result<()> {
        self.child = spawn(self.at, &self.file, self.namespace.as_deref())?;
        Ok(())
    }

    fn set(&mut self, manner: Manner) -> io::Result<()> {
        let input = self.child.stdin.as_mut().ok_or_else(|| io::Error::other("the backend has no input"))?;
        writeln!(input, "{}", manner.name())
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

fn spawn(at: SocketAddr, file: &Path, namespace: Option<&str>) -> io::Result<Child> {
    let me = std::env::current_exe()?;
    let mut command = match namespace {
        None => Command::new(me),
        Some(name) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", name]).arg(me);
            command
        }
    };
    command.arg("fault-backend").arg("--listen").arg(at.to_string()).arg("--file").arg(file);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()
}

/// The backends of one measurement.
pub(super) struct Stage {
    backends: Vec<Backend>,
    hole: Option<Hole>,
}

/// When a request reached a backend, since the epoch, and its X-Id if it has one.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    pub(super) at: Duration,
    pub(super) id: Option<u32>,
}

impl Stage {
    /// Starts three backends. `apart`: whether the second has a network of its own.
    pub(super) fn new(folder: &Path, apart: bool) -> Result<Stage, Trouble> {
        let hole = apart.then(Hole::new).transpose()?;
        let mut backends = Vec::new();
        for index in 0..3_u16 {
            let file = folder.join(format!("backend-{index}"));
            File::create(&file)?;
            let (address, namespace) = match (&hole, index) {
                (Some(hole), 1) => (HOLE.0, Some(hole.name.clone())),
                _ => (Ipv4Addr::new(127, 0, 0, 10 + index as u8), None),
            };
            backends.push(Backend::start(SocketAddr::from((address, 8_001)), file, namespace)?);
        }
        let stage = Stage { backends, hole };
        stage.addresses().iter().try_for_each(|at| wait_for(*at))?;
        Ok(stage)
    }

    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.backends.iter().map(|backend| backend.at).collect()
    }

    pub(super) fn kill(&mut self, index: usize) -> io::Result<()> {
        self.backends[index].kill()
    }

    pub(super) fn start_again(&mut self, index: usize) -> io::Result<()> {
        self.backends[index].start_again()
    }

    pub(super) fn signal(&self, index: usize, signal: Signal) -> io::Result<()> {
        self.backends[index].signal(signal)
    }

    pub(super) fn set(&mut self, index: usize, manner: Manner) -> io::Result<()> {
        self.backends[index].set(manner)
    }

    pub(super) fn set_vanishing(&self, vanish: bool) -> io::Result<()> {
        let hole = self.hole.as_ref().ok_or_else(|| io::Error::other("the backend has no network of its own"))?;
        if vanish { hole.close() } else { hole.open() }
    }

    /// The requests that reached a backend.
    pub(super) fn arrivals(&self, index: usize) -> io::Result<Vec<Arrival>> {
        let text = fs::read_to_string(&self.backends[index].file)?;
        let arrival = |line: &str| {
            let (at, id) = line.split_once(' ')?;
            Some(Arrival { at: Duration::from_micros(at.parse().ok()?), id: id.parse().ok() })
        };
        Ok(text.lines().filter_map(arrival).collect())
    }
}

/// Waits until a program accepts connections.
pub(super) fn wait_for(at: SocketAddr) -> Result<(), Trouble> {
    let began = Instant::now();
    while TcpStream::connect_timeout(&at, Duration::from_secs(1)).is_err() {
        if began.elapsed() > START_TIMEOUT {
            return Err(format!("nothing listens on {at}").into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The time since the epoch.
pub(super) fn since_epoch() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
