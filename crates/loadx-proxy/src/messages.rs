//! What threads say to one another. They share nothing else but [`Shared`](crate::shared::Shared).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use loadx_core::config::Config;
use loadx_core::route::Endpoint;
use loadx_core::{BackendId, ListenerId, Observation};
use tokio::sync::{mpsc, oneshot};

use crate::error::ApplyError;
use crate::net::Network;
use crate::shared::Place;
use crate::telemetry::{Departed, LogSender, Shard};

/// What others ask of a worker.
pub(crate) enum Order<N: Network> {
    /// Take over a client that another worker accepted.
    Serve(N::Parcel, Accepted, Place),
    /// Accept clients on these sockets, each of the listener with this id.
    Listen(Vec<(ListenerId, N::Socket)>),
    /// Accept no more clients on these listeners. Their clients are closed when their exchanges have ended. The sender is
    /// dropped when the sockets are closed.
    Leave(Arc<[ListenerId]>, mpsc::Sender<()>),
    /// End what still runs on these listeners, whose drain is over.
    Cut(Arc<[ListenerId]>),
    /// Write the access log there from now on.
    Log(Option<LogSender>),
    /// Close an idle client connection, if there is one: somebody waits for its place.
    Shed,
    /// Let go of what is kept about these.
    Forget(Arc<Departed>),
    /// Tell what was counted.
    Measure(oneshot::Sender<Box<Shard>>),
    /// Accept no more, finish what runs, end.
    Stop,
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

/// What a worker saw of a backend.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) backend: BackendId,
    pub(crate) observation: Observation,
}

/// What control is told to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Make this config the plan, and say what came of it.
    Apply(Box<Config>, oneshot::Sender<Result<Applied, ApplyError>>),
    /// Answer, as a sign of life.
    Ping(SyncSender<()>),
    /// Show in the status that a config could not be taken over, with the reason.
    NoteFailure(String),
    /// Close the file of the access log and open it again, and say what came of it.
    ReopenLog(oneshot::Sender<Result<(), ApplyError>>),
}

/// What came of a config that a running proxy has taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The number of the plan, from 1.
    pub generation: u64,
    /// Settings that differ from those that run and take effect only after a restart, with the reason.
    pub after_restart: Vec<String>,
}

/// A status endpoint that a client of a worker asked for.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) endpoint: Endpoint,
    pub(crate) reply: oneshot::Sender<(u16, Vec<u8>)>,
}
