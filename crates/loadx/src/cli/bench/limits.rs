//! The bounds and the defaults of `loadx bench`.

use std::time::Duration;

/// The requests of a run that sets no limit.
pub(super) const REQUESTS_DEFAULT: u64 = 1_000;

/// The requests under way at the same time, by default.
pub(super) const CONCURRENCY_DEFAULT: u32 = 10;

/// The same in the search of the highest rate: few connections would limit the rate.
pub(super) const CONCURRENCY_OF_SEARCH: u32 = 100;

/// The rate with which the search of the highest rate begins.
pub(super) const FIRST_RATE: f64 = 1_000.0;

/// How long each rate is tried, by default.
pub(super) const STEP: Duration = Duration::from_secs(5);

/// The time at the start of each rate that does not count, by default.
pub(super) const STEP_WARM_UP: Duration = Duration::from_secs(1);

/// The largest file of requests and the largest content of a request, in bytes.
pub(super) const FILE_BYTES_MAX: u64 = 1 << 30;
