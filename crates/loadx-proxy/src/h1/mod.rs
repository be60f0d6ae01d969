//! Bodies of HTTP/1.1 on a stream, for the clients' side and the backends' side.

mod reader;
mod writer;

pub(crate) use reader::BodyReader;
pub(crate) use writer::BodyWriter;
