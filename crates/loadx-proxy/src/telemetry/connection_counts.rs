//! The counts of what happens on connections of clients outside of exchanges.

use std::collections::BTreeMap;

use loadx_http::h2::Code;

use crate::tls::TlsFacts;

/// The counts of the handshakes of TLS with clients.
#[derive(Clone, Debug, Default)]
pub(crate) struct HandshakeCounts {
    /// By version, with and without the keys of a former connection.
    pub(super) succeeded: BTreeMap<(&'static str, bool), u64>,
    /// By reason.
    pub(super) failed: BTreeMap<&'static str, u64>,
}

impl HandshakeCounts {
    pub(crate) fn succeeded(&mut self, facts: &TlsFacts) {
        *self.succeeded.entry((facts.version, facts.is_resumed)).or_default() += 1;
    }

    pub(crate) fn failed(&mut self, reason: &'static str) {
        *self.failed.entry(reason).or_default() += 1;
    }

    pub(super) fn add(&mut self, other: &HandshakeCounts) {
        for (kind, count) in &other.succeeded {
            *self.succeeded.entry(*kind).or_default() += count;
        }
        for (reason, count) in &other.failed {
            *self.failed.entry(reason).or_default() += count;
        }
    }
}

/// The counts of HTTP/2 with clients.
#[derive(Clone, Debug, Default)]
pub(crate) struct H2Counts {
    pub(crate) connections: u64,
    pub(crate) requests: u64,
    /// Streams that clients reset.
    pub(crate) resets: u64,
    /// Streams that LoadX refused, because too many were open.
    pub(crate) refused: u64,
    /// Streams and connections that LoadX ended for faults of clients, by code.
    pub(super) stream_faults: BTreeMap<&'static str, u64>,
    pub(super) connection_faults: BTreeMap<&'static str, u64>,
}

impl H2Counts {
    pub(crate) fn stream_fault(&mut self, code: Code) {
        *self.stream_faults.entry(code.name()).or_default() += 1;
    }

    pub(crate) fn connection_fault(&mut self, code: Code) {
        *self.connection_faults.entry(code.name()).or_default() += 1;
    }

    pub(super) fn add(&mut self, other: &H2Counts) {
        self.connections += other.connections;
        self.requests += other.requests;
        self.resets += other.resets;
        self.refused += other.refused;
        other.stream_faults.iter().for_each(|(code, count)| *self.stream_faults.entry(code).or_default() += count);
        other
            .connection_faults
            .iter()
            .for_each(|(code, count)| *self.connection_faults.entry(code).or_default() += count);
    }
}
