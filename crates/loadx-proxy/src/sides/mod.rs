//! The language of an exchange: heads, pieces of bodies, and how an exchange ended. It knows no version of HTTP.
//!
//! The drivers of the versions (`downstream/h1`, `upstream/h1`) implement these traits, and the exchange calls them.
//! Each side of an exchange comes in two halves, one that receives and one that sends, because both directions move
//! at the same time.

mod body;
mod own;

use std::sync::Arc;

use loadx_core::{Failure, Time};
use loadx_http::{Changes, Forwarding, RequestHead, Response};

use crate::io::Broken;
use crate::patience::Patience;
use crate::timer::Timer;

pub(crate) use body::{BodySink, BodySource, Filled, Piece, RelayFault};
pub(crate) use own::OwnResponse;

/// The client's side of one exchange.
pub(crate) struct Inbound<'c, R, W> {
    /// The request's content, as it comes.
    pub(crate) request: &'c mut R,
    /// Where the response goes.
    pub(crate) response: &'c mut W,
    /// How long the client may keep the exchange waiting.
    pub(crate) pace: &'c Pace<'c>,
}

/// How long a client may keep LoadX waiting: to send content, and to take the response. The exchange sets the times when
/// it knows the cluster.
#[derive(Debug)]
pub(crate) struct Pace<'t> {
    pub(crate) timer: &'t Timer,
    pub(crate) from_client: Patience,
    pub(crate) to_client: Patience,
}

/// How an exchange ended for its client. What becomes of the client's connection is the business of the driver.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The client has a whole response.
    Complete,
    /// The client has left, or has a part of a response only.
    BrokenOff,
}

/// The half of the client's side that receives the request's content.
pub(crate) trait RequestSource<P> {
    type Body: BodySource<Pipe = P>;

    fn body(&mut self) -> &mut Self::Body;

    /// Refuses content beyond `bytes`.
    fn set_content_max(&mut self, bytes: u64);

    /// Ends what HTTP frames: from now on the connection carries another protocol.
    fn switch(&mut self);

    /// Waits until the client has left. Content that the client sends meanwhile is kept.
    async fn departure(&mut self) -> Broken;

    /// The address that the client connected to, as an authority: for a request that names no host.
    fn local_authority(&self) -> String;
}

/// The half of the client's side that sends the response.
pub(crate) trait ResponseSink<P> {
    type Body: BodySink<Pipe = P>;

    fn body(&mut self) -> &mut Self::Body;

    /// Takes over the head of a response. The head leaves with the first piece of the body.
    fn head(&mut self, response: &Response<'_, '_>, changes: &ResponseChanges<'_>);

    /// Sends the head that was taken over, which is that of an interim response, if this client takes such responses.
    async fn interim(&mut self) -> Result<(), Broken>;

    /// Sends a whole response of LoadX's own. Returns how many bytes of content the client got.
    async fn own(&mut self, response: &OwnResponse<'_>, request_complete: bool) -> Result<u64, Broken>;

    /// Whether a part of a response is with the client, and the rest is not.
    fn is_unfinished(&self) -> bool;

    /// Ends what HTTP frames: from now on the connection carries another protocol.
    fn switch(&mut self);
}

/// What LoadX changes in a response.
#[derive(Copy, Clone, Debug)]
pub(crate) struct ResponseChanges<'c> {
    /// Fields that the client does not get, lower case.
    pub(crate) removed: &'c [Arc<str>],
    /// Whole field lines that are added.
    pub(crate) added: &'c [u8],
    /// The field line X-Request-Id.
    pub(crate) request_id_line: &'c [u8],
    /// LoadX's name in Via.
    pub(crate) via: Option<&'c str>,
    /// Whether all of the request has been passed on: the client sends nothing more for this exchange.
    pub(crate) request_complete: bool,
}

/// The half of the backend's side that sends the request.
pub(crate) trait RequestSink<P> {
    type Body: BodySink<Pipe = P>;

    fn body(&mut self) -> &mut Self::Body;

    /// Takes over the head of the request. The head leaves with the first piece of the body.
    fn head(&mut self, head: &RequestHead, forwarding: &Forwarding<'_>, changes: &Changes<'_>);
}

/// The half of the backend's side that receives the response.
pub(crate) trait ResponseSource<P> {
    type Body: BodySource<Pipe = P>;

    fn body(&mut self) -> &mut Self::Body;

    /// Waits for the head of a response until `deadline`, which may move meanwhile, and shows the head to `take`. What
    /// is here of the body by then is the first piece.
    async fn head<T>(
        &mut self,
        deadline: impl Fn() -> Time,
        take: impl FnMut(&Response<'_, '_>) -> T,
    ) -> Result<T, Failure>;
}
