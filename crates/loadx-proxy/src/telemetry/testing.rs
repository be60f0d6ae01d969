//! Records for tests.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use loadx_core::config::parse;
use loadx_core::plan::{Desired, Plan};
use loadx_core::{Ids, ListenerId, Time};
use loadx_http::parse_request;

use super::record::{Record, Request};
use crate::buffers::Buffers;
use crate::incoming::Incoming;
use crate::request_id::RequestId;
use crate::shared::LocalPlan;

static ID: RequestId = RequestId::made(0xab);

pub(super) fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

fn listener() -> ListenerId {
    Ids::default().listener()
}

/// A record of a refused request with this end, duration and status.
pub(super) fn refused(ended: Time, took_ms: u64, status: u16) -> Record<'static> {
    let request = Request::Refused {
        listener: listener(),
        listener_name: None,
        client: [192, 0, 2, 1].into(),
        id: &ID,
        line: (b"GET", b"/a\"b\n\xe9"),
        host: None,
    };
    let began = Time::from_nanos(ended.as_nanos().saturating_sub(took_ms * 1_000_000));
    Record { content: 13, ..Record::new(request, began, ended, status) }
}

/// The plan of a config with one cluster of one backend, `backend-1`.
pub(super) fn plan() -> Arc<Plan> {
    let text = r#"{"backend_servers": [{"host": "192.0.2.9", "port": 80, "name": "backend-1"}]}"#;
    let (desired, _) = Desired::new(Time::ZERO, &parse(text).expect("the config is valid"));
    Arc::clone(desired.plan())
}

/// A request with this head that matches the only route of `plan`.
pub(super) fn incoming(plan: Arc<Plan>, head: &[u8]) -> Incoming {
    let mut request = Rc::<Buffers>::default().request();
    parse_request(head, &mut request).expect("the head is valid");
    Incoming {
        grpc: None,
        id: ID.clone(),
        began: at(1),
        plan: LocalPlan::new(plan, 0),
        listener: 0,
        peer: [192, 0, 2, 1].into(),
        tls: None,
        peer_trusted: false,
        client: [192, 0, 2, 1].into(),
        head: request,
        trace: None,
        explain: None,
        is_spare: false,
        route: Some(0),
    }
}
