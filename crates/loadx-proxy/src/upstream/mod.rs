//! The backends' side: connections that are idle, and new ones.

pub(crate) mod connect;
pub(crate) mod pool;
