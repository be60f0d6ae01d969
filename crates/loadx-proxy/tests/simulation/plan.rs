//! The plan of one request: the messages, and the actions of client and origin. Client and origin both know the plan,
//! so each can check the received bytes.

use loadx_core::{Rng as _, SplitMix64};

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) id: u64,
    pub(crate) method: &'static str,
    pub(crate) request: Content,
    /// Whether the client waits for a 100 before it sends the body.
    pub(crate) expect: bool,
    pub(crate) response: Content,
    pub(crate) status: u16,
    /// The number of interim responses before the response.
    pub(crate) interims: usize,
    /// The delay of the origin before its response, in milliseconds.
    pub(crate) delay: u64,
    pub(crate) client: ClientAction,
    pub(crate) origin: OriginAction,
    /// Whether only the first attempt gets `origin`; later attempts get [`OriginAction::Behaves`].
    pub(crate) origin_once: bool,
}

/// The faults of clients and origins.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Faults {
    None,
    /// Only faults of origins, one per request, that LoadX can hide from the client.
    Recoverable,
    Any,
}

/// A body: length and framing.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Content {
    pub(crate) length: usize,
    pub(crate) framed: Framed,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Framed {
    None,
    Length,
    /// In chunks of this many bytes, with extensions and trailers.
    Chunks(usize),
    UntilClose,
}

/// The action of a client.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClientAction {
    Behaves,
    /// Closes the connection after this many bytes of the request.
    ClosesAfter(usize),
    /// Stops sending after this many bytes of the request.
    StallsAfter(usize),
    /// Sends the request, and closes the connection this many milliseconds later.
    ClosesWaiting(u64),
    /// Begins to read after this many milliseconds.
    ReadsLate(u64),
}

/// The action of an origin.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum OriginAction {
    Behaves,
    /// Resets after the head.
    Resets,
    /// Closes after the head.
    Closes,
    /// Sends no response.
    Silent,
    /// Responds without reading the body, then closes.
    AnswersEarly,
    /// Responds before reading the body, then reads the body and keeps the connection open.
    AnswersEarlyAndStays,
    /// Resets, closes or stalls after this many bytes of the response.
    ResetsAfter(usize),
    ClosesAfter(usize),
    StallsAfter(usize),
    /// Sends a stray response after the response.
    SendsStray,
    /// Sends bytes that are not HTTP.
    SendsGarbage,
    /// Closes after a response without `Connection: close`.
    ClosesUnannounced,
    /// Switches to the protocol `echo`.
    Echoes,
}

impl Plan {
    pub(crate) fn draw(rng: &mut SplitMix64, id: u64, faults: Faults) -> Plan {
        let benign = faults != Faults::Any;
        let length = |rng: &mut SplitMix64| match rng.below(6) {
            0 => 0,
            1..=3 => rng.below(300) as usize,
            4 => rng.below(9_000) as usize,
            _ => rng.below(150_000) as usize,
        };
        let method = ["GET", "GET", "HEAD", "POST", "PUT", "DELETE", "POST", "PATCH"][rng.below(8) as usize];
        let has_body = matches!(method, "POST" | "PUT" | "PATCH");
        let framed = |rng: &mut SplitMix64| {
            match rng.below(6) {
                0..=2 => Framed::Length,
                // Large enough to go through a pipe.
                3 => Framed::Chunks(60_000 + rng.below(80_000) as usize),
                _ => Framed::Chunks(1 + rng.below(5_000) as usize),
            }
        };
        let request = if has_body {
            Content { length: length(rng), framed: framed(rng) }
        } else {
            Content { length: 0, framed: Framed::None }
        };
        let status = [200, 200, 200, 200, 404, 204, 304, 500][rng.below(8) as usize];
        let response = match status {
            204 | 304 => Content { length: 0, framed: Framed::None },
            _ if rng.below(8) == 0 => Content { length: length(rng), framed: Framed::UntilClose },
            _ => Content { length: length(rng), framed: framed(rng) },
        };
        let cut = rng.below(400 + response.length as u64) as usize;
        let early = rng.below(200 + request.length as u64) as usize;
        let some_time = rng.below(3_000);
        let client = match rng.below(12) {
            _ if benign => ClientAction::Behaves,
            0 => ClientAction::ClosesAfter(early),
            1 => ClientAction::ClosesWaiting(some_time),
            2 => ClientAction::ReadsLate(some_time * 20),
            3 if rng.below(3) == 0 => ClientAction::StallsAfter(early),
            _ => ClientAction::Behaves,
        };
        let origin = match rng.below(if benign { 40 } else { 24 }) {
            0 if method == "GET" => OriginAction::Echoes,
            1.. if benign => OriginAction::Behaves,
            1 => OriginAction::ClosesUnannounced,
            2 => OriginAction::Resets,
            3 => OriginAction::Closes,
            4 => OriginAction::Silent,
            5 => OriginAction::AnswersEarly,
            6 => OriginAction::ResetsAfter(cut),
            7 => OriginAction::ClosesAfter(cut),
            8 => OriginAction::StallsAfter(cut),
            9 => OriginAction::SendsStray,
            10 => OriginAction::SendsGarbage,
            11 => OriginAction::AnswersEarlyAndStays,
            _ => OriginAction::Behaves,
        };
        // Faults that LoadX must hide from the client.
        let idempotent = request.framed == Framed::None;
        let origin = match (faults, rng.below(6)) {
            (Faults::Recoverable, 0) if idempotent && origin == OriginAction::Behaves => OriginAction::Resets,
            (Faults::Recoverable, 1) if idempotent && origin == OriginAction::Behaves => OriginAction::Closes,
            (Faults::Recoverable, 2) if origin == OriginAction::Behaves => OriginAction::SendsStray,
            _ => origin,
        };
        Plan {
            id,
            method,
            request,
            expect: has_body && rng.below(6) == 0,
            response,
            status,
            interims: if rng.below(8) == 0 { rng.below(4) as usize } else { 0 },
            delay: if rng.below(3) == 0 { some_time } else { 0 },
            client,
            origin,
            origin_once: faults == Faults::Recoverable || rng.below(3) > 0,
        }
    }

    pub(crate) fn is_idempotent(&self) -> bool {
        matches!(self.method, "GET" | "HEAD" | "PUT" | "DELETE")
    }

    pub(crate) fn upgrades(&self) -> bool {
        self.origin == OriginAction::Echoes
    }

    /// The content of the request.
    pub(crate) fn request_content(&self) -> Vec<u8> {
        content(self.id * 2, self.request.length)
    }

    /// The content of the response; for a HEAD, the content that a GET would get.
    pub(crate) fn response_content(&self) -> Vec<u8> {
        content(self.id * 2 + 1, self.response.length)
    }

    /// The bytes that the client sends into the tunnel.
    pub(crate) fn tunnel_content(&self) -> Vec<u8> {
        content(self.id * 2, self.response.length)
    }
}

/// Random bytes, different for each `key`.
fn content(key: u64, length: usize) -> Vec<u8> {
    let mut rng = SplitMix64::new(key);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&rng.next_u64().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
