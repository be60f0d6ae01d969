//! The traits and types between an exchange and the drivers: heads, pieces of bodies, the end of an exchange. They are
//! independent of the HTTP version.
//!
//! The drivers of the versions (`downstream/h1`, `upstream/h1`) implement these traits; the exchange calls them. Each
//! side has a receiving half and a sending half, because both directions move at the same time.

mod body;
mod own;

use std::net::SocketAddr;
use std::sync::Arc;

use loadx_core::{Failure, Time};
use loadx_http::{Changes, Forwarding, RequestHead, Response};

use crate::io::Broken;
use crate::origin::Origin;
use crate::patience::Patience;
use crate::timer::Timer;

pub(crate) use body::{BodySink, BodySource, Filled, Piece, RelayFault};
pub(crate) use own::{OwnResponse, grpc_status_of};

/// The client's side of one exchange.
pub(crate) struct Inbound<'c, R, W> {
    /// Where the client's connection comes from.
    pub(crate) origin: &'c Origin,
    /// The half that receives the content of the request.
    pub(crate) request: &'c mut R,
    /// The half that sends the response.
    pub(crate) response: &'c mut W,
    /// How long the exchange waits for the client.
    pub(crate) pace: &'c Pace<'c>,
}

/// How long LoadX waits for a client that sends content or receives the response. The exchange sets the times after
/// routing, because they depend on the cluster.
#[derive(Debug)]
pub(crate) struct Pace<'t> {
    pub(crate) timer: &'t Timer,
    pub(crate) from_client: Patience,
    pub(crate) to_client: Patience,
}

/// How an exchange ended for its client. The driver decides whether the connection stays open.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// LoadX sent a complete response.
    Complete,
    /// The client closed its connection, or got only a part of a response.
    BrokenOff,
}

/// The half of the client's side that receives the content of the request.
pub(crate) trait RequestSource<P> {
    type Body: BodySource<Pipe = P>;

    fn body(&mut self) -> &mut Self::Body;

    /// The address to which the peer of the connection connected.
    fn local_addr(&self) -> Option<SocketAddr>;

    /// Limits the content; a larger body ends with `BodyFault::TooLarge`.
    fn set_content_max(&mut self, bytes: u64);

    /// Ends HTTP framing after a switch to another protocol.
    fn switch(&mut self);

    /// Waits until the client ends its direction or its connection breaks. Buffers the content that arrives meanwhile.
    async fn departure(&mut self) -> Broken;

    /// Removes the trailer fields of these names.
    fn remove_trailers(&mut self, names: &[Arc<str>]);
}

/// The half of the client's side that sends the response.
pub(crate) trait ResponseSink<P> {
    type Body: BodySink<Pipe = P>;

    fn body(&mut self) -> &mut Self::Body;

    /// Encodes the head of a response. The head is sent with the first piece of the body.
    fn head(&mut self, response: &Response<'_, '_>, changes: &ResponseChanges<'_>);

    /// Whether the client would misunderstand a response with this status that switches to no other protocol.
    fn misleads(&self, status: u16) -> bool;

    /// Sends the encoded head of an interim response, or discards the head if the client's HTTP version has no interim
    /// responses.
    async fn interim(&mut self) -> Result<(), Broken>;

    /// Sends a whole response of LoadX's own. Returns the number of sent content bytes.
    async fn own(&mut self, response: &OwnResponse<'_>, request_complete: bool) -> Result<u64, Broken>;

    /// Whether LoadX has sent a part of a response but not all of it.
    fn is_unfinished(&self) -> bool;

    /// How the client has left, if that is known without waiting.
    fn departed(&self) -> Option<Broken> {
        None
    }

    /// Ends HTTP framing after a switch to another protocol.
    fn switch(&mut self);
}

/// The changes of LoadX to a response.
#[derive(Copy, Clone, Debug)]
pub(crate) struct ResponseChanges<'c> {
    /// Names of fields to remove, in lower case.
    pub(crate) removed: &'c [Arc<str>],
    /// The name, in lower case, of a field of the backend that a field of `added` replaces.
    pub(crate) replaced: Option<&'c str>,
    /// Field lines to add, each with its CR LF.
    pub(crate) added: &'c [u8],
    /// The field line of X-Request-Id.
    pub(crate) request_id_line: &'c [u8],
    /// The name of LoadX in Via; `None` adds no Via.
    pub(crate) via: Option<&'c str>,
    /// Whether LoadX has sent the whole request to the backend. Otherwise the client's connection cannot be reused.
    pub(crate) request_complete: bool,
}

/// The half of the backend's side that sends the request.
pub(crate) trait RequestSink<P> {
    type Body: BodySink<Pipe = P>;

    fn body(&mut self) -> &mut Self::Body;

    /// Encodes the head of the request. The head is sent with the first piece of the body.
    fn head(&mut self, head: &RequestHead, forwarding: &Forwarding<'_>, changes: &Changes<'_>);
}

/// The half of the backend's side that receives the response.
pub(crate) trait ResponseSource<P> {
    type Body: BodySource<Pipe = P>;

    fn body(&mut self) -> &mut Self::Body;

    /// Waits for the head of a response until `deadline`, which may change during the wait, and calls `take` with the
    /// head. The part of the body that has arrived by then becomes the first piece.
    async fn head<T>(
        &mut self,
        deadline: impl Fn() -> Time,
        take: impl FnMut(&Response<'_, '_>) -> T,
    ) -> Result<T, Failure>;
}
