//! The response to a request in HTTP/2.

use std::sync::Arc;

use loadx_http::h2::section::put_head;
use loadx_http::h2::{Connection, Server};
use loadx_http::{Answering, Response, Version};

use super::Served;
use crate::downstream::reply::{ReplyOptions, write_own};
use crate::h2::{BodyWriter, Heading};
use crate::io::Broken;
use crate::net::{Network, PipeOf};
use crate::patience::Patience;
use crate::sides::{BodySink as _, OwnResponse, Piece, ResponseChanges, ResponseSink};
use crate::timer::Timer;
use crate::wakes::NumberedWaker;

/// Sends the response of one exchange.
pub(super) struct ResponseWriter<'w, N: Network> {
    served: &'w Served<N>,
    body: BodyWriter<'w, Server, Arc<NumberedWaker>, PipeOf<N>, ResponseHeading>,
    wants: Wants,
}

/// What the request asks of its response.
#[derive(Copy, Clone, Debug)]
pub(super) struct Wants {
    pub(super) to_head: bool,
    pub(super) tunnel: bool,
}

/// How the head of the response becomes a field section.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct ResponseHeading {
    status: u16,
    /// Whether the head opens a tunnel.
    opens_tunnel: bool,
}

impl Heading<Server> for ResponseHeading {
    fn put(&self, connection: &mut Connection<Server>, stream: u32, ends: bool, text: &[u8], out: &mut Vec<u8>) -> u32 {
        connection.put_section(stream, ends, out, |out| put_head(self.status, text, self.opens_tunnel, out));
        stream
    }
}

impl<'w, N: Network> ResponseWriter<'w, N> {
    pub(super) fn new(
        served: &'w Served<N>,
        number: usize,
        timer: &'w Timer,
        patience: &'w Patience,
        wants: Wants,
    ) -> Self {
        let body = BodyWriter::new(&served.mux, number, timer, patience, ResponseHeading::default());
        ResponseWriter { served, body, wants }
    }
}

impl<'w, N: Network> ResponseSink<PipeOf<N>> for ResponseWriter<'w, N> {
    type Body = BodyWriter<'w, Server, Arc<NumberedWaker>, PipeOf<N>, ResponseHeading>;

    fn body(&mut self) -> &mut Self::Body {
        &mut self.body
    }

    fn head(&mut self, response: &Response<'_, '_>, changes: &ResponseChanges<'_>) {
        let date = response.lacks_date().then(|| self.served.worker.date());
        let answering = Answering {
            version: Version::Http2,
            framing: None,
            persistent: true,
            via: changes.via,
            date: date.as_deref(),
            request_id_line: Some(changes.request_id_line),
            removed: changes.removed,
            replaced: changes.replaced,
            added: changes.added,
        };
        self.body.head.clear();
        response.encode(&answering, &mut self.body.head);
        self.body.heading = ResponseHeading {
            // RFC 8441, section 5.
            status: if response.status() == 101 { 200 } else { response.status() },
            opens_tunnel: self.wants.tunnel && response.status() == 101,
        };
    }

    /// The client would take any 2xx for an open tunnel.
    fn misleads(&self, status: u16) -> bool {
        self.wants.tunnel && (200..300).contains(&status)
    }

    async fn interim(&mut self) -> Result<(), Broken> {
        self.body.send(Piece { content: b"", end: None }).await?;
        self.body.was_interim();
        Ok(())
    }

    async fn own(&mut self, response: &OwnResponse<'_>, _: bool) -> Result<u64, Broken> {
        self.body.head.clear();
        let options = ReplyOptions { version: Version::Http2, persistent: true, to_head: true };
        write_own(response, options, &self.served.worker.date(), &mut self.body.head);
        self.body.heading = ResponseHeading { status: response.status, opens_tunnel: false };
        let content = if self.wants.to_head { b"" } else { &*response.content };
        self.body.send(Piece { content, end: Some(b"") }).await?;
        Ok(content.len() as u64)
    }

    fn is_unfinished(&self) -> bool {
        self.body.is_unfinished()
    }

    fn departed(&self) -> Option<Broken> {
        self.body.departed()
    }

    fn switch(&mut self) {
        self.body.tunnel();
    }
}
