//! What threads say to one another. They share nothing else but [`Shared`](crate::shared::Shared).

use std::net::SocketAddr;
use std::sync::Arc;

use loadx_core::config::Config;
use loadx_core::{BackendId, ClusterId, Observation};
use tokio::sync::{mpsc, oneshot};

use crate::shared::Place;
use crate::telemetry::Shard;

/// What others ask of a worker.
#[derive(Debug)]
pub(crate) enum Order<P> {
    /// Take over a client that another worker accepted.
    Serve(P, Accepted, Place),
    /// Close an idle client connection, if there is one: somebody waits for its place.
    Shed,
    /// Let go of what is kept about these.
    Forget(Arc<Departed>),
    /// Tell what was counted.
    Measure(oneshot::Sender<Box<Shard>>),
    /// Accept no more, finish what runs, end.
    Stop,
}

/// What has left the plan.
#[derive(Debug)]
pub(crate) struct Departed {
    pub(crate) backends: Vec<BackendId>,
    pub(crate) clusters: Vec<ClusterId>,
}

/// A client that was accepted: its address, and the position in the plan of the listener that it came by.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Accepted {
    pub(crate) peer: SocketAddr,
    pub(crate) listener: u32,
}

/// The way to a worker. It needs no bound of its own: there is one measurement at a time, and the other
/// orders are bounded by the places for connections.
pub(crate) type Mailbox<P> = mpsc::UnboundedSender<Order<P>>;

/// What a worker saw of a backend.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) backend: BackendId,
    pub(crate) observation: Observation,
}

/// What control is told to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Make this config the plan, and say when that is done.
    Apply(Box<Config>, oneshot::Sender<()>),
}

/// A status endpoint that a client of a worker asked for.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) endpoint: Endpoint,
    pub(crate) reply: oneshot::Sender<(u16, Vec<u8>)>,
}

/// The status endpoints on the proxy's port.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// `/__health__`
    Health,
    /// `/__metrics__`
    Metrics,
    /// `/__status__`
    Status,
}

impl Endpoint {
    pub(crate) fn of_path(path: &[u8]) -> Option<Endpoint> {
        match path {
            b"/__health__" => Some(Endpoint::Health),
            b"/__metrics__" => Some(Endpoint::Metrics),
            b"/__status__" => Some(Endpoint::Status),
            _ => None,
        }
    }
}
