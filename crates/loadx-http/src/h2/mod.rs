//! HTTP/2 (RFC 9113) without I/O: the compression of field sections, frames, flow control, and field
//! sections as messages.
//!
//! As in HTTP/1.1, whatever two readers could read differently is a fault. A fault concerns a stream or the whole connection;
//! [`Fault`] says which, with the code for the other side.

mod fault;
pub mod flow;
pub mod frame;
pub mod hpack;
pub mod section;
mod settings;

pub use fault::{Code, Fault};
pub use settings::{Setting, Settings};
