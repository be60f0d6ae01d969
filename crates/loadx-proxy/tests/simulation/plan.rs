//! What one request is to be, and what its client and its origin do with it. Client and origin both know
//! the plan, so each can tell whether what arrived is what was sent.

use loadx_core::{Rng as _, SplitMix64};

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) id: u64,
    pub(crate) method: &'static str,
    pub(crate) request: Content,
    /// Whether the client waits for 100 before it sends the body.
    pub(crate) expect: bool,
    pub(crate) response: Content,
    pub(crate) status: u16,
    /// 1xx responses before the response.
    pub(crate) interims: usize,
    /// How long the origin thinks, in milliseconds.
    pub(crate) think: u64,
    pub(crate) client: ClientTurn,
    pub(crate) origin: OriginTurn,
    /// Whether only the first origin that sees it misbehaves.
    pub(crate) origin_once: bool,
}

/// How clients and origins behave.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Manners {
    /// As they should.
    Good,
    /// Only origins misbehave, once a request, and so that their client need not notice.
    Mendable,
    /// As they like.
    Bad,
}

/// A body: how much, and how it is framed.
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

/// What a client does besides.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClientTurn {
    Behaves,
    /// Sends so many bytes of the request and leaves.
    LeavesAfter(usize),
    /// Sends so many bytes and nothing more.
    StallsAfter(usize),
    /// Sends the request and leaves, so many milliseconds later.
    LeavesWaiting(u64),
    /// Reads nothing for so many milliseconds.
    ReadsLate(u64),
}

/// What an origin does besides.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum OriginTurn {
    Behaves,
    /// Resets when it has the head.
    Resets,
    /// Closes when it has the head.
    Closes,
    /// Never answers.
    Silent,
    /// Answers before it has read the body, and reads no more.
    AnswersEarly,
    /// The same, but reads the rest behind it and goes on.
    AnswersEarlyAndStays,
    /// Sends so many bytes of the response, then resets or closes or stalls.
    ResetsAfter(usize),
    ClosesAfter(usize),
    StallsAfter(usize),
    /// Sends another response behind the right one.
    SaysTooMuch,
    /// Sends nonsense.
    Babbles,
    /// Closes in good order after the response, without having said so.
    ClosesSilently,
    /// Switches to an echo, if it was asked to.
    Echoes,
}

impl Plan {
    pub(crate) fn draw(rng: &mut SplitMix64, id: u64, manners: Manners) -> Plan {
        let calm = manners != Manners::Bad;
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
            _ if calm => ClientTurn::Behaves,
            0 => ClientTurn::LeavesAfter(early),
            1 => ClientTurn::LeavesWaiting(some_time),
            2 => ClientTurn::ReadsLate(some_time * 20),
            3 if rng.below(3) == 0 => ClientTurn::StallsAfter(early),
            _ => ClientTurn::Behaves,
        };
        let origin = match rng.below(if calm { 40 } else { 24 }) {
            0 if method == "GET" => OriginTurn::Echoes,
            1.. if calm => OriginTurn::Behaves,
            1 => OriginTurn::ClosesSilently,
            2 => OriginTurn::Resets,
            3 => OriginTurn::Closes,
            4 => OriginTurn::Silent,
            5 => OriginTurn::AnswersEarly,
            6 => OriginTurn::ResetsAfter(cut),
            7 => OriginTurn::ClosesAfter(cut),
            8 => OriginTurn::StallsAfter(cut),
            9 => OriginTurn::SaysTooMuch,
            10 => OriginTurn::Babbles,
            11 => OriginTurn::AnswersEarlyAndStays,
            _ => OriginTurn::Behaves,
        };
        // What LoadX can make good it must.
        let idempotent = request.framed == Framed::None;
        let origin = match (manners, rng.below(6)) {
            (Manners::Mendable, 0) if idempotent && origin == OriginTurn::Behaves => OriginTurn::Resets,
            (Manners::Mendable, 1) if idempotent && origin == OriginTurn::Behaves => OriginTurn::Closes,
            (Manners::Mendable, 2) if origin == OriginTurn::Behaves => OriginTurn::SaysTooMuch,
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
            think: if rng.below(3) == 0 { some_time } else { 0 },
            client,
            origin,
            origin_once: manners == Manners::Mendable || rng.below(3) > 0,
        }
    }

    pub(crate) fn is_idempotent(&self) -> bool {
        matches!(self.method, "GET" | "HEAD" | "PUT" | "DELETE")
    }

    pub(crate) fn upgrades(&self) -> bool {
        self.origin == OriginTurn::Echoes
    }

    /// What the client sends.
    pub(crate) fn request_content(&self) -> Vec<u8> {
        content(self.id * 2, self.request.length)
    }

    /// What the origin sends, to a HEAD too if it were a GET.
    pub(crate) fn response_content(&self) -> Vec<u8> {
        content(self.id * 2 + 1, self.response.length)
    }

    /// What the client sends into a tunnel.
    pub(crate) fn tunnel_content(&self) -> Vec<u8> {
        content(self.id * 2, self.response.length)
    }
}

/// Bytes that belong to `key` and nothing else.
fn content(key: u64, length: usize) -> Vec<u8> {
    let mut rng = SplitMix64::new(key);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&rng.next_u64().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
