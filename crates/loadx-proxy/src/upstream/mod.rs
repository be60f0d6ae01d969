//! The backends' side: idle connections, new connections, and one driver per HTTP version.

mod by_backend;
pub(crate) mod connect;
pub(crate) mod h1;
pub(crate) mod h2;
pub(crate) mod pool;
