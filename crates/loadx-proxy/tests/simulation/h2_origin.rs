//! Origins of the simulation that speak HTTP/2.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::h2_wire::{DATA, END_STREAM, FRAME_MAX, Fields, Frame, GOAWAY, H2Wire, PREFACE, WINDOW_UPDATE};
use crate::origin::SharedRegistry;
use crate::plan::{Framed, OriginAction, Plan};
use crate::stream::SimStream;
use loadx_proxy::Stream as _;

/// The last stream that a client can open.
const LAST_STREAM: u32 = (1 << 31) - 1;

const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;

/// A connection of LoadX.
struct Connection {
    wire: H2Wire,
    registry: SharedRegistry,
    address: SocketAddr,
    exchanges: BTreeMap<u32, Exchange>,
    /// After how many streams the origin ends the connection.
    streams_left: u64,
    ends_gently: bool,
    /// The last stream that the origin serves, once it has ended the connection.
    last: Option<u32>,
}

/// One request and its response.
struct Exchange {
    plan: Plan,
    action: OriginAction,
    to_head: bool,
    /// Whether the stream is a tunnel.
    is_tunnel: bool,
    seen_plan: Option<String>,
    received: Vec<u8>,
    is_received: bool,
    /// When the origin responds.
    responds_at: Option<Instant>,
    has_responded: bool,
    window: i64,
    /// What is left of the response; `None` when the response has ended.
    to_send: Option<Vec<u8>>,
    /// After how many bytes of content the origin resets, closes or stalls.
    sends: usize,
    is_over: bool,
}

/// What comes after a step.
#[derive(PartialEq)]
enum Then {
    GoOn,
    /// The connection breaks.
    Close,
    /// The origin ends its direction.
    End,
}

/// Serves a connection of LoadX.
///
/// `ends_gently`: whether an origin that ends the connection still serves the requests that are under way.
pub(crate) async fn serve(
    stream: SimStream,
    registry: SharedRegistry,
    address: SocketAddr,
    entropy: u64,
    ends_gently: bool,
) {
    let mut wire = H2Wire::new(stream);
    // Some origins allow few streams, give small windows, or end their connections soon.
    let streams_max = [1, 2, 100][(entropy % 3) as usize];
    let window = if entropy.is_multiple_of(5) { 900 } else { 65_535 };
    wire.put_settings(&[(3, streams_max), (4, window), (8, 1)]);
    while wire.take_bytes(PREFACE.len()).is_none() {
        if !wire.step(true, None).await {
            return;
        }
    }
    let streams_left = if entropy.is_multiple_of(7) { 1 + entropy / 7 % 4 } else { u64::MAX };
    let exchanges = BTreeMap::new();
    let mut connection = Connection { wire, registry, address, exchanges, streams_left, ends_gently, last: None };
    loop {
        while let Some(frame) = connection.wire.frame() {
            connection.frame(frame);
        }
        match connection.act() {
            Then::GoOn => {}
            Then::Close => return,
            Then::End => {
                // What LoadX still sends must not reset the connection.
                connection.wire.stream.shut_write();
                while connection.wire.step(true, None).await {}
                return;
            }
        }
        let until = connection.exchanges.values().filter_map(|exchange| exchange.responds_at).min();
        if !connection.wire.step(true, until).await {
            return;
        }
    }
}

impl Connection {
    fn frame(&mut self, frame: Frame) {
        match frame {
            Frame::Section { stream, fields, ends } if fields[0].0.starts_with(':') => {
                if self.last.is_none() {
                    self.request(stream, &fields, ends);
                }
            }
            Frame::Section { stream, fields, .. } => {
                if let Some(exchange) = self.exchanges.get_mut(&stream) {
                    assert_eq!(fields, [("x-sum".to_owned(), exchange.plan.id.to_string())]);
                    exchange.is_received = true;
                }
            }
            Frame::Data { stream, content, ends } => {
                self.wire.take(stream, content.len(), ends);
                if let Some(exchange) = self.exchanges.get_mut(&stream) {
                    match exchange.is_tunnel {
                        true => exchange.to_send.get_or_insert_default().extend_from_slice(&content),
                        false => exchange.received.extend_from_slice(&content),
                    }
                    exchange.is_received |= ends;
                }
            }
            Frame::Reset { stream } => drop(self.exchanges.remove(&stream)),
            Frame::Window { stream, bytes } => {
                if let Some(exchange) = self.exchanges.get_mut(&stream) {
                    exchange.window += bytes;
                }
            }
            Frame::Windows(change) => self.exchanges.values_mut().for_each(|exchange| exchange.window += change),
            Frame::Goaway | Frame::Ping | Frame::Other => {}
        }
    }

    fn request(&mut self, stream: u32, fields: &Fields, ends: bool) {
        let field = |name: &str| {
            let mut named = fields.iter().filter(|(field, _)| field == name);
            let value = named.next().map(|(_, value)| value.as_str());
            assert!(named.next().is_none(), "{name} twice: {fields:?}");
            value
        };
        let path = field(":path").unwrap();
        if path == "/health" {
            self.registry.borrow_mut().probed.insert(self.address, Instant::now());
            self.wire.put_section(stream, true, &[(":status", "200")]);
            return;
        }
        let id: u64 = path.strip_prefix("/r/").expect("a path of the simulation").parse().unwrap();
        let plan = self.registry.borrow().plans[&id].clone();
        let attempts = {
            let mut registry = self.registry.borrow_mut();
            *registry.seen.entry(id).or_default() += 1;
            registry.seen[&id] + registry.refused.get(&id).copied().unwrap_or(0)
        };
        let is_tunnel = field(":protocol").is_some();
        assert_eq!(field(":method"), Some(if is_tunnel { "CONNECT" } else { plan.method }));
        assert_eq!((field(":authority"), field("host")), (Some("sim"), None));
        assert_eq!(field("x-mark"), Some(&*id.to_string()));
        assert_eq!((is_tunnel, field("connection")), (plan.upgrades(), None));
        let action = if plan.origin_once && attempts > 1 { OriginAction::Behaves } else { plan.origin };
        let mut exchange = Exchange {
            to_head: plan.method == "HEAD",
            is_tunnel,
            seen_plan: field("x-plan").map(str::to_owned),
            received: Vec::new(),
            is_received: ends,
            responds_at: None,
            has_responded: false,
            window: self.wire.first_window,
            to_send: None,
            sends: usize::MAX,
            is_over: false,
            plan,
            action,
        };
        match action {
            OriginAction::Resets => return self.wire.put_reset(stream, INTERNAL_ERROR),
            // The origin has not looked at the request.
            OriginAction::Closes => {
                let mut registry = self.registry.borrow_mut();
                *registry.seen.get_mut(&id).unwrap() -= 1;
                *registry.refused.entry(id).or_default() += 1;
                return self.wire.put_reset(stream, REFUSED_STREAM);
            }
            _ => {}
        }
        if field("expect").is_some() && !exchange.is_early() {
            self.wire.put_section(stream, false, &[(":status", "100")]);
        }
        if exchange.is_early() || is_tunnel {
            exchange.responds_at = Some(exchange.response_time());
        }
        self.exchanges.insert(stream, exchange);
        self.streams_left = self.streams_left.saturating_sub(1);
        if self.streams_left == 0 && self.last.is_none() {
            // A gentle origin serves every stream, and LoadX ends the connection.
            let last = if self.ends_gently { LAST_STREAM } else { stream };
            self.last = Some(stream).filter(|_| !self.ends_gently);
            let goaway = [last.to_be_bytes(), NO_ERROR.to_be_bytes()].concat();
            self.wire.put(GOAWAY, 0, 0, &goaway);
        }
    }

    /// Does what can be done now.
    fn act(&mut self) -> Then {
        let streams: Vec<u32> = self.exchanges.keys().copied().collect();
        for stream in streams {
            let exchange = self.exchanges.get_mut(&stream).unwrap();
            exchange.check(&self.registry);
            if exchange.responds_at.is_some_and(|at| at <= Instant::now()) {
                exchange.responds_at = None;
                match exchange.action {
                    OriginAction::Silent => {}
                    OriginAction::SendsGarbage => {
                        self.wire.out.extend_from_slice(b"220 mail.example ESMTP\r\n\r\n");
                        exchange.is_over = true;
                        continue;
                    }
                    _ => exchange.head(stream, &mut self.wire),
                }
            }
            if exchange.content(stream, &mut self.wire) == Then::Close {
                return Then::Close;
            }
            if exchange.is_over {
                self.exchanges.remove(&stream);
            }
        }
        let is_done = self.last.is_some() && self.exchanges.is_empty() && self.wire.out.is_empty();
        if is_done { Then::End } else { Then::GoOn }
    }
}

impl Exchange {
    /// Whether the origin responds without reading the request.
    fn is_early(&self) -> bool {
        matches!(self.action, OriginAction::AnswersEarly | OriginAction::AnswersEarlyAndStays)
    }

    fn response_time(&self) -> Instant {
        Instant::now() + Duration::from_millis(self.plan.delay)
    }

    /// Checks the received content. Once all is here, the origin responds.
    fn check(&mut self, registry: &SharedRegistry) {
        if self.is_tunnel {
            return;
        }
        let content = self.plan.request_content();
        assert!(content.starts_with(&self.received), "the body of a request was changed: {:?}", self.plan);
        if self.is_received && !self.has_responded && self.responds_at.is_none() && !self.is_early() {
            assert_eq!(self.received.len(), content.len(), "the body of a request is cut: {:?}", self.plan);
            *registry.borrow_mut().whole.entry(self.plan.id).or_default() += 1;
            self.responds_at = Some(self.response_time());
            self.has_responded = true;
        }
    }

    /// Puts the head of the response.
    fn head(&mut self, stream: u32, wire: &mut H2Wire) {
        let plan = &self.plan;
        for _ in 0..plan.interims {
            wire.put_section(stream, false, &[(":status", "103"), ("link", "</a>")]);
        }
        let status = if self.is_tunnel { "200".to_owned() } else { plan.status.to_string() };
        let (id, content) = (plan.id.to_string(), plan.response_content());
        let length = content.len().to_string();
        let mut fields = vec![(":status", &*status), ("x-id", &id)];
        fields.extend(self.seen_plan.as_deref().map(|seen| ("x-seen-plan", seen)));
        if self.is_tunnel {
            wire.put_section(stream, false, &fields);
            let early = std::mem::take(self.to_send.get_or_insert_default());
            self.to_send = Some([b"early".as_slice(), &early].concat());
            self.has_responded = true;
            return;
        }
        if plan.response.framed == Framed::Length {
            fields.push(("content-length", &length));
        }
        let ends = self.to_head || plan.response.framed == Framed::None;
        wire.put_section(stream, ends, &fields);
        self.sends = match self.action {
            OriginAction::ResetsAfter(cut) | OriginAction::ClosesAfter(cut) | OriginAction::StallsAfter(cut) => cut,
            _ => usize::MAX,
        };
        self.to_send = (!ends).then_some(content);
        if ends {
            self.ended(stream, wire);
        }
    }

    /// Puts as much content as the windows allow.
    fn content(&mut self, stream: u32, wire: &mut H2Wire) -> Then {
        // A tunnel waits for its head.
        let is_waiting = self.is_over || (self.is_tunnel && !self.has_responded);
        let Some(mut rest) = self.to_send.take_if(|_| !is_waiting) else { return Then::GoOn };
        let most = self.window.min(wire.window).max(0) as usize;
        let count = rest.len().min(most).min(FRAME_MAX).min(self.sends);
        let after = rest.split_off(count);
        self.window -= count as i64;
        wire.window -= count as i64;
        self.sends -= count;
        let is_all = after.is_empty() && (!self.is_tunnel || self.is_received);
        let has_trailers = matches!(self.plan.response.framed, Framed::Chunks(_)) && !self.is_tunnel;
        if self.sends == 0 {
            wire.put(DATA, 0, stream, &rest);
            self.is_over = true;
            match self.action {
                OriginAction::ResetsAfter(_) => wire.put_reset(stream, INTERNAL_ERROR),
                OriginAction::ClosesAfter(_) => return Then::Close,
                _ => self.is_over = false,
            }
            return Then::GoOn;
        }
        if count > 0 || (is_all && !has_trailers) {
            wire.put(DATA, if is_all && !has_trailers { END_STREAM } else { 0 }, stream, &rest);
        }
        match is_all {
            false => self.to_send = Some(after),
            true => {
                if has_trailers {
                    wire.put_section(stream, true, &[("x-sum", &self.plan.id.to_string())]);
                }
                self.ended(stream, wire);
            }
        }
        Then::GoOn
    }

    /// The response is complete.
    fn ended(&mut self, stream: u32, wire: &mut H2Wire) {
        match self.action {
            // The client may stop sending.
            OriginAction::AnswersEarly if !self.is_received => wire.put_reset(stream, NO_ERROR),
            // A late frame, which LoadX ignores.
            OriginAction::SendsStray => wire.put(WINDOW_UPDATE, 0, stream, &1_u32.to_be_bytes()),
            _ => {}
        }
        // What LoadX still sends is read and not looked at.
        self.is_over = true;
    }
}
