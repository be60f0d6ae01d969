//! The environment of measurements: the running backends, a folder, and a build of LoadX.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::case::Case;
use super::contender::{Contender, Setup, Variant};
use super::load::{Load, Manner, Work};
use super::origin;
use super::report::Sample;
use super::tls::Identity;
use super::wrk::{Counted, Pattern, wrk};
use crate::Trouble;
use crate::processes::{self, Process};

const PROXY_PROCESSOR: &str = "0";
pub(super) const LOAD_PROCESSOR: usize = 1;

/// The time of requests before the measurement of a turn.
const WARM_UP: Duration = Duration::from_millis(500);

/// The longest time that a program may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// The setup of a contender for a turn.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    pub(super) backends: usize,
    pub(super) workers: usize,
    pub(super) processors: &'static str,
}

impl Stage {
    /// Three backends, one worker, one processor.
    pub(super) const USUAL: Stage = Stage { backends: 3, workers: 1, processors: PROXY_PROCESSOR };
}

/// The environment of measurements.
pub(super) struct Lab {
    /// The port of the backend server; each address of the loopback network reaches this server, and so counts as a
    /// backend.
    port: u16,
    folder: tempfile::TempDir,
    loadx: PathBuf,
    before: Option<PathBuf>,
    alone: bool,
}

/// A running contender that reloads its config.
pub(super) struct Reloadable {
    pub(super) running: Running,
    /// The address of a listener that comes and goes.
    second: SocketAddr,
}

/// A running contender.
pub(super) struct Running {
    pub(super) process: Process,
    pub(super) address: SocketAddr,
    pub(super) took: Duration,
}

impl Lab {
    pub(super) fn prepare(before: Option<PathBuf>, alone: bool) -> Result<Lab, Trouble> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        std::thread::Builder::new().name("origin".to_owned()).spawn(move || {
            if let Err(error) = processes::pin(LOAD_PROCESSOR).and_then(|()| origin::serve(listener)) {
                eprintln!("the backends failed: {error}");
                std::process::exit(2);
            }
        })?;
        let loadx = std::env::current_exe()?.with_file_name("loadx");
        Ok(Lab { port, folder: tempfile::tempdir()?, loadx, before, alone })
    }

    /// LoadX, the other build of LoadX if there is one, and `peers`.
    pub(super) fn contenders(&self, peers: &[Contender]) -> Vec<Contender> {
        let mut contenders = vec![self.loadx()];
        contenders.extend(self.before.clone().map(|binary| Contender::LoadX("LoadX before".to_owned(), binary)));
        contenders.extend(peers.iter().filter(|_| !self.alone).cloned());
        contenders
    }

    pub(super) fn loadx(&self) -> Contender {
        Contender::LoadX("LoadX".to_owned(), self.loadx.clone())
    }

    /// Starts a contender, and waits until it answers requests.
    pub(super) fn start(&self, contender: &Contender, stage: &Stage, log: bool) -> Result<Running, Trouble> {
        let address = free_address()?;
        let backends: Vec<SocketAddr> = (0..stage.backends).map(|number| self.backend(number)).collect();
        let setup = Setup {
            listen: address,
            backends: &backends,
            log,
            workers: stage.workers,
            variant: None,
            tls: None,
            clear_h2: false,
            h2_backends: false,
            folder: self.folder.path(),
        };
        self.launch(contender, &setup, stage)
    }

    /// Starts a contender whose clients connect with TLS, and waits until it answers requests.
    pub(super) fn start_tls(
        &self,
        contender: &Contender,
        stage: &Stage,
        identity: &Identity,
    ) -> Result<Running, Trouble> {
        let address = free_address()?;
        let backends: Vec<SocketAddr> = (0..stage.backends).map(|number| self.backend(number)).collect();
        let (workers, folder) = (stage.workers, self.folder.path());
        let tls = Some(&*identity.pem);
        let setup = Setup {
            listen: address,
            backends: &backends,
            log: false,
            workers,
            variant: None,
            tls,
            clear_h2: false,
            h2_backends: false,
            folder,
        };
        let command = contender.command(&setup)?;
        let began = Instant::now();
        let process = Process::start(&command, stage.processors)?;
        let serving = identity.wait_until_serving(address);
        serving.map_err(|error| format!("{} does not serve: {error}", contender.name()))?;
        Ok(Running { process, address, took: began.elapsed() })
    }

    /// Starts a contender whose clients speak HTTP/2 in clear text; with these backends of HTTP/2, or with the usual ones. Waits until
    /// it accepts connections.
    pub(super) fn start_clear_h2(
        &self,
        contender: &Contender,
        stage: &Stage,
        h2_backends: Option<&[SocketAddr]>,
    ) -> Result<Running, Trouble> {
        self.start_clear(contender, stage, true, h2_backends)
    }

    /// Starts a contender in clear text. `h2_clients`: whether its clients speak HTTP/2; `h2_backends`: backends that speak HTTP/2,
    /// in place of the usual ones.
    pub(super) fn start_clear(
        &self,
        contender: &Contender,
        stage: &Stage,
        h2_clients: bool,
        h2_backends: Option<&[SocketAddr]>,
    ) -> Result<Running, Trouble> {
        let address = free_address()?;
        let usual: Vec<SocketAddr> = (0..stage.backends).map(|number| self.backend(number)).collect();
        let setup = Setup {
            listen: address,
            backends: h2_backends.unwrap_or(&usual),
            log: false,
            workers: stage.workers,
            variant: None,
            tls: None,
            clear_h2: h2_clients,
            h2_backends: h2_backends.is_some(),
            folder: self.folder.path(),
        };
        let command = contender.command(&setup)?;
        let began = Instant::now();
        let process = Process::start(&command, stage.processors)?;
        wait_until_accepting(address).map_err(|error| format!("{} does not serve: {error}", contender.name()))?;
        Ok(Running { process, address, took: began.elapsed() })
    }

    /// Starts a server of HTTP/2 in clear text (nginx) with the pages of the usual backends, on the processor of the load.
    pub(super) fn start_h2_origin(&self) -> Result<Running, Trouble> {
        let (address, folder) = (free_address()?, self.folder.path().join("h2-origin"));
        let bytes = folder.join("bytes");
        std::fs::create_dir_all(&bytes)?;
        std::fs::write(bytes.join("1048576"), vec![b'x'; 1_048_576])?;
        let config = format!(
            "daemon off; worker_processes 1; pid nginx.pid; error_log error.log; events {{ worker_connections 4096; }}\n\
             http {{ access_log off; keepalive_requests 1000000000;\n  server {{ listen {address} http2; root {};\n    \
             location = / {{ return 200 \"Hello, World!\"; }} location = /health {{ return 200; }} }} }}\n",
            folder.display()
        );
        std::fs::write(folder.join("nginx.conf"), config)?;
        let mut command = std::process::Command::new("nginx");
        command.arg("-p").arg(&folder).arg("-c").arg(folder.join("nginx.conf"));
        let began = Instant::now();
        let process = Process::start(&command, &LOAD_PROCESSOR.to_string())?;
        wait_until_accepting(address)?;
        Ok(Running { process, address, took: began.elapsed() })
    }

    /// Starts LoadX with the config that `write` writes to [`Lab::config_file`] for number 0 and a free address, on which
    /// clients connect with TLS.
    pub(super) fn start_tls_with(
        &self,
        write: &dyn Fn(u32, SocketAddr) -> Result<(), Trouble>,
        stage: &Stage,
        identity: &Identity,
    ) -> Result<Running, Trouble> {
        let address = free_address()?;
        write(0, address)?;
        let began = Instant::now();
        let process = Process::start(&self.own_command(), stage.processors)?;
        let serving = identity.wait_until_serving(address);
        serving.map_err(|error| format!("LoadX does not serve: {error}"))?;
        Ok(Running { process, address, took: began.elapsed() })
    }

    /// The command that starts LoadX with [`Lab::config_file`].
    fn own_command(&self) -> std::process::Command {
        let mut command = std::process::Command::new(&self.loadx);
        command.args(["run", "--config"]).arg(self.config_file());
        command.arg("--admin").arg(self.folder.path().join("admin.sock"));
        command.arg("--state").arg(self.folder.path().join("state.json"));
        command
    }

    /// The path of a file in the folder of the measurements.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts a contender that reloads its config. The caller changes the config with [`Lab::reload`].
    pub(super) fn start_reloadable(&self, contender: &Contender, stage: &Stage) -> Result<Reloadable, Trouble> {
        let (address, second) = (free_address()?, free_address()?);
        let backends: Vec<SocketAddr> = (0..stage.backends).map(|number| self.backend(number)).collect();
        let setup = self.reloadable(address, &backends, stage, Variant { number: 0, second });
        Ok(Reloadable { running: self.launch(contender, &setup, stage)?, second })
    }

    /// Has a running contender read another config: two or three backends, other weights and routes, and a second listener
    /// that comes and goes.
    pub(super) fn reload(
        &self,
        contender: &Contender,
        running: &Reloadable,
        stage: &Stage,
        number: u32,
    ) -> Result<(), Trouble> {
        let count = if number.is_multiple_of(2) { 2 } else { 3 };
        let backends: Vec<SocketAddr> = (0..count).map(|number| self.backend(number)).collect();
        let variant = Variant { number, second: running.second };
        contender.command(&self.reloadable(running.running.address, &backends, stage, variant))?;
        Ok(contender.reload(&running.running.process, self.folder.path())?)
    }

    fn reloadable<'s>(
        &'s self,
        listen: SocketAddr,
        backends: &'s [SocketAddr],
        stage: &Stage,
        variant: Variant,
    ) -> Setup<'s> {
        let folder = self.folder.path();
        Setup {
            listen,
            backends,
            log: false,
            workers: stage.workers,
            variant: Some(variant),
            tls: None,
            clear_h2: false,
            h2_backends: false,
            folder,
        }
    }

    /// The config file of a LoadX that was started by [`Lab::start_with`].
    pub(super) fn config_file(&self) -> PathBuf {
        self.folder.path().join("own.json")
    }

    /// Starts LoadX with the config that `write` writes to [`Lab::config_file`] for number 0 and a free address.
    pub(super) fn start_with(
        &self,
        write: &dyn Fn(u32, SocketAddr) -> Result<(), Trouble>,
        stage: &Stage,
    ) -> Result<Running, Trouble> {
        let address = free_address()?;
        write(0, address)?;
        let began = Instant::now();
        let process = Process::start(&self.own_command(), stage.processors)?;
        wait_until_serving(address).map_err(|error| format!("LoadX does not serve: {error}"))?;
        Ok(Running { process, address, took: began.elapsed() })
    }

    /// Runs `loadx ctl` against the LoadX that was started last. Returns its output.
    pub(super) fn ctl(&self, arguments: &[&str]) -> Result<String, Trouble> {
        let mut command = std::process::Command::new(&self.loadx);
        let output =
            command.args(["ctl", "--socket"]).arg(self.folder.path().join("admin.sock")).args(arguments).output()?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(format!("loadx ctl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr)).into()),
        }
    }

    /// The address of the first backend, as a config names it.
    pub(super) fn first_backend(&self) -> String {
        self.backend(0).to_string()
    }

    fn launch(&self, contender: &Contender, setup: &Setup<'_>, stage: &Stage) -> Result<Running, Trouble> {
        let address = setup.listen;
        let command = contender.command(setup)?;
        let began = Instant::now();
        let process = Process::start(&command, stage.processors)?;
        wait_until_serving(address).map_err(|error| format!("{} does not serve: {error}", contender.name()))?;
        Ok(Running { process, address, took: began.elapsed() })
    }

    pub(super) fn backend(&self, number: usize) -> SocketAddr {
        let [_, _, high, low] = (number as u32 + 1).to_be_bytes();
        SocketAddr::from(([127, 1, high, low], self.port))
    }

    /// Runs one turn: measures the cost of a request and the number of requests.
    pub(super) fn turn(
        &self,
        case: &Case,
        contender: &Contender,
        stage: &Stage,
        span: Duration,
    ) -> Result<Sample, Trouble> {
        let running = self.start(contender, stage, case.log)?;
        let load = Load::start(work(case, running.address)?, LOAD_PROCESSOR)?;
        // Waits until each backend has been probed and connected to once.
        std::thread::sleep(WARM_UP + Duration::from_micros(400) * stage.backends as u32);
        let counted = load.counted();
        let (used, done, began) = (running.process.used(), counted.done(), Instant::now());
        std::thread::sleep(span);
        let (used, done, took) = (running.process.used().since(used), counted.done() - done, began.elapsed());
        let sample = Sample::new(used, done, took, counted.errors());
        let resident = running.process.resident();
        load.stop()?;
        Ok(Sample { resident, ..sample })
    }

    /// Runs one turn under wrk.
    pub(super) fn turn_of_wrk(
        &self,
        case: &Case,
        contender: &Contender,
        pattern: &Pattern,
        span: Duration,
    ) -> Result<Sample, Trouble> {
        let running = self.start(contender, &Stage::USUAL, case.log)?;
        let load = |span| wrk("http", running.address, case.target, pattern, span);
        // Opens the connections to the backends.
        load(WARM_UP)?;
        let (used, began) = (running.process.used(), Instant::now());
        let Counted { done, errors } = load(span)?;
        Ok(Sample::new(running.process.used().since(used), done, began.elapsed(), errors))
    }

    /// Measures how often a request makes each system call.
    pub(super) fn traced_turn(&self, case: &Case, contender: &Contender) -> Result<Vec<(String, f64)>, Trouble> {
        let running = self.start(contender, &Stage::USUAL, case.log)?;
        // strace is attached from before the first request until after the last, so that every call belongs to a
        // counted request.
        let work = work(case, running.address)?;
        let (done, calls) = running.process.trace(|| {
            let load = Load::start(work, LOAD_PROCESSOR)?;
            std::thread::sleep(Duration::from_secs(2));
            let counted = load.counted();
            load.stop()?;
            Ok(counted.done())
        })?;
        Ok(calls.into_iter().map(|(name, count)| (name, count as f64 / done.max(1) as f64)).collect())
    }

    /// Measures response times, in microseconds. The load has the manner of the case.
    pub(super) fn timed_turn(
        &self,
        case: &Case,
        contender: &Contender,
        span: Duration,
    ) -> Result<(Sample, Histogram<u64>), Trouble> {
        let running = self.start(contender, &Stage::USUAL, case.log)?;
        let load = Load::start(work(case, running.address)?, LOAD_PROCESSOR)?;
        std::thread::sleep(WARM_UP);
        let counted = load.counted();
        load.record();
        let (used, done, began) = (running.process.used(), counted.done(), Instant::now());
        std::thread::sleep(span);
        let (used, done, took) = (running.process.used().since(used), counted.done() - done, began.elapsed());
        let sample = Sample::new(used, done, took, counted.errors());
        Ok((sample, load.stop()?))
    }

    /// Measures the memory that a contender holds for each of `connections` connections that sent one request and are
    /// idle, in bytes.
    pub(super) fn idle_turn(&self, case: &Case, contender: &Contender, connections: usize) -> Result<f64, Trouble> {
        let running = self.start(contender, &Stage::USUAL, case.log)?;
        // Excludes the memory that the first requests allocate once.
        let few = Work { connections: 64, manner: Manner::Closed, ..work(case, running.address)? };
        let load = Load::start(few, LOAD_PROCESSOR)?;
        std::thread::sleep(WARM_UP);
        load.stop()?;
        std::thread::sleep(WARM_UP);
        let before = running.process.resident();
        let held = Work { connections, manner: Manner::Hold, ..work(case, running.address)? };
        let load = Load::start(held, LOAD_PROCESSOR)?;
        let (counted, began) = (load.counted(), Instant::now());
        while counted.done() < connections as u64 && began.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(20));
        }
        // Long enough for programs that free memory after a delay.
        std::thread::sleep(Duration::from_secs(2));
        let after = running.process.resident();
        let done = counted.done();
        load.stop()?;
        if done < connections as u64 {
            return Err(format!("{} served {done} of {connections} connections", contender.name()).into());
        }
        Ok((after as f64 - before as f64) / connections as f64)
    }
}

pub(super) fn work(case: &Case, target: SocketAddr) -> Result<Work, Trouble> {
    let content_bytes = origin::content_bytes(case.target).ok_or("a case requests an unknown page")?;
    Ok(Work {
        target,
        connections: case.connections,
        head: case.head(),
        upload_bytes: case.upload_bytes(),
        content_bytes,
        manner: case.manner,
    })
}

/// An unused address on loopback.
fn free_address() -> io::Result<SocketAddr> {
    std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// Waits until a connection can be opened.
fn wait_until_accepting(address: SocketAddr) -> io::Result<()> {
    let began = Instant::now();
    loop {
        let outcome = TcpStream::connect(address).map(drop);
        if outcome.is_ok() || began.elapsed() > START_TIMEOUT {
            // Time for the first probe, which needs no answer.
            std::thread::sleep(Duration::from_millis(300));
            return outcome;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until a request is answered with 200.
fn wait_until_serving(address: SocketAddr) -> io::Result<()> {
    let began = Instant::now();
    loop {
        let outcome = ask(address);
        if outcome.is_ok() || began.elapsed() > START_TIMEOUT {
            return outcome;
        }
        std::thread::sleep(Duration::from_micros(200));
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
