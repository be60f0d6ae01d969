//! A connection to a server: TCP or a Unix socket, with TLS or without.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::Origin;

/// A connection.
pub(crate) enum Wire {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
    TlsOverUnix(Box<TlsStream<UnixStream>>),
}

impl Wire {
    /// Opens a connection. `no_delay`: whether small pieces leave at once.
    pub(crate) async fn open(origin: &Origin, tls: Option<&Arc<ClientConfig>>, no_delay: bool) -> io::Result<Wire> {
        let tls = if origin.tls {
            let missing = || io::Error::new(io::ErrorKind::InvalidInput, "no settings of TLS for a server with TLS");
            let name = ServerName::try_from(origin.host.clone()).map_err(io::Error::other)?;
            Some((TlsConnector::from(Arc::clone(tls.ok_or_else(missing)?)), name))
        } else {
            None
        };
        match &origin.socket {
            Some(path) => {
                let stream = UnixStream::connect(path).await?;
                Ok(match tls {
                    None => Wire::Unix(stream),
                    Some((tls, name)) => Wire::TlsOverUnix(Box::new(tls.connect(name, stream).await?)),
                })
            }
            None => {
                let stream = TcpStream::connect((origin.host.as_str(), origin.port)).await?;
                if no_delay || tls.is_some() {
                    stream.set_nodelay(true)?;
                }
                Ok(match tls {
                    None => Wire::Tcp(stream),
                    Some((tls, name)) => Wire::Tls(Box::new(tls.connect(name, stream).await?)),
                })
            }
        }
    }

    /// The protocol that both sides chose by ALPN.
    pub(crate) fn chosen_protocol(&self) -> Option<&[u8]> {
        match self {
            Wire::Tcp(_) | Wire::Unix(_) => None,
            Wire::Tls(stream) => stream.get_ref().1.alpn_protocol(),
            Wire::TlsOverUnix(stream) => stream.get_ref().1.alpn_protocol(),
        }
    }
}

macro_rules! each {
    ($wire:ident, $stream:ident => $call:expr) => {
        match $wire.get_mut() {
            Wire::Tcp($stream) => $call,
            Wire::Unix($stream) => $call,
            Wire::Tls($stream) => $call,
            Wire::TlsOverUnix($stream) => $call,
        }
    };
}

impl AsyncRead for Wire {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Wire {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
