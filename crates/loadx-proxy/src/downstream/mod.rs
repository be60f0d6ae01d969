//! The clients' side: their connections, at work and at rest, and the drivers of the HTTP versions that they speak.

pub(crate) mod client;
pub(crate) mod h1;
pub(crate) mod parking;
pub(crate) mod sessions;
pub(crate) mod wire;
