//! The other programs of `loadx` that run beside a LoadX: the demo, test backends and the load generator.

use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::process::{Process, command};
use super::{LoadX, eventually, unused_ports};

/// A running `loadx demo`.
pub(crate) struct Demo {
    process: Process,
    stdout: PathBuf,
    _directory: TempDir,
}

impl Demo {
    pub(crate) fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let stdout = directory.path().join("stdout");
        let mut demo = command();
        demo.args(["demo", "--port", "0", "--backend-port", &unused_ports(3).to_string()]);
        let process = Process::start(demo, File::create(&stdout).unwrap());
        Demo { process, stdout, _directory: directory }
    }

    /// The standard output so far.
    pub(crate) fn stdout(&self) -> String {
        std::fs::read_to_string(&self.stdout).unwrap()
    }

    /// Sends Ctrl-C and waits for the end.
    pub(crate) fn interrupt(&mut self) -> ExitStatus {
        self.process.signal(rustix::process::Signal::INT);
        self.process.wait()
    }
}

/// A running `loadx backend`.
pub(crate) struct TestBackend {
    process: Process,
    name: String,
    pub(crate) address: SocketAddr,
}

impl TestBackend {
    pub(crate) fn start(name: &str) -> Self {
        Self::start_on(name, 0, &[])
    }

    pub(crate) fn start_on(name: &str, port: u16, arguments: &[&str]) -> Self {
        let mut backend = command();
        backend.args(["backend", "--host", "127.0.0.1", "--name", name, "--port", &port.to_string()]).args(arguments);
        let mut process = Process::start(backend, Stdio::null());
        let address = process.address();
        TestBackend { process, name: name.to_owned(), address }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// Kills the backend without a warning, like a crash.
    pub(crate) fn kill(&mut self) {
        self.process.child.kill().unwrap();
        self.process.child.wait().unwrap();
    }

    /// Starts the backend again on the same address.
    pub(crate) fn restart(&mut self) {
        let (name, port) = (self.name.clone(), self.address.port());
        eventually("the port is free again", || std::net::TcpListener::bind(("127.0.0.1", port)).ok());
        *self = Self::start_on(&name, port, &[]);
    }
}

impl LoadX {
    /// Starts a `loadx bench` against this LoadX.
    pub(crate) fn bench(&self, requests: u64, concurrency: usize, path: &str) -> Bench {
        let results = self.directory.path().join(format!("results-{requests}-{concurrency}.json"));
        let mut bench = command();
        bench
            .args(["bench", "-n", &requests.to_string(), "-c", &concurrency.to_string(), "--path", path])
            .args(["--url", &format!("http://{}", self.address), "-o"])
            .arg(&results);
        Bench { child: bench.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap(), results }
    }
}

/// A running `loadx bench`.
pub(crate) struct Bench {
    child: Child,
    results: PathBuf,
}

impl Bench {
    /// Waits for the end; returns the results.
    pub(crate) fn results(mut self) -> Value {
        eventually("the bench ends", || self.child.try_wait().unwrap());
        let mut said = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let results = std::fs::read_to_string(&self.results).unwrap_or_default();
        serde_json::from_str(&results).unwrap_or_else(|error| panic!("no results ({error}): {said}"))
    }
}
