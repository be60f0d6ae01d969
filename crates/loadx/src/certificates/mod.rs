//! The certificates that LoadX gets itself: at the start, with each config, and when their time is over.
//!
//! `keeper` decides what to get and when; `wanted` reads the names out of a config; `schedule` has the times.

mod keeper;
mod schedule;
mod wanted;

pub(crate) use keeper::Keeper;
pub(crate) use wanted::Place;
