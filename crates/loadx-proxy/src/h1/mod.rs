//! Bodies of HTTP/1.1 on a stream, for both sides of an exchange.

mod reader;
mod writer;

pub(crate) use reader::BodyReader;
pub(crate) use writer::BodyWriter;
