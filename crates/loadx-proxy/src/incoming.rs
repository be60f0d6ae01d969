//! A request on its way from the client's connection to an exchange.

use std::net::IpAddr;

use loadx_core::route::Route;
use loadx_core::{AttemptPolicy, Time};
use loadx_http::Framing;

use crate::buffers::LentRequest;
use crate::request_id::RequestId;
use crate::shared::LocalPlan;

/// A request whose head was read and found sound.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) id: RequestId,
    pub(crate) began: Time,
    /// The plan that the request is served by, also when another one is published meanwhile.
    pub(crate) plan: LocalPlan,
    /// The position of the listener in the plan.
    pub(crate) listener: usize,
    /// The peer of the connection.
    pub(crate) peer: IpAddr,
    /// Whether the peer's word about where the request comes from is believed.
    pub(crate) peer_trusted: bool,
    /// The client's address, behind trusted proxies.
    pub(crate) client: IpAddr,
    pub(crate) head: LentRequest,
    /// The position of the route in the plan, once the request has matched one.
    pub(crate) route: Option<usize>,
}

impl Incoming {
    /// Whether there is content to read behind the head.
    pub(crate) fn has_body(&self) -> bool {
        self.head.framing() != Framing::Length(0)
    }

    /// The scheme that the client used, as far as a trusted proxy tells.
    pub(crate) fn scheme(&self) -> &'static str {
        let told = self.head.values("x-forwarded-proto").last().filter(|_| self.peer_trusted);
        if told.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"https")) { "https" } else { "http" }
    }

    /// The route that the request matched.
    pub(crate) fn route(&self) -> Option<&Route> {
        self.route.map(|route| &self.plan.routes.routes()[route])
    }

    /// How long an exchange with a cluster may take: as the cluster says, the whole of it as the route says.
    pub(crate) fn attempt_policy(&self, cluster: usize) -> AttemptPolicy {
        let policy = self.plan.clusters[cluster].attempt;
        let exchange = self.route().and_then(|route| route.exchange_timeout).or(policy.exchange);
        AttemptPolicy { exchange, ..policy }
    }

    /// The name of that route.
    pub(crate) fn route_name(&self) -> Option<&str> {
        self.route().map(|route| &*route.name)
    }
}
