//! Clients of the simulation that speak HTTP/2: all planned requests of a connection run at the same time.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::client::{Conversation, Verdict};
use crate::h2_wire::{DATA, END_STREAM, FRAME_MAX, Fields, Frame, H2Wire, PREFACE};
use crate::plan::{ClientAction, Framed, OriginAction, Plan};
use crate::stream::SimStream;

const CANCEL: u32 = 8;

/// A connection of a client.
struct Connection<'c> {
    conversation: &'c Conversation,
    wire: H2Wire,
    exchanges: BTreeMap<u32, Exchange<'c>>,
}

/// One request and its response.
struct Exchange<'c> {
    plan: &'c Plan,
    window: i64,
    /// What is left to send of the request; `None` when the request has ended.
    to_send: Option<Vec<u8>>,
    /// When the content may be sent without a 100.
    waits_until: Option<Instant>,
    /// After how many bytes of content the client stops or resets the stream.
    sends: usize,
    /// When the client resets the stream.
    leaves_at: Option<Instant>,
    sections: Vec<Fields>,
    content: Vec<u8>,
    is_complete: bool,
    is_reset: bool,
}

/// Sends all requests on one connection, and checks the responses.
pub(crate) async fn run(conversation: &Conversation, stream: SimStream) -> Vec<Verdict> {
    let plans = &conversation.plans;
    // Some clients give small windows.
    let given: u32 = if plans[0].id.is_multiple_of(3) { 700 } else { 65_535 };
    let mut connection = Connection { conversation, wire: H2Wire::new(stream), exchanges: BTreeMap::new() };
    connection.wire.out.extend_from_slice(PREFACE);
    connection.wire.put_settings(&[(4, given)]);
    for (at, plan) in plans.iter().enumerate() {
        connection.begin(1 + 2 * at as u32, plan);
    }
    let late = plans.iter().find_map(|plan| match plan.client {
        ClientAction::ReadsLate(millis) => Some(Instant::now() + Duration::from_millis(millis)),
        _ => None,
    });
    while connection.exchanges.values().any(|exchange| !exchange.is_over()) {
        connection.send_content();
        if !connection.step(late).await {
            break;
        }
    }
    connection.exchanges.values().map(|exchange| exchange.verdict(conversation.tunnels_may_end)).collect()
}

impl<'c> Connection<'c> {
    fn begin(&mut self, stream: u32, plan: &'c Plan) {
        let (path, mark) = (format!("/r/{}", plan.id), plan.id.to_string());
        let content = if plan.upgrades() { plan.tunnel_content() } else { plan.request_content() };
        let length = content.len().to_string();
        let method = if plan.upgrades() { "CONNECT" } else { plan.method };
        let scheme = if self.conversation.is_secure { "https" } else { "http" };
        let mut fields =
            vec![(":method", method), (":scheme", scheme), (":authority", "sim"), (":path", &path), ("x-mark", &mark)];
        if plan.upgrades() {
            fields.insert(1, (":protocol", "echo"));
        }
        if plan.expect {
            fields.push(("expect", "100-continue"));
        }
        if plan.request.framed == Framed::Length {
            fields.push(("content-length", &length));
        }
        let ends = plan.request.framed == Framed::None && !plan.upgrades();
        self.wire.put_section(stream, ends, &fields);
        let now = Instant::now();
        let sends = match plan.client {
            ClientAction::ClosesAfter(count) | ClientAction::StallsAfter(count) => count,
            _ => usize::MAX,
        };
        let leaves_at = match plan.client {
            ClientAction::ClosesWaiting(millis) => Some(now + Duration::from_millis(millis)),
            _ => None,
        };
        let exchange = Exchange {
            plan,
            window: self.wire.first_window,
            to_send: (!ends).then_some(content),
            waits_until: plan.expect.then(|| now + Duration::from_secs(3)),
            sends,
            leaves_at,
            sections: Vec::new(),
            content: Vec::new(),
            is_complete: false,
            is_reset: false,
        };
        self.exchanges.insert(stream, exchange);
    }

    /// Puts as much content as the windows allow, and resets streams whose time has come.
    fn send_content(&mut self) {
        let now = Instant::now();
        let streams: Vec<u32> = self.exchanges.keys().copied().collect();
        for stream in streams {
            let exchange = self.exchanges.get_mut(&stream).unwrap();
            let is_cut = matches!(exchange.plan.client, ClientAction::ClosesAfter(_)) && exchange.sends == 0;
            if !exchange.is_over() && (is_cut || exchange.leaves_at.is_some_and(|at| at <= now)) {
                exchange.is_reset = true;
                self.wire.put_reset(stream, CANCEL);
                continue;
            }
            let waits = exchange.waits_until.is_some_and(|at| at > now);
            // A tunnel begins when the proxy has answered.
            let is_early = exchange.plan.upgrades() && exchange.sections.is_empty();
            if exchange.is_over() || waits || is_early {
                continue;
            }
            let Some(mut rest) = exchange.to_send.take() else { continue };
            let most = exchange.window.min(self.wire.window).max(0) as usize;
            let count = rest.len().min(most).min(FRAME_MAX).min(exchange.sends);
            let after = rest.split_off(count);
            exchange.window -= count as i64;
            exchange.sends -= count;
            self.wire.window -= count as i64;
            let is_all = after.is_empty();
            let has_trailers = matches!(exchange.plan.request.framed, Framed::Chunks(_));
            let sum = exchange.plan.id.to_string();
            let may_end = exchange.sends > 0;
            if !(is_all && may_end) {
                exchange.to_send = Some(after);
            }
            if count > 0 || (is_all && may_end && !has_trailers) {
                let flags = if is_all && may_end && !has_trailers { END_STREAM } else { 0 };
                self.wire.put(DATA, flags, stream, &rest);
            }
            if is_all && may_end && has_trailers {
                self.wire.put_section(stream, true, &[("x-sum", &sum)]);
            }
        }
    }

    /// When something happens without a frame.
    fn next_time(&self) -> Option<Instant> {
        let open = self.exchanges.values().filter(|exchange| !exchange.is_over());
        let now = Instant::now();
        open.flat_map(|exchange| [exchange.waits_until, exchange.leaves_at]).flatten().filter(|at| *at > now).min()
    }

    /// Writes and reads once. Returns false when the connection has ended.
    async fn step(&mut self, late: Option<Instant>) -> bool {
        let reads = late.is_none_or(|at| at <= Instant::now());
        let until = [self.next_time(), late.filter(|_| !reads)].into_iter().flatten().min();
        let goes_on = self.wire.step(reads, until).await;
        while let Some(frame) = self.wire.frame() {
            self.frame(frame);
        }
        goes_on
    }

    fn frame(&mut self, frame: Frame) {
        match frame {
            Frame::Windows(change) => self.exchanges.values_mut().for_each(|exchange| exchange.window += change),
            Frame::Window { stream, bytes } => {
                if let Some(exchange) = self.exchanges.get_mut(&stream) {
                    exchange.window += bytes;
                }
            }
            Frame::Section { stream, fields, ends } => self.with(stream, |exchange| exchange.section(fields, ends)),
            Frame::Data { stream, content, ends } => {
                self.with(stream, |exchange| exchange.data(&content, ends));
                self.wire.take(stream, content.len(), ends);
            }
            Frame::Reset { stream } => self.with(stream, |exchange| exchange.is_reset = true),
            Frame::Goaway | Frame::Ping | Frame::Other => {}
        }
    }

    /// Changes an exchange that the client has not reset.
    fn with(&mut self, stream: u32, change: impl FnOnce(&mut Exchange<'c>)) {
        let exchange = self.exchanges.get_mut(&stream).expect("LoadX opens no streams");
        if !exchange.is_reset {
            change(exchange);
        }
    }
}

impl Exchange<'_> {
    /// Whether nothing more can come.
    fn is_over(&self) -> bool {
        self.is_complete || self.is_reset
    }

    fn section(&mut self, fields: Fields, ends: bool) {
        assert!(!self.is_complete, "a field section behind the end: {:?}", self.plan);
        if fields[0] == (":status".to_owned(), "100".to_owned()) {
            self.waits_until = None;
        }
        self.sections.push(fields);
        self.is_complete = ends;
    }

    fn data(&mut self, content: &[u8], ends: bool) {
        assert!(!self.is_complete, "content behind the end: {:?}", self.plan);
        self.content.extend_from_slice(content);
        self.is_complete = ends;
    }

    /// The response without interim responses, and the trailers.
    fn response(&self) -> (Option<&Fields>, Option<&Fields>) {
        let is_interim = |fields: &&Fields| fields[0].0 == ":status" && fields[0].1.starts_with('1');
        let mut rest = self.sections.iter().skip_while(is_interim);
        (rest.next(), rest.next())
    }

    fn verdict(&self, tunnels_may_end: bool) -> Verdict {
        let plan = self.plan;
        let (Some(head), trailers) = self.response() else { return Verdict::NoResponse };
        let field = |name: &str| head.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str());
        let status: u16 = field(":status").unwrap().parse().unwrap();
        if field("proxy-status").is_some() {
            return if self.is_complete { Verdict::Error(status) } else { Verdict::Broken };
        }
        assert_eq!(field("x-id"), Some(&*plan.id.to_string()), "the response belongs to another request: {plan:?}");
        if let Some(seen) = field("x-seen-plan").filter(|_| !plan.upgrades()) {
            assert_eq!(field("x-plan"), Some(seen), "an exchange saw two plans: {plan:?}");
        }
        let expected = match plan.upgrades() {
            true => [b"early".as_slice(), &plan.tunnel_content()].concat(),
            false => {
                assert_eq!(status, plan.status);
                plan.response_content()
            }
        };
        let has_content = plan.method != "HEAD" && !matches!(plan.status, 204 | 304) || plan.upgrades();
        let expected = if has_content { expected } else { Vec::new() };
        assert!(expected.starts_with(&self.content), "the content was changed: {plan:?}");
        if !self.is_complete {
            return Verdict::Broken;
        }
        if plan.upgrades() && self.content != expected {
            assert!(tunnels_may_end, "the tunnel lost bytes at its end: {plan:?}");
            return Verdict::Broken;
        }
        // If the close of the connection ends the body, an early close is undetectable.
        let undetectable =
            plan.response.framed == Framed::UntilClose && matches!(plan.origin, OriginAction::ClosesAfter(_));
        assert!(self.content == expected || undetectable, "a truncated body looks complete: {plan:?}");
        if let (Framed::Chunks(_), true, false) = (plan.response.framed, has_content, plan.upgrades()) {
            assert_eq!(trailers, Some(&vec![("x-sum".to_owned(), plan.id.to_string())]), "{plan:?}");
        }
        Verdict::Complete
    }
}
