//! What the handshake of a connection agreed on.

use std::sync::Arc;

use loadx_core::config::{ClientRule, ClientRules};
use rustls::{CommonState, HandshakeKind, ProtocolVersion};

use super::identity::{Identity, common_name, subject};

/// The name of HTTP/2 in the handshake of TLS (RFC 9113, section 3.2).
pub(super) const ALPN_H2: &[u8] = b"h2";

/// What the handshake of a client's connection agreed on; for the log, the counts and the fields for backends.
#[derive(Clone, Debug)]
pub(crate) struct TlsFacts {
    /// The version, such as `TLSv1.3`.
    pub(crate) version: &'static str,
    /// The cipher suite, such as `TLS13_AES_128_GCM_SHA256`.
    pub(crate) cipher: &'static str,
    /// The name that the client asked for (SNI, RFC 6066), in lower case.
    pub(crate) server_name: Option<Box<str>>,
    /// Whether the connection speaks HTTP/2.
    pub(crate) is_h2: bool,
    /// Whether the session goes on with keys of a former connection.
    pub(crate) is_resumed: bool,
    /// The certificate of the client as the value of Client-Cert (RFC 9440), if the client showed one.
    pub(crate) client_certificate: Option<Box<[u8]>>,
    /// The subject of the certificate of the client, if the client showed one.
    pub(crate) client_subject: Option<Box<str>>,
    /// The common name of the certificate of the client, if there is one.
    pub(crate) client_name: Option<Box<str>>,
    /// The certificate that LoadX showed; none on the backend's side.
    pub(crate) identity: Option<Arc<Identity>>,
    /// By which rule LoadX asked for the certificate of the client.
    pub(crate) client_rule: ClientRule,
}

impl TlsFacts {
    pub(super) fn new(
        common: &CommonState,
        server_name: Option<Box<str>>,
        identity: Option<Arc<Identity>>,
        client_rule: ClientRule,
    ) -> Self {
        let client = common.peer_certificates().and_then(|chain| chain.first());
        TlsFacts {
            version: match common.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "unknown",
            },
            cipher: common.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or("unknown"),
            server_name,
            client_certificate: client.map(|leaf| as_field(leaf)),
            client_subject: client.and_then(subject),
            client_name: client.and_then(common_name),
            is_h2: common.alpn_protocol() == Some(ALPN_H2),
            is_resumed: common.handshake_kind() == Some(HandshakeKind::Resumed),
            identity,
            client_rule,
        }
    }

    /// Whether the connection may carry requests for this host, which is in lower case and without a port: the host that the
    /// client asked for, or another host of the certificate. A client that asked for no host may ask for any.
    pub(crate) fn serves(&self, host: &[u8]) -> bool {
        let (Some(name), Ok(host)) = (&self.server_name, std::str::from_utf8(host)) else { return true };
        host == &**name || self.identity.as_ref().is_some_and(|identity| identity.covers(host))
    }
}

/// Whether LoadX asked the client by the rule that these rules have for a host. `host`: in lower case and without a port;
/// `None` means the host that the client asked for. A connection that was made for another host, or before the rules changed,
/// is not enough.
pub(crate) fn is_checked_for(rules: &ClientRules, tls: Option<&TlsFacts>, host: Option<&[u8]>) -> bool {
    let asked = tls.map_or(&None, |tls| &tls.client_rule);
    let wanted = match host {
        _ if rules.is_uniform() => &rules.others,
        // The hosts of rules are ASCII.
        Some(host) => rules.of(std::str::from_utf8(host).unwrap_or_default()),
        None => tls.and_then(|tls| tls.server_name.as_deref()).map_or(&rules.others, |name| rules.of(name)),
    };
    asked == wanted
}

/// A certificate as a byte sequence of structured fields (RFC 8941, section 3.3.5).
fn as_field(certificate: &[u8]) -> Box<[u8]> {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    format!(":{}:", BASE64_STANDARD.encode(certificate)).into_bytes().into_boxed_slice()
}
