//! Ids of listeners, routes, backends and clusters: unique in the process, never reused.

use std::fmt;

/// Identifies one backend for as long as the process runs. An id is never given to another backend, so that a
/// late report, an idle connection or a counter cannot be mistaken for that of a successor.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendId(u32);

impl BackendId {
    /// The number behind the id.
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for BackendId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b{}", self.0)
    }
}

/// Identifies one cluster for as long as the process runs; never given to another cluster.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(u32);

impl ClusterId {
    /// The number behind the id.
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// Identifies one listener for as long as the process runs; never given to another listener.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(u32);

impl ListenerId {
    /// The number behind the id.
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// Identifies one route for as long as the process runs; never given to another route.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId(u32);

impl RouteId {
    /// The number behind the id.
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// Makes ids. A process has one `Ids`; each simulation and each test has its own.
#[derive(Debug, Default)]
pub struct Ids {
    backends: u32,
    clusters: u32,
    listeners: u32,
    routes: u32,
}

impl Ids {
    /// A new backend id.
    pub fn backend(&mut self) -> BackendId {
        let id = BackendId(self.backends);
        self.backends = self.backends.checked_add(1).expect("a process sees fewer than 2^32 backends");
        id
    }

    /// A new cluster id.
    pub fn cluster(&mut self) -> ClusterId {
        let id = ClusterId(self.clusters);
        self.clusters = self.clusters.checked_add(1).expect("a process sees fewer than 2^32 clusters");
        id
    }

    /// An id that no listener has had.
    pub fn listener(&mut self) -> ListenerId {
        let id = ListenerId(self.listeners);
        self.listeners = self.listeners.checked_add(1).expect("a process sees fewer than 2^32 listeners");
        id
    }

    /// An id that no route has had.
    pub fn route(&mut self) -> RouteId {
        let id = RouteId(self.routes);
        self.routes = self.routes.checked_add(1).expect("a process sees fewer than 2^32 routes");
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_id_is_given_out_twice() {
        let mut ids = Ids::default();
        let first: Vec<_> = (0..3).map(|_| ids.backend().number()).collect();
        assert_eq!(first, [0, 1, 2]);
        assert_ne!(ids.cluster(), ids.cluster());
    }
}
