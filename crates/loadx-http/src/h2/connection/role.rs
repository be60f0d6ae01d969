//! What differs between the two sides of a connection.

use std::time::Duration;

use super::{Connection, Event, Scratch};
use crate::h2::fault::Fault;
use crate::h2::settings::Setting;

/// The side of a connection that LoadX is: [`Server`](super::Server) or [`Client`](super::Client).
pub trait Role: Sized + sealed::Sealed {
    /// What only this side is told.
    type Told<'e>;

    /// The number of streams that LoadX has reset whose late frames LoadX still ignores.
    #[doc(hidden)]
    const RECENT_RESETS: usize;

    /// Whether the stream has not been opened yet.
    #[doc(hidden)]
    fn is_idle(&self, stream: u32) -> bool;

    /// Whether the stream came too late, after LoadX had ended the connection.
    #[doc(hidden)]
    fn is_behind(&self, stream: u32) -> bool {
        let _ = stream;
        false
    }

    /// The last stream of the other side that LoadX may have served.
    #[doc(hidden)]
    fn last_served(&self) -> u32;

    /// Looks at a setting of the other side before the setting holds.
    #[doc(hidden)]
    fn check(&mut self, setting: Setting) -> Result<(), Fault> {
        let _ = setting;
        Ok(())
    }

    /// Reads a whole field section.
    #[doc(hidden)]
    fn section<'e>(
        connection: &mut Connection<Self>,
        section: &Section<'_>,
        scratch: &'e mut Scratch,
        now: Duration,
        out: &mut Vec<u8>,
    ) -> Result<Event<'e, Self::Told<'e>>, Fault>;

    /// Follows an answer to a PING of this side alone.
    #[doc(hidden)]
    fn pong(connection: &mut Connection<Self>, data: [u8; 8], out: &mut Vec<u8>) {
        let _ = (connection, data, out);
    }

    /// Follows a GOAWAY.
    #[doc(hidden)]
    fn goaway(connection: &mut Connection<Self>, last: u32) {
        let _ = (connection, last);
    }

    /// Follows a PRIORITY_UPDATE.
    #[doc(hidden)]
    fn priority_update<'e>(
        connection: &mut Connection<Self>,
        stream: u32,
        value: &[u8],
    ) -> Result<Event<'e, Self::Told<'e>>, Fault>;

    /// See [`Connection::finished`].
    #[doc(hidden)]
    fn finished(connection: &mut Connection<Self>, stream: u32, unread: usize, out: &mut Vec<u8>);
}

/// A whole field section.
#[doc(hidden)]
#[derive(Copy, Clone, Debug)]
pub struct Section<'f> {
    pub(super) stream: u32,
    pub(super) ends: bool,
    pub(super) fragment: &'f [u8],
}

pub(super) mod sealed {
    /// Keeps the sides of a connection two.
    pub trait Sealed {}
}
