//! The backends' side: connections that are idle, new ones, and the drivers of the HTTP
//! versions that backends speak.

pub(crate) mod connect;
pub(crate) mod h1;
pub(crate) mod pool;
