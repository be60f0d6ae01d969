//! `loadx` as a process: commands that end, and a LoadX that serves.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Client, Response, eventually};

/// The exit status and the output of a command.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `loadx` with these arguments to its end, with a time limit: a command that accepts wrong arguments and serves
/// would block the test for ever.
pub(crate) fn loadx(arguments: &[&str]) -> Output {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("stdout");
    let mut command = command();
    command.args(arguments);
    let mut process = Process::start(command, File::create(&path).unwrap());
    let code = process.wait().code();
    let stderr = process.whole_log();
    Output { code, stdout: std::fs::read_to_string(&path).unwrap(), stderr }
}

/// A running command.
pub(crate) struct Started {
    child: Child,
    directory: TempDir,
}

/// Starts `loadx` with these arguments.
pub(crate) fn start(arguments: &[&str]) -> Started {
    let directory = TempDir::new().unwrap();
    let stdout = File::create(directory.path().join("stdout")).unwrap();
    Started { child: command().args(arguments).stdout(stdout).stderr(Stdio::piped()).spawn().unwrap(), directory }
}

impl Started {
    /// Sends the signal that Ctrl-C sends.
    pub(crate) fn interrupt(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    }

    fn stdout(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("stdout")).unwrap()
    }

    /// Whether standard output contains this text by now.
    pub(crate) fn has_said(&self, text: &str) -> bool {
        self.stdout().contains(text)
    }

    /// Waits for the end; returns the output.
    pub(crate) fn output(mut self) -> Output {
        let status = eventually("the command ends", || self.child.try_wait().unwrap());
        let (stdout, mut stderr) = (self.stdout(), String::new());
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        Output { code: status.code(), stdout, stderr }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadx"));
    command.stdin(Stdio::null()).env("NO_COLOR", "1");
    command
}

/// A process whose standard error is read continuously. Dropping it kills the process.
pub(super) struct Process {
    pub(super) child: Child,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Process {
    pub(super) fn start(mut command: Command, stdout: impl Into<Stdio>) -> Self {
        let mut child = command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::<Mutex<String>>::default();
        let stderr = child.stderr.take().unwrap();
        let shared = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            let mut reader = BufReader::new(stderr);
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|count| count > 0) {
                shared.lock().unwrap().push_str(&line);
                line.clear();
            }
        });
        Process { child, log, reader: Some(reader) }
    }

    /// The whole of standard error, after the end of the process.
    fn whole_log(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        self.log()
    }

    fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub(super) fn address(&mut self) -> SocketAddr {
        let found = eventually("the process listens", || {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(Err(status));
            }
            let log = self.log();
            let (_, rest) = log.split_once("listening on http")?;
            let (line, _) = rest.split_once('\n')?;
            Some(Ok(line.trim_start_matches("s").trim_start_matches("://").parse().unwrap()))
        });
        found.unwrap_or_else(|status| panic!("the process ended with {status}: {}", self.log()))
    }

    fn wait_for_log(&self, text: &str) {
        eventually(&format!("the log says {text:?}"), || self.log().contains(text).then_some(()));
    }

    pub(super) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub(super) fn wait(&mut self) -> ExitStatus {
        eventually("the process ends", || self.child.try_wait().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process of this test, if the process still runs.
pub(crate) fn signal_to(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    let _ = rustix::process::kill_process(pid, signal);
}

/// A running LoadX.
pub(crate) struct LoadX {
    process: Process,
    pub(super) directory: TempDir,
    pub(crate) address: SocketAddr,
    /// The processes that took over.
    successors: Vec<u32>,
}

impl LoadX {
    /// Starts LoadX in front of `backends`, on a free port.
    pub(crate) fn before(backends: &[SocketAddr]) -> Self {
        Self::with(backends, &json!({}))
    }

    /// Starts LoadX in front of `backends`, with further settings.
    pub(crate) fn with(backends: &[SocketAddr], settings: &Value) -> Self {
        let backends: Vec<Value> =
            backends.iter().map(|at| json!({ "host": at.ip().to_string(), "port": at.port() })).collect();
        let mut config = json!({ "proxy_port": 0, "proxy_host": "127.0.0.1", "backend_servers": backends });
        config.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        Self::of(&config)
    }

    /// Starts LoadX with this config; `LOG` in it means a file in a temporary folder.
    pub(crate) fn of(config: &Value) -> Self {
        Self::of_with(config, &[])
    }

    /// The same, with further options of `loadx run`.
    pub(crate) fn of_with(config: &Value, options: &[&str]) -> Self {
        Self::of_within(config, options, &[])
    }

    /// The same, with further variables of the environment.
    pub(crate) fn of_within(config: &Value, options: &[&str], variables: &[(&str, &str)]) -> Self {
        let directory = TempDir::new().unwrap();
        let log = directory.path().join("access.log");
        let text = config.to_string().replace("LOG", log.to_str().unwrap());
        let path = directory.path().join("config.json");
        std::fs::write(&path, text).unwrap();
        let options = [&["--verbose", "--config", path.to_str().unwrap()], options].concat();
        Self::start(directory, &options, variables)
    }

    /// Starts LoadX again, with the same config file and the same state.
    pub(crate) fn restart(&mut self) {
        self.kill();
        let config = self.config_path();
        let mut run = command();
        run.args(["run", "--verbose", "--config"]).arg(config);
        run.arg("--admin").arg(self.socket()).arg("--state").arg(self.state_path());
        self.process = Process::start(run, File::create(self.directory.path().join("stdout")).unwrap());
        self.address = self.process.address();
        self.process.wait_for_log("the admin API is on");
    }

    /// Has a new process take over; returns its id.
    pub(crate) fn upgrade(&mut self) -> u32 {
        let upgraded = self.ctl_json(&["upgrade"]);
        self.note_successor(upgraded["pid"].as_u64().unwrap() as u32);
        *self.successors.last().unwrap()
    }

    /// Has the end of the test end this process, too.
    pub(crate) fn note_successor(&mut self, pid: u32) {
        self.successors.push(pid);
    }

    /// The id of the process that was started first.
    pub(crate) fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// Kills LoadX without a warning, like a crash.
    pub(crate) fn kill(&mut self) {
        self.process.child.kill().unwrap();
        self.process.child.wait().unwrap();
    }

    /// Runs `loadx ctl` with these arguments against this LoadX.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> Output {
        loadx(&[&["ctl", "--socket", self.socket().to_str().unwrap()], arguments].concat())
    }

    /// The answer of `loadx ctl` as JSON.
    pub(crate) fn ctl_json(&self, arguments: &[&str]) -> Value {
        let output = self.ctl(&[arguments, &["--json"]].concat());
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("not JSON ({error}): {output:?}"))
    }

    /// The socket of the admin API.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("admin.sock")
    }

    /// The file with what survives a restart.
    pub(crate) fn state_path(&self) -> PathBuf {
        self.directory.path().join("state.json")
    }

    /// Writes a file beside the config file.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Writes another config and has LoadX read it; what LoadX's log says of it. `LOG` is as in [`of`](Self::of).
    pub(crate) fn reload(&self, config: &Value) -> String {
        self.reload_text(&config.to_string())
    }

    /// The same, with a text that need not be a config.
    pub(crate) fn reload_text(&self, text: &str) -> String {
        let text = text.replace("LOG", self.access_log_path().to_str().unwrap());
        std::fs::write(self.config_path(), text).unwrap();
        let before = self.log().len();
        self.signal(rustix::process::Signal::HUP);
        eventually("the config is taken over or refused", || {
            let said = self.log()[before..].to_owned();
            let done = ["the config is applied", "the config is not applied"].iter().any(|end| said.contains(end));
            done.then_some(said)
        })
    }

    /// Starts LoadX with these options of `loadx run`.
    pub(crate) fn run(options: &[&str]) -> Self {
        Self::start(TempDir::new().unwrap(), options, &[])
    }

    fn start(directory: TempDir, options: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut run = command();
        run.arg("run").args(options).envs(variables.iter().copied());
        if !options.contains(&"--admin") {
            run.arg("--admin").arg(directory.path().join("admin.sock"));
        }
        if !options.contains(&"--to") {
            run.arg("--state").arg(directory.path().join("state.json"));
        }
        let mut process = Process::start(run, File::create(directory.path().join("stdout")).unwrap());
        let address = process.address();
        assert_ne!(address.port(), 8080, "two tests with the default port would disturb each other: listen on port 0");
        if !options.contains(&"off") {
            process.wait_for_log("the admin API is on");
        }
        LoadX { process, directory, address, successors: Vec::new() }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// The addresses on which LoadX listens, in the order of the config.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        // The line about the workers follows the lines about the addresses.
        self.wait_for_log("worker");
        let log = self.log();
        let addresses = log.lines().filter_map(|line| line.split_once("listening on http"));
        addresses.filter_map(|(_, url)| url.split_once("://")?.1.trim().parse().ok()).collect()
    }

    /// Sends a GET on a new connection.
    pub(crate) fn get(&self, path: &str) -> Response {
        self.client().get(path).response()
    }

    pub(crate) fn status(&self) -> Value {
        self.get("/__status__").json()
    }

    pub(crate) fn metrics(&self) -> Value {
        self.get("/__metrics__").json()
    }

    /// Waits until `count` backends are up after a probe.
    pub(crate) fn wait_for_healthy(&self, count: usize) {
        eventually(&format!("{count} backends are healthy"), || {
            let status = self.status();
            let backends = status["backends"].as_array().unwrap();
            let proven = backends.iter().all(|backend| backend["state"] != "unproven");
            (proven && status["healthy_backends"] == count).then_some(())
        });
    }

    /// The log of events so far.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// Waits until the log of events contains this text: the log arrives through a pipe, later than the events.
    pub(crate) fn wait_for_log(&self, text: &str) {
        self.process.wait_for_log(text);
    }

    pub(crate) fn access_log(&self) -> String {
        std::fs::read_to_string(self.access_log_path()).unwrap_or_default()
    }

    /// The standard output so far.
    pub(crate) fn stdout(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("stdout")).unwrap()
    }

    pub(crate) fn access_log_path(&self) -> PathBuf {
        self.directory.path().join("access.log")
    }

    pub(crate) fn config_path(&self) -> PathBuf {
        self.directory.path().join("config.json")
    }

    pub(crate) fn terminate(&self) {
        self.process.signal(rustix::process::Signal::TERM);
    }

    pub(crate) fn interrupt(&self) {
        self.process.signal(rustix::process::Signal::INT);
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        self.process.signal(signal);
    }

    /// The exit status, if the process has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.process.child.try_wait().unwrap()
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.process.wait()
    }

    /// The peak memory of the process, in KiB.
    pub(crate) fn peak_memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for LoadX {
    fn drop(&mut self) {
        for pid in &self.successors {
            signal_to(*pid, rustix::process::Signal::KILL);
        }
        let log = self.log();
        if !std::thread::panicking() {
            assert!(!log.contains("panicked"), "LoadX panicked:\n{log}");
        } else {
            eprintln!("LoadX said:\n{log}");
        }
    }
}
