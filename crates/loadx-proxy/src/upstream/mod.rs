//! The backends' side: idle connections, new connections, and one driver per HTTP version.

pub(crate) mod connect;
pub(crate) mod h1;
pub(crate) mod pool;
