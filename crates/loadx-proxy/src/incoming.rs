//! A request that the client's connection hands to an exchange.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;

use loadx_core::plan::ProcessPolicy;
use loadx_core::route::Route;
use loadx_core::{AttemptPolicy, ErrorKind, ListenerId, ProxyError, Time};
use loadx_http::grpc::Call;
use loadx_http::{Framing, RequestHead, TraceParent};
use percent_encoding::percent_decode;

use crate::address::client_address;
use crate::buffers::LentRequest;
use crate::context::Worker;
use crate::explanations::Notes;
use crate::net::{Network, Stream as _, StreamOf};
use crate::origin::Origin;
use crate::request_id::RequestId;
use crate::shared::LocalPlan;
use crate::telemetry::{AttemptSpan, attempt_id};
use crate::tls::TlsFacts;

/// The trace of a request.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    pub(crate) parent: TraceParent,
    /// Whether LoadX has begun the trace, because the request had none.
    pub(crate) is_begun: bool,
    /// The spans of the request, if it has spans.
    pub(crate) spans: Option<RequestSpans>,
}

/// The spans of a request.
#[derive(Clone, Debug)]
pub(crate) struct RequestSpans {
    /// The id of the span of the exchange.
    pub(crate) own: u64,
    /// The attempts that have ended.
    pub(crate) attempts: RefCell<Vec<AttemptSpan>>,
}

impl Trace {
    /// The trace of a request with this head, by the config; `None` if the config wants no traces.
    fn new<N: Network>(
        worker: &Worker<N>,
        process: &ProcessPolicy,
        head: &RequestHead,
        bits: u64,
    ) -> Option<Box<Self>> {
        if !process.trace_context && process.spans_one_in.is_none() {
            return None;
        }
        let named = named_trace(head);
        let is_drawn = || process.spans_one_in.is_some_and(|count| count > 0 && bits.is_multiple_of(count));
        let has_spans = process.spans_one_in.is_some() && named.map_or_else(is_drawn, |parent| parent.is_sampled());
        let spans = has_spans.then(|| RequestSpans { own: worker.entropy().max(1), attempts: RefCell::default() });
        match named {
            Some(parent) => Some(Box::new(Trace { parent, is_begun: false, spans })),
            None if process.trace_context || has_spans => {
                let trace_id = u128::from(worker.entropy()) << 64 | u128::from(bits);
                let parent = TraceParent::new(trace_id, worker.entropy(), has_spans);
                Some(Box::new(Trace { parent, is_begun: true, spans }))
            }
            None => None,
        }
    }

    /// The traceparent for an attempt at a backend, from 1; `None` if the backend gets that of the request.
    pub(crate) fn of_attempt(&self, attempt: usize) -> Option<TraceParent> {
        match &self.spans {
            Some(spans) => Some(self.parent.after(attempt_id(spans.own, attempt))),
            None => self.is_begun.then_some(self.parent),
        }
    }
}

/// The trace that a request names; `None` if there is none, or more than one.
fn named_trace(head: &RequestHead) -> Option<TraceParent> {
    // Connection may name the field, which then ends here.
    let mut values = head.forwarded_values("traceparent", true);
    let only = values.next().filter(|_| values.next().is_none())?;
    TraceParent::parse(only)
}

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
    /// What the request asks for as a call of gRPC, if the request is one.
    pub(crate) grpc: Option<Call>,
    /// The position of the matched route in the plan.
    pub(crate) route: Option<usize>,
    /// The trace of the request, if the config wants every request to have one.
    pub(crate) trace: Option<Box<Trace>>,
    /// What is noted for the explanation of the request, if the request asked for one.
    pub(crate) explain: Option<Box<RefCell<Notes>>>,
    /// Whether the client has a spare place, and gets nothing but status endpoints.
    pub(crate) is_spare: bool,
}

impl Incoming {
    /// A request whose head has just been read from a connection of this listener.
    ///
    /// # Errors
    /// When the listener was removed before a client came.
    pub(crate) fn new<N: Network>(
        worker: &Worker<N>,
        (stream, origin, listener): (&StreamOf<N>, &Origin, ListenerId),
        mut head: LentRequest,
        began: Time,
    ) -> Result<Self, ProxyError> {
        if head.authority().is_empty()
            && let Ok(local) = stream.local_addr()
        {
            head.assume_authority(local.to_string().as_bytes());
        }
        let Some((plan, listener)) = worker.plan_for(listener) else {
            let message = "the listener of this connection was removed; connect again";
            return Err(ProxyError::new(503, ErrorKind::DestinationUnavailable, message));
        };
        let address = client_address(&head, origin.ip, &plan.process.trusted_proxies);
        let kept = head.request_id().filter(|_| address.peer_trusted);
        let bits = worker.entropy();
        let trace = Trace::new(worker, &plan.process, &head, bits);
        // The token crosses no foreign network in clear text.
        let is_safe = || stream.facts().is_some() || plan.process.shows_endpoints_to(address.ip);
        let explain = worker.shared.explain.notes_for(&head, is_safe);
        Ok(Incoming {
            explain,
            trace,
            id: kept.and_then(|id| RequestId::kept(id, bits)).unwrap_or_else(|| RequestId::made(bits)),
            began,
            listener,
            peer: origin.ip,
            tls: stream.facts().cloned(),
            peer_trusted: address.peer_trusted,
            client: address.ip,
            grpc: Call::of(&head),
            head,
            route: None,
            is_spare: false,
            plan,
        })
    }

    /// The decoded value of the first parameter of this name in the query.
    pub(crate) fn query_value(&self, name: &str) -> Option<String> {
        let target = self.head.path_and_query();
        let query = &target[memchr::memchr(b'?', target)? + 1..];
        let mut values = query.split(|byte| *byte == b'&').filter_map(|pair| {
            let at = memchr::memchr(b'=', pair)?;
            (&pair[..at] == name.as_bytes()).then_some(&pair[at + 1..])
        });
        values.next().map(|value| percent_decode(value).decode_utf8_lossy().into_owned())
    }

    /// Notes something for the explanation of the request, if the request asked for one.
    pub(crate) fn note(&self, note: impl FnOnce(&mut Notes)) {
        if let Some(notes) = &self.explain {
            note(&mut notes.borrow_mut());
        }
    }

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

    /// The timeouts of an exchange with a cluster. The exchange timeout of the route overrides that of the cluster; a call of gRPC
    /// may have less time.
    pub(crate) fn attempt_policy(&self, cluster: usize) -> AttemptPolicy {
        let policy = self.plan.clusters[cluster].attempt;
        let exchange = self.route().and_then(|route| route.exchange_timeout).or(policy.exchange);
        let Some(call) = self.grpc else { return AttemptPolicy { exchange, ..policy } };
        // A stream of messages is silent as long as there are none, like a tunnel: the caller sets the time of a call, and PINGs find
        // dead peers.
        let response = self.plan.process.timeouts.tunnel;
        AttemptPolicy { exchange: exchange.into_iter().chain(call.timeout).min(), response, ..policy }
    }

    /// The trace of the request: as the config wants, or as the request names it.
    pub(crate) fn trace(&self) -> Option<TraceParent> {
        match &self.trace {
            Some(trace) => Some(trace.parent),
            None => named_trace(&self.head),
        }
    }

    /// The name of the matched route.
    pub(crate) fn route_name(&self) -> Option<&str> {
        self.route().map(|route| &*route.name)
    }
}
