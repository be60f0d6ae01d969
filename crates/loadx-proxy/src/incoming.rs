//! A request that the client's connection hands to an exchange.

use std::net::IpAddr;
use std::rc::Rc;

use loadx_core::route::Route;
use loadx_core::{AttemptPolicy, Time};
use loadx_http::Framing;

use crate::buffers::LentRequest;
use crate::request_id::RequestId;
use crate::shared::LocalPlan;
use crate::tls::TlsFacts;

/// A request with a valid head.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) id: RequestId,
    pub(crate) began: Time,
    /// The plan of this exchange, even if control publishes another plan meanwhile.
    pub(crate) plan: LocalPlan,
    /// The position of the listener in the plan.
    pub(crate) listener: usize,
    /// The address of the connection's peer.
    pub(crate) peer: IpAddr,
    /// What the connection of the peer agreed on, if the connection has TLS.
    pub(crate) tls: Option<Rc<TlsFacts>>,
    /// Whether the peer is a trusted proxy, so that its forwarding fields count.
    pub(crate) peer_trusted: bool,
    /// The client's address, behind trusted proxies.
    pub(crate) client: IpAddr,
    pub(crate) head: LentRequest,
    /// The position of the matched route in the plan.
    pub(crate) route: Option<usize>,
}

impl Incoming {
    /// Whether the request has a body.
    pub(crate) fn has_body(&self) -> bool {
        self.head.framing() != Framing::Length(0)
    }

    /// The scheme of the peer's connection.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// The line of Strict-Transport-Security for the response, if the listener sends the field.
    pub(crate) fn hsts_line(&self) -> &str {
        &self.plan.listeners[self.listener].hsts_line
    }

    /// The scheme of the client's request: `https` by X-Forwarded-Proto of a trusted proxy, otherwise that of the peer's
    /// connection.
    pub(crate) fn client_scheme(&self) -> &'static str {
        let told = self.head.values("x-forwarded-proto").last().filter(|_| self.peer_trusted);
        if told.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"https")) { "https" } else { self.scheme() }
    }

    /// The matched route.
    pub(crate) fn route(&self) -> Option<&Route> {
        self.route.map(|route| &self.plan.routes.routes()[route])
    }

    /// The timeouts of an exchange with a cluster. The exchange timeout of the route overrides that of the cluster.
    pub(crate) fn attempt_policy(&self, cluster: usize) -> AttemptPolicy {
        let policy = self.plan.clusters[cluster].attempt;
        let exchange = self.route().and_then(|route| route.exchange_timeout).or(policy.exchange);
        AttemptPolicy { exchange, ..policy }
    }

    /// The name of the matched route.
    pub(crate) fn route_name(&self) -> Option<&str> {
        self.route().map(|route| &*route.name)
    }
}
