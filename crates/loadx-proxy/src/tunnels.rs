//! Counts the tunnels of a worker, for operators who want to switch a backend off.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use loadx_core::BackendId;

/// The number of tunnels of a worker, by backend.
#[derive(Debug, Default)]
pub(crate) struct Tunnels(RefCell<BTreeMap<BackendId, usize>>);

impl Tunnels {
    /// Counts a tunnel, as long as the guard lives.
    pub(crate) fn begin(&self, backend: BackendId) -> impl Drop {
        *self.0.borrow_mut().entry(backend).or_default() += 1;
        Running(self, backend)
    }

    pub(crate) fn counts(&self) -> BTreeMap<BackendId, usize> {
        self.0.borrow().clone()
    }
}

/// A tunnel that runs.
struct Running<'t>(&'t Tunnels, BackendId);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.0.0.borrow_mut().entry(self.1) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}
