//! Clients of the simulation: they send the requests of their plans and check the responses.

use std::future::{pending, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use loadx_proxy::Stream as _;
use tokio::sync::Notify;

use crate::h2_client;
use crate::plan::{ClientAction, Framed, OriginAction, Plan};
use crate::stream::SimStream;
use crate::wire::{End, Framing, Head, Wire, chunked, send};

/// The result of one request for its client.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// The planned response arrived, complete and unchanged.
    Complete,
    /// LoadX sent an error response with this status.
    Error(u16),
    /// The connection broke in the response.
    Broken,
    /// No response arrived.
    NoResponse,
}

/// The planned requests of one client connection.
pub(crate) struct Conversation {
    pub(crate) version: &'static str,
    pub(crate) plans: Vec<Plan>,
    /// Whether LoadX may end a tunnel, at the end of a drain or of the shutdown's grace.
    pub(crate) tunnels_may_end: bool,
    /// Whether the connection has TLS.
    pub(crate) is_secure: bool,
}

impl Conversation {
    /// Sends the requests without waiting for responses, and checks the responses.
    pub(crate) async fn run(&self, stream: SimStream) -> Vec<Verdict> {
        if self.version == "HTTP/2.0" {
            return h2_client::run(self, stream).await;
        }
        let mut wire = Wire::new(stream);
        let stream = Rc::clone(&wire.stream);
        let mut verdicts = vec![Verdict::NoResponse; self.plans.len()];
        let continued = Notify::new();
        {
            let mut writing = pin!(self.write(&stream, &continued));
            let mut reading = pin!(self.read(&mut wire, &continued, &mut verdicts));
            poll_fn(|cx| match reading.as_mut().poll(cx) {
                Poll::Pending => writing.as_mut().poll(cx),
                ready => ready,
            })
            .await;
        }
        verdicts
    }

    /// Sends the requests. Returns when the client closes its connection early.
    async fn write(&self, stream: &SimStream, continued: &Notify) {
        for plan in &self.plans {
            let (head, body) = self.request(plan);
            let outcome = match plan.client {
                ClientAction::ClosesAfter(count) | ClientAction::StallsAfter(count) => {
                    let all = [head, body].concat();
                    let sent = send(stream, &all[..count.min(all.len())]).await;
                    if let ClientAction::ClosesAfter(_) = plan.client {
                        return;
                    }
                    sent.and(Err(()))
                }
                _ if plan.expect => match send(stream, &head).await {
                    Ok(()) => {
                        let _ = tokio::time::timeout(Duration::from_secs(3), continued.notified()).await;
                        send(stream, &body).await
                    }
                    failed => failed,
                },
                _ => send(stream, &[head, body].concat()).await,
            };
            if let ClientAction::ClosesWaiting(millis) = plan.client {
                tokio::time::sleep(Duration::from_millis(millis)).await;
                return;
            }
            if outcome.is_err() || plan.upgrades() {
                break;
            }
        }
        pending::<()>().await;
    }

    fn request(&self, plan: &Plan) -> (Vec<u8>, Vec<u8>) {
        let Plan { id, method, .. } = plan;
        let mut head = format!("{method} /r/{id} {}\r\nHost: sim\r\nKeep-Alive: 9\r\nX-Mark: {id}\r\n", self.version);
        if plan.expect {
            head.push_str("Expect: 100-continue\r\n");
        }
        if plan.upgrades() {
            head.push_str("Connection: upgrade\r\nUpgrade: echo\r\n");
        }
        let content = plan.request_content();
        let body = match plan.request.framed {
            Framed::Length => {
                head.push_str(&format!("Content-Length: {}\r\n", content.len()));
                content
            }
            Framed::Chunks(size) => {
                head.push_str("Transfer-Encoding: chunked\r\n");
                chunked(&content, size, ";a=b", &format!("X-Sum: {id}\r\n"))
            }
            Framed::None | Framed::UntilClose => Vec::new(),
        };
        head.push_str("\r\n");
        (head.into_bytes(), body)
    }

    async fn read(&self, wire: &mut Wire, continued: &Notify, verdicts: &mut [Verdict]) {
        for (plan, verdict) in self.plans.iter().zip(verdicts) {
            if let ClientAction::ReadsLate(millis) = plan.client {
                tokio::time::sleep(Duration::from_millis(millis)).await;
            }
            let persistent = self.response(wire, plan, continued, verdict).await;
            if !persistent {
                return;
            }
        }
        // After the last response, no further bytes may arrive.
        let more = tokio::time::timeout(Duration::from_secs(1), wire.more()).await;
        assert!(
            !matches!(more, Ok(Ok(()))),
            "bytes after the last response: {:?}",
            String::from_utf8_lossy(&wire.unread)
        );
    }

    /// Reads and checks one response. Returns whether the connection stays open.
    async fn response(&self, wire: &mut Wire, plan: &Plan, continued: &Notify, verdict: &mut Verdict) -> bool {
        let head = loop {
            let head = match wire.head().await {
                Ok(head) => head,
                Err(end) => {
                    let begun = !wire.unread.is_empty();
                    let half = String::from_utf8_lossy(&wire.unread);
                    assert!(
                        !begun || end == End::Broken,
                        "the connection ended without a reset in a head: {half:?}, {plan:?}"
                    );
                    *verdict = if begun { Verdict::Broken } else { Verdict::NoResponse };
                    return false;
                }
            };
            continued.notify_one();
            if !(100..200).contains(&head.status()) || head.status() == 101 {
                break head;
            }
            assert_eq!(self.version, "HTTP/1.1", "HTTP/1.0 has no {}", head.status());
        };
        let persistent = match (self.version, head.field("connection")) {
            ("HTTP/1.1", connection) => connection != Some("close"),
            (_, connection) => connection == Some("keep-alive"),
        };
        if head.field("proxy-status").is_some() {
            *verdict = Verdict::Error(head.status());
            if plan.method != "HEAD" {
                let body = wire.body(head.framing().unwrap()).await;
                if body.cut.is_some() {
                    *verdict = Verdict::Broken;
                }
                if std::env::var("LOADX_SEED").is_ok() {
                    println!("{}: {}", plan.id, String::from_utf8_lossy(&body.content));
                }
            }
            return persistent;
        }
        assert_eq!(
            head.field("x-id"),
            Some(plan.id.to_string().as_str()),
            "the response belongs to another request: {head:?}, {plan:?}"
        );
        // LoadX does not change the fields of interim responses, and a 101 is one.
        if let Some(seen) = head.field("x-seen-plan").filter(|_| head.status() != 101) {
            assert_eq!(head.field("x-plan"), Some(seen), "an exchange saw two plans: {plan:?}");
        }
        if head.status() == 101 {
            *verdict = self.tunnel(wire, plan).await;
            return false;
        }
        assert_eq!(head.status(), plan.status);
        *verdict = self.content(wire, plan, &head).await;
        persistent
    }

    async fn content(&self, wire: &mut Wire, plan: &Plan, head: &Head) -> Verdict {
        if plan.method == "HEAD" || matches!(plan.status, 204 | 304) {
            return Verdict::Complete;
        }
        let framing = head.framing().unwrap_or(Framing::UntilClose);
        assert!(self.version == "HTTP/1.1" || framing != Framing::Chunked, "HTTP/1.0 has no chunks");
        let expected = plan.response_content();
        let body = wire.body(framing).await;
        assert!(expected.starts_with(&body.content), "the content was changed: {plan:?}");
        if body.cut.is_some() {
            return Verdict::Broken;
        }
        // If the close of the connection ends the body, an early close is undetectable.
        let undetectable =
            plan.response.framed == Framed::UntilClose && matches!(plan.origin, OriginAction::ClosesAfter(_));
        assert!(body.content == expected || undetectable, "a truncated body looks complete: {plan:?}, {framing:?}");
        if let (Framed::Chunks(_), Framing::Chunked) = (plan.response.framed, framing) {
            // Names in HTTP/2 are in lower case.
            assert_eq!(body.trailers.to_lowercase(), format!("x-sum: {}\r\n", plan.id));
        }
        Verdict::Complete
    }

    /// Sends bytes into the tunnel, ends the direction, and expects the same bytes back.
    async fn tunnel(&self, wire: &mut Wire, plan: &Plan) -> Verdict {
        let content = plan.tunnel_content();
        let stream = Rc::clone(&wire.stream);
        let sending = async {
            let _ = send(&stream, &content).await;
            stream.shut_write();
        };
        let (body, ()) = tokio::join!(wire.body(Framing::UntilClose), sending);
        let expected = [b"early".as_slice(), &content].concat();
        assert!(expected.starts_with(&body.content), "the tunnel changed the bytes: {plan:?}");
        if body.cut.is_some() {
            return Verdict::Broken;
        }
        if body.content != expected {
            assert!(self.tunnels_may_end, "the tunnel lost bytes at its end: {plan:?}");
            return Verdict::Broken;
        }
        Verdict::Complete
    }
}
