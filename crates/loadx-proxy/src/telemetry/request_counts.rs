//! Requests by method and by class of status. Both are few, whatever clients and backends send.

/// The methods that are counted one by one, in the order of their counts; all others are together.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];

/// The classes of statuses, in the order of their counts.
const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// Counts by class of status.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct StatusCounts([u64; CLASSES.len()]);

/// Counts by method and by class of status.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct RequestCounts([StatusCounts; METHODS.len() + 1]);

/// The place of a method in the counts.
#[derive(Copy, Clone, Debug)]
pub(super) struct Method(usize);

impl Method {
    #[inline]
    pub(super) fn of(method: &[u8]) -> Self {
        Method(match method {
            b"GET" => 0,
            b"HEAD" => 1,
            b"POST" => 2,
            b"PUT" => 3,
            b"DELETE" => 4,
            b"OPTIONS" => 5,
            b"PATCH" => 6,
            _ => METHODS.len(),
        })
    }
}

impl StatusCounts {
    /// Counts a response; status 0 means none.
    #[inline]
    pub(super) fn count(&mut self, status: u16) {
        self.0[usize::from(status / 100).min(CLASSES.len() - 1)] += 1;
    }

    pub(super) fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Each class that occurred, with its count.
    pub(super) fn classes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CLASSES.into_iter().zip(self.0).filter(|(_, count)| *count > 0)
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(mine, theirs)| *mine += theirs);
    }
}

impl RequestCounts {
    #[inline]
    pub(super) fn count(&mut self, method: Method, status: u16) {
        self.0[method.0].count(status);
    }

    pub(super) fn total(&self) -> u64 {
        self.0.iter().map(StatusCounts::total).sum()
    }

    /// Each method and class that occurred, with the count.
    pub(super) fn kinds(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let methods = METHODS.into_iter().chain(["other"]);
        methods
            .zip(&self.0)
            .flat_map(|(method, counts)| counts.classes().map(move |(class, count)| (method, class, count)))
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(mine, theirs)| mine.add(theirs));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_methods_and_statuses_make_no_new_kinds() {
        let mut counts = RequestCounts::default();
        for method in METHODS {
            counts.count(Method::of(method.as_bytes()), 200);
        }
        for method in [&b"get"[..], b"", b"BREW", b"PROPFIND"] {
            counts.count(Method::of(method), 999);
        }
        counts.count(Method::of(b"GET"), 0);
        let kinds: Vec<_> = counts.kinds().collect();
        assert_eq!(kinds[..2], [("GET", "none", 1), ("GET", "2xx", 1)]);
        assert_eq!(kinds.last(), Some(&("other", "5xx", 4)));
        assert_eq!((kinds.len(), counts.total()), (9, 12));
    }
}
