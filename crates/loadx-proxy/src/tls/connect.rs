//! The handshake with a backend.

use loadx_core::Time;
use rustls::client::UnbufferedClientConnection;

use super::client::ClientTls;
use super::facts::TlsFacts;
use super::handshake::{HandshakeFault, Handshakes, Secured, complete};
use super::session::Session;
use crate::net::Stream;
use crate::timer::Timer;

/// Makes the stream of a backend one inside TLS, until `deadline`. `host` is the name that the certificate must have, unless
/// the config names another. After an error the caller closes the stream.
///
/// # Errors
/// [`HandshakeFault::Broken`] and [`HandshakeFault::Tls`].
pub(crate) async fn connect<S: Stream>(
    stream: &S,
    tls: &ClientTls,
    host: &str,
    turns: &Handshakes,
    timer: &Timer,
    deadline: Time,
) -> Result<Secured, HandshakeFault> {
    let name = tls.name_for(host).map_err(HandshakeFault::Tls)?;
    let connection = UnbufferedClientConnection::new(tls.rustls(), name).map_err(HandshakeFault::Tls)?;
    let completed = complete(stream, Session::Client(connection), Vec::new(), turns, timer, &|| deadline).await?;
    Ok(completed.with(|common| TlsFacts::new(common, None, None, None)))
}
