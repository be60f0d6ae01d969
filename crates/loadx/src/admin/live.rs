//! What goes on, each second, for `loadx top`.

use std::convert::Infallible;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, Stream, StreamExt as _};
use tokio::sync::broadcast::error::RecvError;

use super::routes::Failed;
use crate::manager::Manager;

/// What goes on, each second, as server-sent events: `opening` with the last minutes, then `tick`. The same as the dashboard
/// gets; the content may change with versions of LoadX.
#[utoipa::path(get, path = "/v1/live", responses((status = 200, content_type = "text/event-stream", body = String)))]
pub(super) async fn live(
    State(manager): State<Manager>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Failed> {
    let busy = || Failed::new(StatusCode::SERVICE_UNAVAILABLE, "as many follow LoadX already as may; end one of them");
    let (opening, messages) = manager.proxy().live().ok_or_else(busy)?;
    let first = stream::once(async move { Ok(Event::default().event("opening").data(&*opening)) });
    let ticks = stream::unfold((messages, manager), |(mut messages, manager)| async move {
        loop {
            let next = tokio::select! {
                next = messages.recv() => next,
                // Another process takes over, and knows what goes on from now on.
                _ = manager.successor() => return None,
            };
            match next {
                Ok(message) => return Some((Ok(Event::default().event("tick").data(&*message)), (messages, manager))),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    });
    Ok(Sse::new(first.chain(ticks)).keep_alive(KeepAlive::default()))
}
