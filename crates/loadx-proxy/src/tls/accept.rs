//! The handshake with a client.

use std::io::IoSlice;

use loadx_core::Time;
use rustls::server::{Accepted, Acceptor, UnbufferedServerConnection};
use rustls::{AlertDescription, Error};

use super::choice::NoIdentity;
use super::facts::TlsFacts;
use super::handshake::{HandshakeFault, Handshakes, Secured, complete, read_more};
use super::server::{Chosen, ServerTls, asks_for_proof};
use super::session::Session;
use crate::net::Stream;
use crate::timer::Timer;

/// Makes the stream of a client one inside TLS, until `deadline`, which may become earlier during the wait. After an error
/// the caller closes the stream.
///
/// # Errors
/// Any [`HandshakeFault`]; the client has got an alert if it speaks TLS.
pub(crate) async fn accept<S: Stream>(
    stream: &S,
    tls: &ServerTls,
    turns: &Handshakes,
    timer: &Timer,
    deadline: &impl Fn() -> Time,
) -> Result<Secured, HandshakeFault> {
    let mut received = Vec::new();
    let hello = read_hello(stream, &mut received, timer, deadline).await?;
    let local = stream.local_addr().ok().map(|address| address.ip());
    let (name, choice) = {
        let hello = hello.client_hello();
        let name = hello.server_name().map(|name| name.to_ascii_lowercase().into_boxed_str());
        (name, if asks_for_proof(&hello) { None } else { Some(tls.choose(&hello, local)) })
    };
    drop(hello);
    let choice = match choice {
        Some(choice) => choice,
        None => tls.prove(name.as_deref()).await,
    };
    let Chosen { settings, identity, group } = match choice {
        Ok(choice) => choice,
        Err(reason) => {
            let (description, fault) = match reason {
                NoIdentity::UnknownName => (AlertDescription::UnrecognisedName, HandshakeFault::UnknownName(name)),
                NoIdentity::NoCommonKey => (AlertDescription::HandshakeFailure, HandshakeFault::NoCommonKey),
            };
            let _ = stream.try_write(&[IoSlice::new(&plain_alert(description))]);
            return Err(fault);
        }
    };
    let connection = UnbufferedServerConnection::new(settings).map_err(HandshakeFault::Tls)?;
    let completed = complete(stream, Session::Server(connection), received, turns, timer, deadline).await?;
    let rule = group.as_ref().and_then(|group| group.rule().clone());
    let secured = completed.with(|common| TlsFacts::new(common, name, Some(identity), rule));
    if secured.facts().is_resumed
        && let Some(group) = group
        && let Err(error) = group.lets_in(secured.common())
    {
        secured.end(stream);
        return Err(HandshakeFault::Tls(error));
    }
    Ok(secured)
}

/// Reads the first message of the client into `received`.
async fn read_hello<S: Stream>(
    stream: &S,
    received: &mut Vec<u8>,
    timer: &Timer,
    deadline: &impl Fn() -> Time,
) -> Result<Accepted, HandshakeFault> {
    const HANDSHAKE_RECORD: u8 = 22;
    let mut acceptor = Acceptor::default();
    loop {
        let start = received.len();
        read_more(stream, received, timer, deadline).await.map_err(HandshakeFault::Broken)?;
        if received.first() != Some(&HANDSHAKE_RECORD) {
            let is_http = received.first().is_some_and(u8::is_ascii_uppercase);
            return Err(HandshakeFault::NotTls { is_http });
        }
        let mut unread = &received[start..];
        while !unread.is_empty() {
            // Reading from memory fails only if the message is too long.
            if acceptor.read_tls(&mut unread).is_err() {
                return Err(HandshakeFault::Tls(Error::General("the first message is too long".into())));
            }
            match acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => return Ok(accepted),
                Err((error, mut alert)) => {
                    let mut bytes = Vec::new();
                    // Writing to memory cannot fail.
                    let _ = alert.write_all(&mut bytes);
                    let _ = stream.try_write(&[IoSlice::new(&bytes)]);
                    return Err(HandshakeFault::Tls(error));
                }
            }
        }
    }
}

/// An alert before any keys are known (RFC 8446, section 6).
fn plain_alert(description: AlertDescription) -> [u8; 7] {
    const FATAL: u8 = 2;
    [21, 3, 1, 0, 2, FATAL, description.into()]
}
