//! The parts of a request that routes compare.

use std::borrow::Cow;

/// The parts of a request that routes compare.
#[derive(Copy, Clone)]
pub struct Asked<'a> {
    /// The position of the listener in the plan.
    pub listener: usize,
    /// The host of the request: lower case, without port and trailing dot; empty if the request has no host.
    pub host: &'a [u8],
    /// The path in its normal form; see [`normalise`](super::path::normalise).
    pub path: &'a [u8],
    /// The query, without the question mark.
    pub query: &'a [u8],
    /// The method.
    pub method: &'a [u8],
    /// The fields.
    pub fields: &'a dyn Fields,
}

/// The fields of a request.
pub trait Fields {
    /// The value of a field; the case of `name` does not matter. A comma and a space join several values (RFC 9110,
    /// section 5.3).
    fn value(&self, name: &str) -> Option<Cow<'_, [u8]>>;
}
