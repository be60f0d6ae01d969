//! The input of a pick, and functions that the algorithms share.

use super::Key;
use crate::backend::Backend;
use crate::{BackendId, Time};

/// The input of a pick, in addition to the view.
#[derive(Copy, Clone, Debug)]
pub struct Query<'q> {
    /// The time of the pick.
    pub now: Time,
    /// 64 random bits, for algorithms that draw at random.
    pub entropy: u64,
    /// The key of the client, for algorithms that keep a client at one backend; see [`View::key`](crate::View::key).
    pub key: Option<Key>,
    /// The backends that failed in this exchange.
    pub tried: &'q [BackendId],
}

/// Whether the request has already tried this backend.
pub(super) fn is_tried(backend: &Backend, query: &Query<'_>) -> bool {
    query.tried.contains(&backend.id())
}

/// The indices of all `count` backends, once each, beginning at `start`.
pub(super) fn around(start: usize, count: usize) -> impl Iterator<Item = usize> {
    (start..count).chain(0..start)
}
