//! A request, as far as routes look at requests.

use std::borrow::Cow;

/// A request, as routes see it.
#[derive(Copy, Clone)]
pub struct Asked<'a> {
    /// The position of the listener in the plan.
    pub listener: usize,
    /// The host that the request is for: lower case, without port and trailing dot; empty when there is none.
    pub host: &'a [u8],
    /// The path, normalised; see [`normalise`](super::path::normalise).
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
    /// The value of a field, whatever the case of `name`; several values are joined by a comma and a space
    /// (RFC 9110, section 5.3).
    fn value(&self, name: &str) -> Option<Cow<'_, [u8]>>;
}
