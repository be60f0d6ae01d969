//! A request on its way from the client's connection to an exchange.

use std::net::IpAddr;

use loadx_core::Time;
use loadx_http::{Framing, Version};

use crate::buffers::HeadBuffer;
use crate::messages::Endpoint;
use crate::request_id::RequestId;

/// A request whose head was read and found sound.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) id: RequestId,
    pub(crate) began: Time,
    /// Who asks, behind trusted proxies.
    pub(crate) client: IpAddr,
    /// Set when the request is for LoadX itself.
    pub(crate) own: Option<Own>,
    /// The head as a backend gets it. It begins with the method, a space and the target.
    pub(crate) head: HeadBuffer,
    pub(crate) method_length: usize,
    pub(crate) target_length: usize,
    pub(crate) framing: Framing,
    pub(crate) version: Version,
    pub(crate) persistent: bool,
    /// Whether the client itself ends the connection after this.
    pub(crate) wants_close: bool,
    /// Whether it waits for a 100 before it sends content.
    pub(crate) expects_continue: bool,
    /// Whether it is a HEAD.
    pub(crate) to_head: bool,
    pub(crate) idempotent: bool,
    /// The protocols that it offers to go on in.
    pub(crate) offered: Option<Vec<u8>>,
}

/// What LoadX is asked itself.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Own {
    /// A status endpoint.
    Endpoint(Endpoint),
    /// An OPTIONS that may not be passed on any more (RFC 9110, section 7.6.2).
    Options,
}

impl Incoming {
    pub(crate) fn method(&self) -> &[u8] {
        &self.head[..self.method_length]
    }

    pub(crate) fn target(&self) -> &[u8] {
        let start = self.method_length + 1;
        &self.head[start..start + self.target_length]
    }

    /// Whether there is content to read behind the head.
    pub(crate) fn has_body(&self) -> bool {
        self.framing != Framing::Length(0)
    }
}
