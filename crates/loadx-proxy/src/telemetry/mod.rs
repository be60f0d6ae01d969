//! Counts and logs exchanges.
//!
//! `record` has the facts about one exchange. `counters` has the counts of a worker; `cluster_counts`, `connection_counts`, `request_counts`
//! and `latency` have their parts, `by_id` finds them,
//! `json` prints the counts. `access_log` collects the lines of a worker, `log_line` and `log_template` format a line with the parts of `log_text` and
//! `wall_clock`, `log_writer` is the writing thread, `log_output` is the file, and `log_lines` keeps its lines whole.

mod access_log;
mod by_id;
mod cluster_counts;
mod connection_counts;
mod counters;
mod exposition;
mod json;
mod latency;
mod live;
mod log_line;
mod log_lines;
mod log_output;
mod log_template;
mod log_text;
mod log_writer;
mod record;
mod request_counts;
mod spans;
#[cfg(test)]
mod testing;
mod wall_clock;

pub(crate) use access_log::AccessLog;
pub(crate) use cluster_counts::BackendCounts;
pub(crate) use connection_counts::H2Counts;
pub(crate) use counters::{Departed, Holdings, Shard};
pub use exposition::MetricsFormat;
pub(crate) use exposition::{Exposition, Family, Labels, family};
pub(crate) use json::round;
pub(crate) use live::{Between, bounds as live_bounds};
pub(crate) use log_writer::{LogSender, LogWriter, LostLines, join as join_logs, start as start_log};
pub(crate) use record::{Cause, Record, Request, Waits};
pub(crate) use spans::{AttemptEnd, AttemptSpan, SpanSender, Spans, attempt_id};
pub use spans::{LostSpans, SpanBatch, export_request};
