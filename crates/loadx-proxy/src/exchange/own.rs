//! Requests that LoadX answers without a backend.

use std::rc::Rc;

use loadx_core::route::DashboardPart;
use loadx_core::{ErrorKind, ProxyError};
use loadx_http::grpc::Status;

use super::live;
use super::routing::{self, Own};
use crate::context::Worker;
use crate::dashboard;
use crate::incoming::Incoming;
use crate::net::{Network, PipeOf};
use crate::sides::{BodySource as _, Ending, Inbound, OwnResponse, RequestSource, ResponseSink, grpc_status_of};
use crate::telemetry::{Cause, Record, Request};

pub(super) async fn answer<N, R, W>(
    worker: &Rc<Worker<N>>,
    incoming: &Incoming,
    client: Inbound<'_, R, W>,
    own: &Own,
) -> Ending
where
    N: Network,
    R: RequestSource<PipeOf<N>>,
    W: ResponseSink<PipeOf<N>>,
{
    let id = &incoming.id;
    if matches!(own, Own::Dashboard(DashboardPart::Stream))
        && let Some(feed) = worker.shared.live.subscribe()
    {
        return live::stream(worker, incoming, client, feed).await;
    }
    let mut response = match own {
        Own::Dashboard(DashboardPart::File(file)) => dashboard::response(*file, id),
        Own::Dashboard(DashboardPart::Stream) => OwnResponse::error(&live::crowded(), id),
        Own::Dashboard(DashboardPart::Action) => live::act(worker, incoming).await,
        Own::Endpoint(asked) => OwnResponse::endpoint(worker.ask(*asked).await, id),
        Own::Options => OwnResponse::options(id),
        Own::Error(error) => OwnResponse::error_to(incoming.grpc.is_some(), error, id),
        Own::Redirect(status, location) => OwnResponse::redirect(*status, location, id),
        Own::Fixed(respond) => OwnResponse::fixed(respond, id),
    };
    let no_tunnel =
        ProxyError::new(501, ErrorKind::HttpRequestError, "LoadX answers this request itself, and opens no tunnel");
    let misleads = client.response.misleads(response.status);
    if misleads {
        response = OwnResponse::error(&no_tunnel, id);
    }
    routing::own_lines(incoming, &mut response.fields);
    let request_complete = client.request.body().is_complete();
    let sent = client.response.own(&response, request_complete).await;
    // Requests for the status endpoints are not counted: they would change the counts that they show.
    if !matches!(own, Own::Endpoint(_) | Own::Dashboard(_)) {
        let error = match own {
            Own::Error(error) => Some(Cause::of(error)),
            _ => misleads.then(|| Cause::of(&no_tunnel)),
        };
        let status = if let Own::Error(error) = own { error.status } else { response.status };
        let request = Request::Accepted(incoming);
        let record = Record {
            grpc: match own {
                Own::Error(error) => incoming.grpc.map(|_| grpc_status_of(error)),
                _ => incoming.grpc.map(|_| Status::of_http(response.status)),
            },
            broke_off: sent.is_err(),
            received: client.request.body().content(),
            content: *sent.as_ref().unwrap_or(&0),
            error,
            ..Record::new(request, incoming.began, client.pace.timer.now(), status)
        };
        worker.account(&record);
        if let Some(notes) = &incoming.explain {
            worker.explanations.keep_asked(&record, notes.take());
        }
    }
    if sent.is_ok() { Ending::Complete } else { Ending::BrokenOff }
}
