//! What is counted and logged about exchanges.
//!
//! `record` is what there is to count and to log about one exchange. `counters` and `latency` hold what a worker counts, `json` prints the counts. `access_log` is one worker's end of the access
//! log, `log_line` the look of a line, `log_text` and `wall_clock` its parts, `log_writer` the thread that writes.

mod access_log;
mod counters;
mod json;
mod latency;
mod log_line;
mod log_output;
mod log_text;
mod log_writer;
mod record;
#[cfg(test)]
mod testing;
mod wall_clock;

pub(crate) use access_log::AccessLog;
pub(crate) use counters::{Departed, Holdings, Shard};
pub(crate) use json::round;
pub(crate) use log_writer::{LogSender, LogWriter, LostLines, start as start_log};
pub(crate) use record::{Record, Request};
