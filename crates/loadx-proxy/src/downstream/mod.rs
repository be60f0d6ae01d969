//! The clients' side: active and parked connections, and one driver per HTTP version.

pub(crate) mod arrival;
pub(crate) mod awake;
pub(crate) mod client;
mod h1;
mod h2;
mod linger;
pub(crate) mod parking;
mod refusal;
mod reply;
pub(crate) mod sessions;
pub(crate) mod wire;
