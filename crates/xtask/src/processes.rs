//! Measured processes: their processor, their CPU time, and their memory.

use std::fs;
use std::io;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mio::{Events, Poll};
use rustix::thread::{CpuSet, sched_setaffinity};

/// Binds the calling thread to one processor.
pub(crate) fn pin(processor: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(processor);
    Ok(sched_setaffinity(None, &set)?)
}

/// Waits for events; repeats the wait after a signal.
pub(crate) fn wait(poll: &mut Poll, events: &mut Events, limit: Option<Duration>) -> io::Result<()> {
    match poll.poll(events, limit) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            events.clear();
            Ok(())
        }
        outcome => outcome,
    }
}

/// The CPU time of processes, in seconds.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Used {
    pub(crate) user: f64,
    pub(crate) system: f64,
}

impl Used {
    pub(crate) fn since(self, before: Used) -> Used {
        Used { user: self.user - before.user, system: self.system - before.system }
    }
}

/// A started process and its children. Dropping it ends the processes.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts `command` on these processors.
    pub(crate) fn start(command: &Command, processors: &str) -> io::Result<Process> {
        let mut pinned = Command::new("taskset");
        pinned.arg("--cpu-list").arg(processors).arg(command.get_program()).args(command.get_args());
        pinned.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Process { child: pinned.spawn()? })
    }

    /// The process and its children: nginx has workers.
    fn pids(&self) -> Vec<u32> {
        let own = self.child.id();
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        std::iter::once(own).chain(children).collect()
    }

    /// Sends a signal to the first of the processes.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) -> io::Result<()> {
        Ok(rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal)?)
    }

    pub(crate) fn used(&self) -> Used {
        let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
        let mut used = Used::default();
        for pid in self.pids() {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // After the name, which may contain any characters, the fields have fixed positions.
            let fields: Vec<&str> =
                stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
            let seconds = |index: usize| fields.get(index).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or(0.0);
            used.user += seconds(11) / ticks_per_second;
            used.system += seconds(12) / ticks_per_second;
        }
        used
    }

    /// The resident memory that the processes do not share, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        self.resident_with(&[])
    }

    /// The same, with further processes.
    pub(crate) fn resident_with(&self, others: &[u32]) -> u64 {
        let of = |pid: &u32| -> u64 {
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            let private = rollup.lines().filter(|line| line.starts_with("Private_"));
            private.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum::<u64>() * 1_024
        };
        let mut pids = self.pids();
        pids.extend(others);
        pids.sort_unstable();
        pids.dedup();
        pids.iter().map(of).sum()
    }

    /// Counts the system calls of the processes during `work`, by name.
    pub(crate) fn trace<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<(T, Vec<(String, u64)>)> {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-c", "-U", "name,calls"]);
        for pid in self.pids() {
            strace.arg("-p").arg(pid.to_string());
        }
        let tracer = strace.stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let traced = |pid: &u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
        };
        let began = Instant::now();
        while !self.pids().iter().all(traced) {
            if began.elapsed() > Duration::from_secs(5) {
                return Err(io::Error::other("strace could not attach"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let outcome = work()?;
        rustix::process::kill_process(rustix::process::Pid::from_child(&tracer), rustix::process::Signal::INT)?;
        let text = String::from_utf8_lossy(&tracer.wait_with_output()?.stderr).into_owned();
        let row = |line: &str| -> Option<(String, u64)> {
            let mut words = line.split_whitespace();
            let (name, calls) = (words.next()?, words.next()?.parse().ok()?);
            (name != "total").then(|| (name.to_owned(), calls))
        };
        Ok((outcome, text.lines().filter_map(row).collect()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        // SIGTERM first, so that nginx ends its workers.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(3) {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
