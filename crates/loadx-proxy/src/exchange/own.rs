//! Requests that LoadX answers without a backend.

use std::rc::Rc;

use loadx_core::ProxyError;
use loadx_http::grpc::Status;

use super::routing::Own;
use crate::context::Worker;
use crate::incoming::Incoming;
use crate::net::{Network, PipeOf};
use crate::sides::{BodySource as _, Ending, Inbound, OwnResponse, RequestSource, ResponseSink, grpc_status_of};
use crate::telemetry::{Record, Request};

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
    let mut response = match own {
        Own::Endpoint(endpoint) => {
            let (status, json) = worker.ask(*endpoint).await;
            OwnResponse::endpoint(status, json, id)
        }
        Own::Options => OwnResponse::options(id),
        Own::Error(error) => OwnResponse::error_to(incoming.grpc.is_some(), error, id),
        Own::Redirect(status, location) => OwnResponse::redirect(*status, location, id),
        Own::Fixed(respond) => OwnResponse::fixed(respond, id),
    };
    let no_tunnel =
        ProxyError::new(501, "http_request_error", "LoadX answers this request itself, and opens no tunnel");
    let misleads = client.response.misleads(response.status);
    if misleads {
        response = OwnResponse::error(&no_tunnel, id);
    }
    response.fields.push_str(incoming.hsts_line());
    let request_complete = client.request.body().is_complete();
    let sent = client.response.own(&response, request_complete).await;
    // Requests for the status endpoints are not counted: they would change the counts that they show.
    if !matches!(own, Own::Endpoint(_)) {
        let error = match own {
            Own::Error(error) => Some(error.message.as_str()),
            _ => misleads.then_some(no_tunnel.message.as_str()),
        };
        worker.account(&Record {
            request: Request::Accepted(incoming),
            began: incoming.began,
            ended: client.pace.timer.now(),
            switched_at: None,
            status: if let Own::Error(error) = own { error.status } else { response.status },
            grpc: match own {
                Own::Error(error) => incoming.grpc.map(|_| grpc_status_of(error)),
                _ => incoming.grpc.map(|_| Status::of_http(response.status)),
            },
            broke_off: sent.is_err(),
            content: *sent.as_ref().unwrap_or(&0),
            backend: None,
            cluster: None,
            tries: 0,
            error,
        });
    }
    if sent.is_ok() { Ending::Complete } else { Ending::BrokenOff }
}
