//! Requests that LoadX answers itself.

use std::rc::Rc;

use super::Next;
use crate::connection::Client;
use crate::context::{Account, Worker};
use crate::incoming::{Incoming, Own};
use crate::net::Network;
use crate::reply::{Manner, write_json, write_options};

pub(super) async fn answer<N: Network>(
    worker: &Rc<Worker<N>>,
    client: &mut Client<N::Stream>,
    incoming: &Incoming,
    own: Own,
) -> Next {
    let told = match own {
        Own::Endpoint(endpoint) => Some(worker.ask(endpoint).await),
        Own::Options => None,
    };
    let persistent = incoming.persistent && !incoming.has_body() && worker.keeps_connections();
    let manner = Manner { version: incoming.version, persistent, to_head: incoming.to_head };
    let mut out = worker.buffers.head();
    match told {
        Some((status, body)) => {
            write_json(status, "", &body, manner, &mut out);
        }
        None => write_options(manner, &mut out),
    }
    let sent = client.send(&out, worker.settings().attempt.response).await;
    // Who looks at the endpoints does not want to see its own looking; what a client asks is a request.
    if own == Own::Options {
        worker.account(&Account {
            now: client.timer.now(),
            incoming,
            status: 200,
            broke_off: sent.is_err(),
            content: 0,
            backend: None,
            tries: 0,
            error: None,
            switched_at: None,
        });
    }
    match sent {
        Ok(()) if persistent => Next::KeepAlive,
        Ok(()) => Next::Linger,
        Err(_) => Next::Close,
    }
}
