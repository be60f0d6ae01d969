//! HTTP/2 (RFC 9113) without I/O: the compression of field sections, frames, flow control, field sections as messages, and the
//! state of a connection.
//!
//! As in HTTP/1.1, whatever two readers could read differently is a fault. A fault concerns a stream or the whole connection;
//! [`Fault`] says which, with the code for the other side.

mod connection;
mod fault;
pub mod flow;
pub mod frame;
pub mod hpack;
mod priority;
pub mod section;
mod settings;

pub use connection::{Answer, Client, Connection, Event, Purpose, Role, Scratch, Server, Told};
pub use fault::{Code, Fault};
pub use priority::Priority;
pub use settings::{Setting, Settings};
