//! The messages between threads. Besides messages, threads share only [`Shared`](crate::shared::Shared).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use loadx_core::config::{Config, HostPort};
use loadx_core::plan::Inheritance;
use loadx_core::{BackendId, ListenerId, Observation};
use tokio::sync::{mpsc, oneshot};

use crate::error::ApplyError;
use crate::explanations::Explanation;
use crate::net::Network;
use crate::observed::Observed;
use crate::shared::Place;
use crate::telemetry::{Departed, LogSender, MetricsFormat, Shard};

/// A message to a worker, from control or from another worker.
pub(crate) enum Order<N: Network> {
    /// Take over a client that another worker accepted.
    Serve(N::Parcel, Accepted, Place),
    /// Accept clients on these sockets, each of the listener with this id.
    Listen(Vec<(ListenerId, N::Socket)>),
    /// Accept no more clients on these listeners. Their clients are closed when their exchanges have ended. The sender is
    /// dropped when the sockets are closed.
    Leave(Arc<[ListenerId]>, mpsc::Sender<()>),
    /// Close the connections for hosts that now ask for another certificate of the client, each as soon as the connection is
    /// idle.
    Reconnect,
    /// Close the connections that are still open on these listeners, because their drain is over.
    Cut(Arc<[ListenerId]>),
    /// Close all client connections, because the drain after an upgrade is over.
    CutAll,
    /// Send the lines of the access log to this writer from now on; without a writer, write none.
    Log(Option<LogSender>),
    /// Close an idle client connection, if there is one, because a new client waits for a place.
    Shed,
    /// Close all idle connections, of clients and to backends, because memory is short.
    ShedAll,
    /// Wake all exchanges, because some must leave their backend: its drain is over, or control gave the backend up.
    WakeExchanges,
    /// Free the counts that the worker keeps for these backends and clusters, because they left the plan.
    Forget(Arc<Departed>),
    /// Count the client connections and the tunnels of the worker.
    Census(oneshot::Sender<Census>),
    /// Send a copy of the counters of the worker.
    Measure(oneshot::Sender<Box<Shard>>),
    /// Send the explanations that the worker keeps.
    Explanations(oneshot::Sender<Vec<Explanation>>),
    /// Send a descriptor of each listening socket, for another process.
    Descriptors(oneshot::Sender<std::io::Result<Vec<(ListenerId, OwnedFd)>>>),
    /// Accept no more clients, because another process does; end the worker when its last client has left.
    Retire,
    /// Accept no more clients, finish the running exchanges, then end the worker.
    Stop,
}

/// The client connections and the tunnels of a worker.
#[derive(Debug, Default)]
pub(crate) struct Census {
    /// The client connections of each listener; only listeners with connections.
    pub(crate) connections: BTreeMap<ListenerId, usize>,
    /// The tunnels of each backend; only backends with tunnels.
    pub(crate) tunnels: BTreeMap<BackendId, usize>,
}

/// A client that was accepted: its address, and the listener that it came by.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Accepted {
    pub(crate) peer: SocketAddr,
    pub(crate) listener: ListenerId,
}

/// The way to a worker. It needs no bound of its own: there is one measurement at a time, and the other
/// orders are bounded by the places for connections and by the commands of operators.
pub(crate) type Mailbox<N> = mpsc::UnboundedSender<Order<N>>;

/// An observation of a backend by a worker, for control.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) backend: BackendId,
    pub(crate) observation: Observation,
}

/// A message to control.
#[derive(Debug)]
pub(crate) enum Command {
    /// Apply this config. The sender gets the result.
    Apply(Box<Config>, oneshot::Sender<Result<Applied, ApplyError>>),
    /// Answer, as a sign of life.
    Ping(SyncSender<()>),
    /// Send what control and the workers see.
    Observe(oneshot::Sender<Box<Observed>>),
    /// Send the explanations that all workers keep.
    Explanations(oneshot::Sender<Vec<Explanation>>),
    /// Answer a request for the metrics.
    Metrics(Question),
    /// Send what another process needs to go on with the work of this one.
    HandOver(oneshot::Sender<std::io::Result<HandedOver>>),
    /// The bytes of memory that the process uses, and those of its control group with the limit of the group.
    NoteMemory { used: u64, of_group: Option<(u64, u64)> },
    /// Show in the status that a config could not be applied, with the reason.
    NoteFailure(String),
    /// Open the file of the access log again, by its path. The sender gets the result.
    ReopenLog(oneshot::Sender<Result<(), ApplyError>>),
}

/// The result of applying a config to a running proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The number of the plan, from 1.
    pub generation: u64,
    /// Settings that differ from those that run and take effect only after a restart, with the reason.
    pub after_restart: Vec<String>,
}

/// What another process needs to go on with the work of this one.
#[derive(Debug)]
pub struct HandedOver {
    /// The listening sockets, each with the address of its listener in the config.
    pub sockets: Vec<(HostPort, OwnedFd)>,
    /// What control knows about names and backends.
    pub inheritance: Inheritance,
}

/// A request for a status endpoint.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) asked: Asked,
    pub(crate) reply: oneshot::Sender<EndpointAnswer>,
}

/// What a request for a status endpoint asks for.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Asked {
    /// `/__health__`
    Health,
    /// `/__status__`
    Status,
    /// `/__metrics__` in JSON.
    Summary,
    /// All metrics, in this format.
    Metrics(MetricsFormat),
}

/// The answer of a status endpoint.
#[derive(Debug)]
pub struct EndpointAnswer {
    /// The status of the response.
    pub status: u16,
    /// The value of Content-Type.
    pub content_type: &'static str,
    /// The content of the response.
    pub content: Vec<u8>,
}

impl EndpointAnswer {
    pub(crate) fn json(status: u16, content: Vec<u8>) -> Self {
        EndpointAnswer { status, content_type: "application/json", content }
    }
}
