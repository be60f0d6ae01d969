//! A parked client that sends again.

use std::pin::Pin;
use std::rc::Rc;

use crate::context::Worker;
use crate::downstream::client::Client;
use crate::downstream::sessions::Session;
use crate::downstream::{h1, h2};
use crate::net::{Network, StreamOf};

/// The future that serves a client connection that was parked, until the connection ends or is parked again. `closes`: whether the
/// connection closes as soon as the connection is idle.
///
/// The future takes some kilobytes. The box avoids copies of the future when a task is spawned.
pub(crate) fn resume<N: Network>(
    worker: Rc<Worker<N>>,
    client: Client<StreamOf<N>>,
    closes: bool,
) -> Pin<Box<dyn Future<Output = ()>>> {
    match client.h2.is_some() {
        true => with(worker, client, closes, h2::serve_connection),
        false => with(worker, client, closes, h1::serve_connection),
    }
}

fn with<N: Network, F: Future<Output = ()> + 'static>(
    worker: Rc<Worker<N>>,
    client: Client<StreamOf<N>>,
    closes: bool,
    serve: impl FnOnce(Rc<Worker<N>>, Session, Client<StreamOf<N>>) -> F + 'static,
) -> Pin<Box<dyn Future<Output = ()>>> {
    worker.sessions.announce();
    Box::pin(async move {
        let session = worker.sessions.enroll(client.listener).await;
        if closes {
            session.close_when_idle();
        }
        serve(worker, session, client).await;
    })
}
