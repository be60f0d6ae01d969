//! The ways in which a backend is broken, and for how long.

use std::time::Duration;

use super::manner::Manner;

/// A fault of the second of three backends, or of all of them.
#[derive(Copy, Clone, Debug)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) fault: Fault,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The process is killed, and started again at the end.
    Kill,
    /// All processes are killed, and started again at the end.
    KillAll,
    /// The process is stopped: the system accepts connections, and nothing answers.
    Stop,
    /// Packets to the backend vanish.
    BlackHole,
    /// The backend has another manner.
    Manner(Manner),
    /// The server of names answers nothing.
    Names,
    /// The backend refuses every second second.
    Flap,
}

/// The time before the fault, of the fault, and after the fault.
pub(super) const BEFORE: Duration = Duration::from_secs(3);
pub(super) const DURING: Duration = Duration::from_secs(10);
pub(super) const AFTER: Duration = Duration::from_secs(25);

pub(super) const ALL: [Case; 12] = [
    Case { name: "kill", about: "kill -9, started again after 10 s", fault: Fault::Kill },
    Case { name: "stop", about: "SIGSTOP: accepts connections, never answers", fault: Fault::Stop },
    Case { name: "refuse", about: "closes its listener and all connections", fault: Fault::Manner(Manner::Refuses) },
    Case {
        name: "reset-head",
        about: "resets within the head of each response",
        fault: Fault::Manner(Manner::BreaksHead),
    },
    Case {
        name: "reset-body",
        about: "resets within the content of every third response",
        fault: Fault::Manner(Manner::BreaksThirdBody),
    },
    Case { name: "500", about: "answers 500", fault: Fault::Manner(Manner::Fails) },
    Case {
        name: "500-some",
        about: "answers 500 to 30 % of the requests",
        fault: Fault::Manner(Manner::FailsThreeOfTen),
    },
    Case { name: "slow", about: "takes 20 times as long (100 ms)", fault: Fault::Manner(Manner::Slow) },
    Case { name: "flap", about: "refuses for a second, serves for a second", fault: Fault::Flap },
    Case { name: "black-hole", about: "packets to the backend vanish", fault: Fault::BlackHole },
    Case { name: "dns", about: "the server of the names answers nothing", fault: Fault::Names },
    Case { name: "all-down", about: "kill -9 of all three, started again after 10 s", fault: Fault::KillAll },
];
