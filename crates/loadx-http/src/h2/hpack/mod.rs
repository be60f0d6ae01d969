//! The compression of field sections (HPACK, RFC 7541).

mod decoder;
mod encoder;
mod fixed;
mod huffman;
mod integer;
mod table;

pub use decoder::{Decoder, HpackFault};
pub use encoder::{put_field, put_status};
