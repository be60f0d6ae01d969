//! `cargo xtask peers`: LoadX, nginx, HAProxy and bare relays, in turn, under the same load in one run.
//!
//! Whatever is measured has one processor to itself; the load and the backends share another. All of it runs
//! in a network namespace of its own, where no packet filter of the machine has a say.

mod case;
mod contender;
mod floor;
mod load;
mod origin;
mod processes;
mod report;

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use clap::Args;

use crate::Trouble;
use case::Case;
use contender::{Contender, Setup};
pub(crate) use floor::{FloorArguments, run as floor};
use load::{Load, Work};
use processes::Process;
use report::{Column, Comparison, Sample};

/// What can be typed after `cargo xtask peers`.
#[derive(Debug, Args)]
pub(crate) struct PeersArguments {
    /// Only these cases; without it, all of them
    #[arg(long, value_name = "CASE", value_delimiter = ',')]
    only: Vec<String>,
    /// How often each contender has its turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds that each turn is measured
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Another build of LoadX to measure beside this one
    #[arg(long, value_name = "BINARY")]
    before: Option<PathBuf>,
    /// Also count the system calls of a request; strace is needed, and slows everything down
    #[arg(long)]
    calls: bool,
    /// LoadX alone, without peers
    #[arg(long)]
    alone: bool,
    /// Set once the run is in a network of its own
    #[arg(long, hide = true)]
    inside: bool,
}

const PROXY_PROCESSOR: usize = 0;
const LOAD_PROCESSOR: usize = 1;

/// Requests flow for so long before a turn is measured.
const WARM_UP: Duration = Duration::from_millis(500);

pub(crate) fn run(arguments: &PeersArguments) -> Result<(), Trouble> {
    if !arguments.inside {
        return enter_own_network();
    }
    let cases: Vec<Case> = case::all()
        .into_iter()
        .filter(|case| arguments.only.is_empty() || arguments.only.iter().any(|name| name == case.name))
        .collect();
    if cases.is_empty() {
        let names: Vec<_> = case::all().iter().map(|case| case.name).collect();
        return Err(format!("--only names no case; there are {}", names.join(", ")).into());
    }
    let lab = Lab::prepare()?;
    print!("{}", report::HEADER);
    for case in &cases {
        let comparison = lab.compare(case, arguments)?;
        print!("{}{}", comparison.rows(), comparison.calls());
        io::stdout().flush()?;
    }
    Ok(())
}

/// Runs this command again where it has a loopback interface to itself.
fn enter_own_network() -> Result<(), Trouble> {
    let build = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
        .args(["build", "--release", "--package", "loadx"])
        .status()?;
    if !build.success() {
        return Err("LoadX does not build".into());
    }
    missing_packages()?;
    let mut again = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        again.args(["--user", "--map-root-user"]);
    }
    let set_up = "cc=/proc/sys/net/ipv4/tcp_congestion_control; ulimit -n \"$(ulimit -Hn)\" && ip link set lo up && echo 1024 65535 >/proc/sys/net/ipv4/ip_local_port_range && { echo cubic >$cc || echo reno >$cc; } 2>/dev/null; exec \"$@\"";
    again.args(["--net", "sh", "-c", set_up, "sh"]).arg(std::env::current_exe()?);
    let status = again.args(std::env::args_os().skip(1)).arg("--inside").status()?;
    if status.success() { Ok(()) } else { Err("the measurement did not come to its end".into()) }
}

/// Nothing is installed from here; what is missing is named.
fn missing_packages() -> Result<(), Trouble> {
    let wanted = [
        ("nginx", "nginx"),
        ("haproxy", "haproxy"),
        ("strace", "strace"),
        ("taskset", "util-linux"),
        ("unshare", "util-linux"),
        ("ip", "iproute2"),
    ];
    let folders = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let is_there = |program: &str| folders.split(':').any(|folder| Path::new(folder).join(program).exists());
    let missing: Vec<_> =
        wanted.iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(format!("install these Debian packages first: {}", missing.join(" ")).into())
    }
}

/// Where measurements are made: the backends run, a folder is there, LoadX is built.
struct Lab {
    backends: Vec<SocketAddr>,
    folder: tempfile::TempDir,
    loadx: PathBuf,
}

impl Lab {
    fn prepare() -> Result<Lab, Trouble> {
        let (listeners, backends) = origin::listen(3)?;
        std::thread::Builder::new().name("origin".to_owned()).spawn(move || {
            if let Err(error) = processes::pin(LOAD_PROCESSOR).and_then(|()| origin::serve(listeners)) {
                eprintln!("the backends failed: {error}");
                std::process::exit(2);
            }
        })?;
        let loadx = std::env::current_exe()?.with_file_name("loadx");
        Ok(Lab { backends, folder: tempfile::tempdir()?, loadx })
    }

    fn compare(&self, case: &Case, arguments: &PeersArguments) -> Result<Comparison, Trouble> {
        let mut contenders = vec![Contender::LoadX("LoadX".to_owned(), self.loadx.clone())];
        if let Some(before) = &arguments.before {
            contenders.push(Contender::LoadX("LoadX before".to_owned(), before.clone()));
        }
        if !arguments.alone {
            contenders.extend(case.peers.iter().cloned());
        }
        let column = |contender: &Contender| Column { name: contender.name(), samples: Vec::new(), calls: Vec::new() };
        let mut columns: Vec<Column> = contenders.iter().map(column).collect();
        for _ in 0..arguments.rounds {
            for (contender, column) in contenders.iter().zip(&mut columns) {
                column.samples.push(self.turn(case, contender, Duration::from_secs_f64(arguments.seconds))?);
            }
        }
        if arguments.calls {
            for (contender, column) in contenders.iter().zip(&mut columns) {
                column.calls = self.traced_turn(case, contender)?;
            }
        }
        let budget = case.budget.iter().map(|(contender, most)| (contender.name(), *most)).collect();
        Ok(Comparison { case: case.name.to_owned(), about: case.about.to_owned(), columns, budget })
    }

    fn turn(&self, case: &Case, contender: &Contender, span: Duration) -> Result<Sample, Trouble> {
        let (process, listen) = self.start(case, contender)?;
        let load = Load::start(self.work(case, listen)?, LOAD_PROCESSOR)?;
        std::thread::sleep(WARM_UP);
        let counted = load.counted();
        let (used, done, began) = (process.used(), counted.done(), Instant::now());
        std::thread::sleep(span);
        let (used, done, took) = (process.used().since(used), counted.done() - done, began.elapsed());
        let errors = counted.errors();
        load.stop()?;
        let per_request = |seconds: f64| seconds * 1e6 / done.max(1) as f64;
        Ok(Sample {
            user_us: per_request(used.user),
            system_us: per_request(used.system),
            per_second: done as f64 / took.as_secs_f64(),
            errors,
        })
    }

    /// How often a request causes each system call.
    fn traced_turn(&self, case: &Case, contender: &Contender) -> Result<Vec<(String, f64)>, Trouble> {
        let (process, listen) = self.start(case, contender)?;
        // Attached before the first request and until the last: every call belongs to one that was counted.
        let work = self.work(case, listen)?;
        let (done, calls) = process.trace(|| {
            let load = Load::start(work, LOAD_PROCESSOR)?;
            std::thread::sleep(Duration::from_secs(2));
            let counted = load.counted();
            load.stop()?;
            Ok(counted.done())
        })?;
        Ok(calls.into_iter().map(|(name, count)| (name, count as f64 / done.max(1) as f64)).collect())
    }

    fn start(&self, case: &Case, contender: &Contender) -> Result<(Process, SocketAddr), Trouble> {
        let listen = free_address()?;
        let setup = Setup {
            listen,
            backends: &self.backends,
            log: case.log,
            workers: 1,
            folder: self.folder.path(),
            processors: &PROXY_PROCESSOR.to_string(),
        };
        let process = contender.start(&setup)?;
        wait_until_serving(listen).map_err(|error| format!("{} does not serve: {error}", contender.name()))?;
        Ok((process, listen))
    }

    fn work(&self, case: &Case, target: SocketAddr) -> Result<Work, Trouble> {
        let (_, content_bytes) =
            origin::content_bytes(case.target).ok_or("a case asks for a page that there is not")?;
        Ok(Work {
            target,
            connections: case.connections,
            head: case.head(),
            upload_bytes: case.upload_bytes(),
            content_bytes,
            manner: case.manner,
        })
    }
}

/// An address on loopback that nobody has at the moment.
fn free_address() -> io::Result<SocketAddr> {
    std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// Waits until a request is answered with 200.
fn wait_until_serving(address: SocketAddr) -> io::Result<()> {
    let began = Instant::now();
    loop {
        let outcome = ask(address);
        if outcome.is_ok() || began.elapsed() > Duration::from_secs(10) {
            return outcome;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

fn ask(address: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: app.example.com\r\nConnection: close\r\n\r\n")?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    if answer.ends_with(b" 200") {
        Ok(())
    } else {
        Err(io::Error::other(String::from_utf8_lossy(&answer).into_owned()))
    }
}
