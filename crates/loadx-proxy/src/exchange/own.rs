//! Requests that LoadX answers itself.

use std::rc::Rc;

use super::Next;
use crate::connection::Client;
use crate::context::Worker;
use crate::incoming::{Incoming, Own};
use crate::net::Network;
use crate::reply::{Manner, write_json, write_options};

pub(super) async fn answer<N: Network>(
    worker: &Rc<Worker<N>>,
    client: &mut Client<N::Stream>,
    incoming: &Incoming,
    own: Own,
) -> Next {
    let mut out = worker.buffers.head();
    let manner = || {
        let persistent = incoming.persistent && !incoming.has_body() && worker.keeps_connections();
        Manner { version: incoming.version, persistent, to_head: incoming.to_head }
    };
    let manner = match own {
        Own::Endpoint(endpoint) => {
            let (status, body) = worker.ask(endpoint).await;
            let manner = manner();
            write_json(status, "", &body, manner, &mut out);
            manner
        }
        Own::Options => {
            let manner = manner();
            write_options(manner, &mut out);
            manner
        }
    };
    match client.send(&out, worker.settings().timeouts.request).await {
        Ok(()) if manner.persistent => Next::KeepAlive,
        Ok(()) => Next::Linger,
        Err(_) => Next::Close,
    }
}
