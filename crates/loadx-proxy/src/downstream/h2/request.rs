//! The request of an exchange in HTTP/2.

use std::net::SocketAddr;
use std::sync::Arc;

use loadx_http::h2::Server;

use super::Served;
use crate::h2::BodyReader;
use crate::io::Broken;
use crate::net::{Network, PipeOf, Stream as _};
use crate::patience::Patience;
use crate::sides::RequestSource;
use crate::timer::Timer;
use crate::wakes::NumberedWaker;

/// Receives the content of one request.
pub(super) struct RequestReader<'r, N: Network> {
    served: &'r Served<N>,
    body: BodyReader<'r, Server, Arc<NumberedWaker>, PipeOf<N>>,
}

impl<'r, N: Network> RequestReader<'r, N> {
    /// `awaits_tunnel`: whether the request asks for a tunnel, and so has no content.
    pub(super) fn new(
        served: &'r Served<N>,
        number: usize,
        timer: &'r Timer,
        patience: &'r Patience,
        awaits_tunnel: bool,
    ) -> Self {
        let mut body = BodyReader::new(&served.mux, number, timer, patience);
        if awaits_tunnel {
            body.await_tunnel();
        }
        RequestReader { served, body }
    }
}

impl<'r, N: Network> RequestSource<PipeOf<N>> for RequestReader<'r, N> {
    type Body = BodyReader<'r, Server, Arc<NumberedWaker>, PipeOf<N>>;

    fn body(&mut self) -> &mut Self::Body {
        &mut self.body
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.served.stream().local_addr().ok()
    }

    fn set_content_max(&mut self, bytes: u64) {
        self.body.set_content_max(bytes);
    }

    fn switch(&mut self) {
        self.body.tunnel();
    }

    /// The client has departed when it has reset the stream, or when the connection is gone.
    async fn departure(&mut self) -> Broken {
        self.body.end().await
    }

    fn remove_trailers(&mut self, names: &[Arc<str>]) {
        self.body.remove_trailers(names);
    }
}
