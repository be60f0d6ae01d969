//! What both sides' drivers of HTTP/2 share: the exchanges on one connection, and the bodies of their messages.

mod alarm;
mod mux;
mod output;
mod reader;
mod transfer;
mod turns;
mod writer;

pub(crate) use alarm::TaskAlarm;
pub(crate) use mux::{Gone, Mux};
pub(crate) use reader::BodyReader;
pub(crate) use transfer::Transfer;
pub(crate) use writer::{BodyWriter, Heading};
