//! Requests that LoadX answers itself.

use std::rc::Rc;

use super::Next;
use super::routing::Own;
use crate::connection::Client;
use crate::context::Worker;
use crate::incoming::Incoming;
use crate::net::Network;
use crate::reply::{Manner, write_error, write_fixed, write_json, write_options, write_redirect};
use crate::telemetry::{Record, Request};

pub(super) async fn answer<N: Network>(
    worker: &Rc<Worker<N>>,
    client: &mut Client<N::Stream>,
    incoming: &Incoming,
    own: &Own,
) -> Next {
    let told = match own {
        Own::Endpoint(endpoint) => Some(worker.ask(*endpoint).await),
        _ => None,
    };
    let persistent = incoming.persistent && !incoming.has_body() && worker.keeps_connections();
    let manner = Manner { version: incoming.head.version(), persistent, to_head: incoming.head.is_head() };
    let mut out = worker.buffers.head();
    let id = &incoming.id;
    let (status, content) = match (own, told) {
        (Own::Endpoint(_), told) => {
            let (status, body) = told.unwrap_or((503, Vec::new()));
            (status, write_json(status, "", &body, manner, &mut out))
        }
        (Own::Options, _) => {
            write_options(manner, &mut out);
            (200, 0)
        }
        (Own::Error(error), _) => (error.status, write_error(error, id, manner, &mut out)),
        (Own::Redirect(status, location), _) => (*status, write_redirect(*status, location, id, manner, &mut out)),
        (Own::Fixed(respond), _) => (respond.status, write_fixed(respond, id, manner, &mut out)),
    };
    let sent = client.send(&out, incoming.plan.process.timeouts.request).await;
    // Those that look at the endpoints do not want to see their own looking; everything else is a request.
    if !matches!(own, Own::Endpoint(_)) {
        let error = match own {
            Own::Error(error) => Some(error.message.as_str()),
            _ => None,
        };
        worker.account(&Record {
            request: Request::Accepted(incoming),
            began: incoming.began,
            ended: client.timer.now(),
            switched_at: None,
            status,
            broke_off: sent.is_err(),
            content: if sent.is_ok() { content } else { 0 },
            backend: None,
            cluster: None,
            tries: 0,
            error,
        });
    }
    match sent {
        Ok(()) if persistent => Next::KeepAlive,
        Ok(()) => Next::Linger,
        Err(_) => Next::Close,
    }
}
