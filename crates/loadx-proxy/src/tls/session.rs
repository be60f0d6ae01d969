//! One TLS connection of rustls, on the side of the server or of the client.

use std::fmt;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic};
use rustls::{CommonState, Error};

/// The state of TLS for one connection. Does no I/O: records come in, and records go out.
pub(super) enum Session {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Session::Server(_) => "Server",
            Session::Client(_) => "Client",
        })
    }
}

/// What a session needs next.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Another call: there may be more records, or more to send.
    Again,
    /// More bytes of the peer, to go on with the handshake.
    Blocked,
    /// Nothing: the handshake is complete, and all whole records were read.
    Ready,
    /// Nothing: the peer has ended its direction with a close_notify.
    Ended,
}

/// The result of [`Session::process`].
pub(super) struct Processed {
    /// The number of bytes at the front of the input that the session has used.
    pub(super) used: usize,
    pub(super) step: Result<Step, Error>,
}

impl Session {
    pub(super) fn common(&self) -> &CommonState {
        match self {
            Session::Server(connection) => connection,
            Session::Client(connection) => connection,
        }
    }

    /// Reads records at the front of `input`. Appends records to send to `out`, and calls `take` with received content.
    pub(super) fn process(&mut self, input: &mut [u8], out: &mut Records, take: impl FnMut(&[u8])) -> Processed {
        match self {
            Session::Server(connection) => advance(connection.process_tls_records(input), out, take),
            Session::Client(connection) => advance(connection.process_tls_records(input), out, take),
        }
    }

    /// Appends the alert that tells the peer of the last error, if there is one. `held`: the input that the session has not
    /// used.
    pub(super) fn alert(&mut self, held: &mut [u8], out: &mut Records) {
        let mut used = 0;
        while let Processed { used: more, step: Ok(Step::Again) } = self.process(&mut held[used..], out, |_| {}) {
            used += more;
        }
    }

    /// Appends the content to `out` in records, then, if it `closes`, a close_notify. `held`: the input that the session has
    /// not used; the session remembers where parts of a handshake message stand there, and would panic without.
    ///
    /// # Errors
    /// When the handshake is not complete, or the keys are used up.
    pub(super) fn encrypt(
        &mut self,
        content: &[u8],
        closes: bool,
        held: &mut Vec<u8>,
        out: &mut Records,
    ) -> Result<(), Error> {
        loop {
            let (used, done) = match self {
                Session::Server(connection) => put(connection.process_tls_records(held), content, closes, out),
                Session::Client(connection) => put(connection.process_tls_records(held), content, closes, out),
            };
            held.drain(..used);
            if done? {
                return Ok(());
            }
        }
    }
}

fn advance<D>(status: UnbufferedStatus<'_, '_, D>, out: &mut Records, mut take: impl FnMut(&[u8])) -> Processed {
    let UnbufferedStatus { discard: mut used, state } = status;
    let step = state.and_then(|state| {
        Ok(match state {
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    used += record.discard;
                    take(record.payload);
                }
                Step::Again
            }
            ConnectionState::EncodeTlsData(mut data) => {
                encode(&mut data, out);
                Step::Again
            }
            // The caller sends the records of `out` in their order.
            ConnectionState::TransmitTlsData(data) => {
                data.done();
                Step::Again
            }
            ConnectionState::BlockedHandshake => Step::Blocked,
            ConnectionState::WriteTraffic(_) => Step::Ready,
            ConnectionState::PeerClosed | ConnectionState::Closed => Step::Ended,
            // LoadX accepts no early data, and there is no other state.
            _ => return Err(Error::General("rustls is in a state that LoadX does not know".into())),
        })
    });
    Processed { used, step }
}

/// Returns the number of used bytes of the input, and whether the content was put.
fn put<D>(
    status: UnbufferedStatus<'_, '_, D>,
    content: &[u8],
    closes: bool,
    out: &mut Records,
) -> (usize, Result<bool, Error>) {
    let UnbufferedStatus { discard, state } = status;
    let done = state.and_then(|state| match state {
        ConnectionState::WriteTraffic(mut traffic) => {
            put_content(&mut traffic, content, out)?;
            if closes {
                put_close(&mut traffic, out);
            }
            Ok(true)
        }
        ConnectionState::EncodeTlsData(mut data) => {
            encode(&mut data, out);
            Ok(false)
        }
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Ok(false)
        }
        ConnectionState::PeerClosed => Ok(false),
        _ => Err(Error::HandshakeNotComplete),
    });
    (discard, done)
}

fn put_content<D>(traffic: &mut WriteTraffic<'_, D>, content: &[u8], out: &mut Records) -> Result<(), Error> {
    let mut exhausted = false;
    out.append(|room| match traffic.encrypt(content, room) {
        Ok(count) => Ok(count),
        Err(EncryptError::InsufficientSize(short)) => Err(short.required_size),
        Err(EncryptError::EncryptExhausted) => {
            exhausted = true;
            Ok(0)
        }
    });
    if exhausted { Err(Error::EncryptError) } else { Ok(()) }
}

fn put_close<D>(traffic: &mut WriteTraffic<'_, D>, out: &mut Records) {
    out.append(|room| match traffic.queue_close_notify(room) {
        Ok(count) => Ok(count),
        Err(EncryptError::InsufficientSize(short)) => Err(short.required_size),
        Err(EncryptError::EncryptExhausted) => Ok(0),
    });
}

fn encode<D>(data: &mut EncodeTlsData<'_, D>, out: &mut Records) {
    out.append(|room| match data.encode(room) {
        Err(EncodeError::InsufficientSize(short)) => Err(short.required_size),
        Err(EncodeError::AlreadyEncoded) => Ok(0),
        Ok(count) => Ok(count),
    });
}

/// Records to send. Keeps the memory, so that appending neither allocates nor clears memory.
#[derive(Debug, Default)]
pub(super) struct Records {
    bytes: Vec<u8>,
    filled: usize,
}

impl Records {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }

    pub(super) fn clear(&mut self) {
        self.filled = 0;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Appends what `write` writes. `write` gets room, and returns how much it wrote, or how much room it needs.
    fn append(&mut self, mut write: impl FnMut(&mut [u8]) -> Result<usize, usize>) {
        loop {
            match write(&mut self.bytes[self.filled..]) {
                Ok(count) => {
                    self.filled += count;
                    return;
                }
                Err(needed) => self.bytes.resize(self.filled + needed, 0),
            }
        }
    }
}
