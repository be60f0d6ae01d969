//! Backends that speak HTTP/2: the exchanges of many clients share the connections of a worker to a backend.
//!
//! Each connection has a task of its own ([`driver`]), which reads and writes frames. An exchange takes a [`Lease`] of a connection
//! from [`Links`], opens a stream with its request, and waits in its own task for what comes.

mod conversation;
mod driver;
mod link;
mod links;
mod opening;
mod tunnel;

pub(crate) use conversation::{Conversation, ConversationParts};
pub(crate) use link::Lease;
pub(crate) use links::Links;
pub(crate) use opening::Target;
