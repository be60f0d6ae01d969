//! An upgrade of the binary: a new process takes over the listening sockets and the knowledge of this one, and says that it
//! serves; only then this process retires. When the new process fails, this one goes on.
//!
//! The messages, in their order (`→`: from the new process):
//! 1. → [`Hello`]: a program that is no LoadX, or hangs, never gets a socket.
//! 2. [`Offer`], and the descriptors of the sockets.
//! 3. → [`Answer::Serving`], or why not.
//! 4. [`LetGo`]: the new process may take the path of the admin socket.
//! 5. → [`Settled`]: the former process retires.
//! 6. Until the former process ends, it sends a [`Report`] each second, and the new process sends an [`Update`] with each
//!    change of backends.

mod channel;
mod former;
mod link;
mod next;

use std::time::Duration;

use loadx_core::BackendSpec;
use loadx_core::config::{Changes, Config};
use loadx_core::plan::Inheritance;
use serde::{Deserialize, Serialize};

pub(crate) use former::Former;
pub(crate) use link::{FormerLink, SuccessorLink};
pub(crate) use next::{Next, Program, Starting, begin};

/// The variable of the environment that tells a LoadX that its standard input is the connection to the former LoadX.
const VARIABLE: &str = "LOADX_UPGRADE";

/// The version of the messages. A LoadX that speaks another one starts as a failure, and the former goes on.
pub(crate) const PROTOCOL: u32 = 1;

/// The longest time from the start of the new process until it says hello.
const HELLO_MAX: Duration = Duration::from_secs(10);

/// The longest time from then on until the new process serves.
const START_MAX: Duration = Duration::from_secs(30);

/// The longest time of the last steps. Then each process goes on by itself.
const LET_GO_MAX: Duration = Duration::from_secs(5);

/// The first word of the new process.
#[derive(Debug, Serialize, Deserialize)]
struct Hello {
    protocol: u32,
    version: String,
}

/// What the former process gives.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Offer {
    pub(crate) version: String,
    /// The number of the plan that runs.
    pub(crate) generation: u64,
    /// The addresses in the config of the listening sockets that follow, by host and port.
    pub(crate) sockets: Vec<(String, u16)>,
    /// The number of sockets of the admin API that follow after those.
    pub(crate) admin_sockets: usize,
    pub(crate) knowledge: Inheritance,
    /// The config that runs; `None` when options of the command line are the config.
    pub(crate) config: Option<OfferedConfig>,
    pub(crate) changes: Changes,
    pub(crate) kept: Changes,
    /// Why LoadX did not start with the config file.
    pub(crate) note: Option<String>,
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
    Serving,
    /// The new process cannot serve, for this reason.
    Failed(String),
}

/// The new process may take the path of the admin socket.
#[derive(Debug, Serialize, Deserialize)]
struct LetGo;

/// The new process has taken over.
#[derive(Debug, Serialize, Deserialize)]
struct Settled;

/// What still runs in the former process, and in the processes before.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) formers: Vec<FormerState>,
}

/// What still runs in a process that retires.
#[derive(Copy, Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FormerState {
    pub(crate) pid: u32,
    /// The client connections.
    pub(crate) connections: usize,
    /// The running exchanges, tunnels included.
    pub(crate) exchanges: usize,
    pub(crate) tunnels: usize,
    /// Seconds until the process ends what still runs.
    pub(crate) seconds_left: f64,
}

/// The backends of all clusters, for processes that retire: a backend that is drained or removed must get no more requests
/// of the connections there, and its exchanges there have the same limit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Update {
    clusters: Vec<(String, Vec<UpdatedBackend>)>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct UpdatedBackend {
    name: String,
    host: String,
    port: u16,
    weight: u32,
    drain: bool,
}

impl Update {
    /// The backends of a config.
    pub(crate) fn of(config: &Config) -> Self {
        let backend = |spec: &BackendSpec| UpdatedBackend {
            name: spec.name.to_string(),
            host: spec.host.to_string(),
            port: spec.port,
            weight: spec.weight,
            drain: spec.drain,
        };
        let clusters = config.clusters.iter();
        let clusters =
            clusters.map(|cluster| (cluster.name.to_string(), cluster.backends.iter().map(backend).collect()));
        Update { clusters: clusters.collect() }
    }

    /// `config` with these backends. The backends of a cluster that is gone are drained.
    pub(crate) fn applied_to(&self, config: &Config) -> Config {
        let mut config = config.clone();
        for cluster in &mut config.clusters {
            match self.clusters.iter().find(|(name, _)| **name == *cluster.name) {
                Some((_, backends)) if !backends.is_empty() => {
                    let spec = |backend: &UpdatedBackend| BackendSpec {
                        name: backend.name.as_str().into(),
                        weight: backend.weight,
                        drain: backend.drain,
                        ..BackendSpec::new(&backend.host, backend.port)
                    };
                    cluster.backends = backends.iter().map(spec).collect();
                }
                _ => cluster.backends.iter_mut().for_each(|spec| spec.drain = true),
            }
        }
        config
    }
}
