//! All of LoadX's I/O: workers that carry exchanges, and the control that judges backends.
//!
//! A request's way, each step one module: accept (`worker`), head (`downstream`), route (`exchange/routing`), pick and
//! retry (`exchange`), connection (`upstream`), both bodies (`relay`), counts and access log (`telemetry`). An exchange
//! knows its two sides by the halves in `sides` and no version of HTTP; `downstream/h1` and `upstream/h1` do.
//! Control (`control`) probes backends, resolves names, publishes plans and views, and answers the status endpoints.
//!
//! Everything is generic over the [`Network`], so that the whole proxy also runs on a simulated one.

mod accept;
mod address;
mod buffers;
mod client_counts;
mod clock;
mod context;
mod control;
mod dashboard;
mod date;
mod downstream;
mod error;
mod exchange;
mod explain_rule;
mod explanations;
mod h1;
mod h2;
mod handle;
mod incoming;
mod io;
pub mod limits;
mod listening;
mod live;
mod messages;
mod net;
mod observed;
mod origin;
mod patience;
mod pipes;
mod proxy;
mod proxy_protocol;
mod relay;
mod request_id;
mod shared;
mod sides;
mod telemetry;
mod timer;
mod tls;
mod tunnels;
mod upstream;
mod wakes;
mod worker;

pub use error::{ApplyError, StartError};
pub use explanations::{AttemptExplanation, CandidateExplanation, Explanation, RouteNotTaken};
pub use handle::Handle;
pub use listening::Listening;
pub use live::BackendAction;
pub use messages::{Applied, EndpointAnswer, HandedOver};
pub use net::{InheritedFor, InheritedSocket, Listener, Network, Resolved, Stream, Tcp};
pub use observed::{Counts, EventRecord, ExchangeCounts, ListenerDrain, ListenerObserved, Observed};
pub use proxy::{Inherited, Local, Running, start, start_local};
pub use telemetry::{LostSpans, MetricsFormat, SpanBatch, export_request};
pub use tls::{
    BackendShown, Challenges, Elsewhere, FileFaults, Identity, IdentityError, Keyring, Reason, Summary, TlsError,
    client_config, explain_backend, explain_listener, faults_of_files,
};
