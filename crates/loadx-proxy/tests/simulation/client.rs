//! Clients of the simulation: they send what their plans say, and judge what comes back.

use std::future::{pending, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use loadx_proxy::Stream as _;
use tokio::sync::Notify;

use crate::plan::{ClientTurn, Framed, OriginTurn, Plan};
use crate::stream::SimStream;
use crate::wire::{End, Framing, Head, Wire, chunked, send};

/// How it went with one request, as its client sees it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// The planned response arrived, whole and unchanged.
    Answered,
    /// LoadX said why there is none.
    Told(u16),
    /// The response broke off, visibly.
    Broken,
    /// Nothing came.
    Nothing,
}

/// One connection of a client, and what it means to do on it.
pub(crate) struct Conversation {
    pub(crate) version: &'static str,
    pub(crate) plans: Vec<Plan>,
}

impl Conversation {
    /// Sends the requests one behind the other, without waiting, and judges the responses.
    pub(crate) async fn hold(&self, stream: SimStream) -> Vec<Verdict> {
        let mut wire = Wire::new(stream);
        let stream = Rc::clone(&wire.stream);
        let mut verdicts = vec![Verdict::Nothing; self.plans.len()];
        let go_on = Notify::new();
        {
            let mut writing = pin!(self.write(&stream, &go_on));
            let mut reading = pin!(self.read(&mut wire, &go_on, &mut verdicts));
            poll_fn(|cx| match reading.as_mut().poll(cx) {
                Poll::Pending => writing.as_mut().poll(cx),
                ready => ready,
            })
            .await;
        }
        verdicts
    }

    /// Ends when the client leaves.
    async fn write(&self, stream: &SimStream, go_on: &Notify) {
        for plan in &self.plans {
            let (head, body) = self.request(plan);
            let outcome = match plan.client {
                ClientTurn::LeavesAfter(count) | ClientTurn::StallsAfter(count) => {
                    let all = [head, body].concat();
                    let sent = send(stream, &all[..count.min(all.len())]).await;
                    if let ClientTurn::LeavesAfter(_) = plan.client {
                        return;
                    }
                    sent.and(Err(()))
                }
                _ if plan.expect => match send(stream, &head).await {
                    Ok(()) => {
                        let _ = tokio::time::timeout(Duration::from_secs(3), go_on.notified()).await;
                        send(stream, &body).await
                    }
                    failed => failed,
                },
                _ => send(stream, &[head, body].concat()).await,
            };
            if let ClientTurn::LeavesWaiting(millis) = plan.client {
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

    async fn read(&self, wire: &mut Wire, go_on: &Notify, verdicts: &mut [Verdict]) {
        for (plan, verdict) in self.plans.iter().zip(verdicts) {
            if let ClientTurn::ReadsLate(millis) = plan.client {
                tokio::time::sleep(Duration::from_millis(millis)).await;
            }
            let persistent = self.response(wire, plan, go_on, verdict).await;
            if !persistent {
                return;
            }
        }
        // All that was asked is answered: nothing else may come.
        let more = tokio::time::timeout(Duration::from_secs(1), wire.more()).await;
        assert!(!matches!(more, Ok(Ok(()))), "nobody asked for {:?}", String::from_utf8_lossy(&wire.unread));
    }

    /// Reads and judges one response; whether the connection goes on.
    async fn response(&self, wire: &mut Wire, plan: &Plan, go_on: &Notify, verdict: &mut Verdict) -> bool {
        let head = loop {
            let head = match wire.head().await {
                Ok(head) => head,
                Err(end) => {
                    let begun = !wire.unread.is_empty();
                    let half = String::from_utf8_lossy(&wire.unread);
                    assert!(!begun || end == End::Broken, "half a head ended in good order: {half:?}, {plan:?}");
                    *verdict = if begun { Verdict::Broken } else { Verdict::Nothing };
                    return false;
                }
            };
            go_on.notify_one();
            if !(100..200).contains(&head.status()) || head.status() == 101 {
                break head;
            }
            assert_eq!(self.version, "HTTP/1.1", "HTTP/1.0 knows no {}", head.status());
        };
        let persistent = match (self.version, head.field("connection")) {
            ("HTTP/1.1", connection) => connection != Some("close"),
            (_, connection) => connection == Some("keep-alive"),
        };
        if head.field("proxy-status").is_some() {
            *verdict = Verdict::Told(head.status());
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
            "the response is another's: {head:?}, {plan:?}"
        );
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
            return Verdict::Answered;
        }
        let framing = head.framing().unwrap_or(Framing::UntilClose);
        assert!(self.version == "HTTP/1.1" || framing != Framing::Chunked, "HTTP/1.0 knows no chunks");
        let expected = plan.response_content();
        let body = wire.body(framing).await;
        assert!(expected.starts_with(&body.content), "content was changed: {plan:?}");
        if body.cut.is_some() {
            return Verdict::Broken;
        }
        // Where closing is the end, an origin that closes early cannot be found out by anybody.
        let undetectable =
            plan.response.framed == Framed::UntilClose && matches!(plan.origin, OriginTurn::ClosesAfter(_));
        assert!(body.content == expected || undetectable, "half a body looks whole: {plan:?}, {framing:?}");
        if let (Framed::Chunks(_), Framing::Chunked) = (plan.response.framed, framing) {
            assert_eq!(body.trailers, format!("X-Sum: {}\r\n", plan.id));
        }
        Verdict::Answered
    }

    /// Sends into the tunnel, ends its direction, and expects all of it back.
    async fn tunnel(&self, wire: &mut Wire, plan: &Plan) -> Verdict {
        let content = plan.tunnel_content();
        let stream = Rc::clone(&wire.stream);
        let sending = async {
            let _ = send(&stream, &content).await;
            stream.shut_write();
        };
        let (body, ()) = tokio::join!(wire.body(Framing::UntilClose), sending);
        let expected = [b"early".as_slice(), &content].concat();
        assert!(expected.starts_with(&body.content), "the tunnel changed what it carried: {plan:?}");
        if body.cut.is_some() {
            return Verdict::Broken;
        }
        assert!(body.content == expected, "the tunnel lost its end: {plan:?}");
        Verdict::Answered
    }
}
