//! An upgrade of the binary: a new process takes over the listening sockets and the knowledge of this one, and says that it
//! serves; only then this process retires. When the new process fails, this one goes on.

mod channel;
mod former;
mod next;

use std::time::Duration;

use loadx_core::config::Changes;
use loadx_core::plan::Inheritance;
use serde::{Deserialize, Serialize};

pub(crate) use former::Former;
pub(crate) use next::{Next, Program, begin};

/// The variable of the environment that tells a LoadX that its standard input is the connection to the former LoadX.
const VARIABLE: &str = "LOADX_UPGRADE";

/// The version of the messages. A LoadX that speaks another one starts as a failure, and the former goes on.
pub(crate) const PROTOCOL: u32 = 1;

/// The longest time from the start of the new process until it serves.
const START_MAX: Duration = Duration::from_secs(30);

/// How long the new process waits for the former one to let go. Then it goes on by itself.
const LET_GO_MAX: Duration = Duration::from_secs(5);

/// What the former process gives.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Offer {
    pub(crate) protocol: u32,
    pub(crate) version: String,
    /// The addresses in the config of the listening sockets that follow, by host and port.
    pub(crate) sockets: Vec<(String, u16)>,
    /// The number of sockets of the admin API that follow after those.
    pub(crate) admin_sockets: usize,
    pub(crate) knowledge: Inheritance,
    /// The config that runs; `None` when options of the command line are the config.
    pub(crate) config: Option<OfferedConfig>,
    pub(crate) changes: Changes,
    pub(crate) kept: Changes,
}

/// The config that runs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OfferedConfig {
    pub(crate) text: String,
    /// The name, if an operator sent the config; otherwise the text is from the config file.
    pub(crate) name: Option<String>,
}

/// What the new process answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    /// The new process accepts clients.
    Serving { version: String },
    /// The new process cannot serve, for this reason.
    Failed(String),
}

/// The former process has stopped accepting clients.
#[derive(Debug, Serialize, Deserialize)]
struct LetGo;
