//! The system's limit of open files, which connections count against.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit as far as the system lets it: the usual 1,024 would be reached long before most other
/// bounds. Warns when less than `wanted` is to be had; `cause` is what wants so many.
pub(super) fn allow(wanted: u64, cause: &str) {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::warn!("the limit of open files could not be raised: {error}");
    }
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if allowed < wanted {
        tracing::warn!("only {allowed} files may be open, and {cause} can take {wanted}; raise `ulimit -n`");
    }
}
