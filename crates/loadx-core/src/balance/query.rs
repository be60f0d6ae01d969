//! What a pick asks of a policy, and what the policies share to answer.

use super::Key;
use crate::backend::Backend;
use crate::{BackendId, Time};

/// What a pick depends on, beside the view.
#[derive(Copy, Clone, Debug)]
pub struct Query<'q> {
    /// When the pick is made.
    pub now: Time,
    /// 64 random bits, for policies that draw.
    pub entropy: u64,
    /// Stands for the client, in policies that keep a client at one backend; see [`View::key`](crate::View::key).
    pub key: Option<Key>,
    /// Backends that this exchange has already asked in vain.
    pub tried: &'q [BackendId],
}

/// Whether the query has tried this backend already.
pub(super) fn is_tried(backend: &Backend, query: &Query<'_>) -> bool {
    query.tried.contains(&backend.id())
}

/// The indices of all of `count` backends, once each, beginning at `start`.
pub(super) fn around(start: usize, count: usize) -> impl Iterator<Item = usize> {
    (start..count).chain(0..start)
}
