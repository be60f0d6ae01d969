//! Why a pick went to a backend, in words, for operators. Explaining decides nothing.

use crate::backend::Backend;
use crate::balance::{Balancer, Query};
use crate::view::View;

/// The most candidates that an explanation names.
const CANDIDATES_MAX: usize = 50;

/// Why a pick went to a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PickExplanation {
    /// What decided, in words.
    pub why: String,
    /// The backends in rotation at the pick, in the order of the config; of many, the first ones and the picked one.
    pub candidates: Vec<Candidate>,
    /// The number of backends in rotation.
    pub in_rotation: usize,
}

/// A backend that a pick could have gone to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The name of the backend.
    pub name: String,
    /// What counted for or against the backend, in words.
    pub score: String,
    /// Why the backend was passed over; `None` for the picked one, and for those that would have been as good.
    pub passed_over: Option<&'static str>,
    /// Whether the pick went here.
    pub is_picked: bool,
}

impl View {
    /// Explains a pick that has just been made for `query`: it counts as in flight already.
    pub fn explain(&self, picked: usize, query: &Query<'_>) -> PickExplanation {
        let backend = |index: usize| &self.backends[index];
        let before = |index: usize| backend(index).in_flight().saturating_sub(u32::from(index == picked));
        let per_weight = |index: usize| f64::from(before(index)) / f64::from(backend(index).weight());
        let why = match &self.balancer {
            Balancer::RoundRobin(_) => "its turn: backends take turns in proportion to their weights".to_owned(),
            Balancer::LeastConnections(_) => format!(
                "the fewest exchanges in flight in proportion to the weight: {} with {}",
                before(picked),
                weight(backend(picked))
            ),
            Balancer::IpHash(_)
                if self.balancer.choose(&self.backends, query) == Some(picked) && query.tried.is_empty() =>
            {
                "the address of the client decides".to_owned()
            }
            Balancer::IpHash(_) if query.tried.is_empty() => {
                "the address of the client decides, among the backends below their limits".to_owned()
            }
            Balancer::IpHash(_) => {
                "the address of the client decides, among the backends that the request has not tried".to_owned()
            }
        };
        let indices = (0..self.backends.len()).filter(|index| *index < CANDIDATES_MAX || *index == picked);
        let candidates = indices.map(|index| {
            let candidate = backend(index);
            let passed_over = if index == picked {
                None
            } else if query.tried.contains(&candidate.id()) {
                Some("the request has tried it")
            } else if candidate.load.limit().is_some_and(|limit| before(index) >= limit) {
                Some("at its limit")
            } else {
                match &self.balancer {
                    Balancer::RoundRobin(_) => Some("not its turn"),
                    Balancer::LeastConnections(_) if per_weight(index) > per_weight(picked) => {
                        Some("more exchanges in flight for its weight")
                    }
                    Balancer::LeastConnections(_) => None,
                    Balancer::IpHash(_) => Some("not for this address"),
                }
            };
            let limit = candidate.load.limit().map_or_else(String::new, |limit| format!(" of {limit}"));
            Candidate {
                name: candidate.name().to_owned(),
                score: format!("{}{limit} in flight, {}", before(index), weight(candidate)),
                passed_over,
                is_picked: index == picked,
            }
        });
        PickExplanation { why, candidates: candidates.collect(), in_rotation: self.backends.len() }
    }
}

/// The weight in the config, and how much of its share a backend gets that starts slowly.
fn weight(backend: &Backend) -> String {
    match backend.share {
        100 => format!("weight {}", backend.spec.weight),
        share => format!("weight {}, starts slowly with {share} %", backend.spec.weight),
    }
}

#[cfg(test)]
mod tests {
    use crate::{Algorithm, BackendSpec, Cluster, HealthPolicy, Ids, Key, KeyPrefixes, Query, Time};

    fn cluster(algorithm: Algorithm) -> Cluster {
        let mut cluster = Cluster::new(algorithm, HealthPolicy::default());
        let specs = (1..=3).map(|last| BackendSpec::new(&format!("10.0.0.{last}"), 80)).collect();
        cluster.update(Time::ZERO, specs, &mut Ids::default());
        cluster
    }

    fn query() -> Query<'static> {
        let key = Some(Key::from_ip([192, 0, 2, 1].into(), KeyPrefixes::default()));
        Query { now: Time::ZERO, entropy: 0, key, tried: &[] }
    }

    #[test]
    fn a_pick_is_told_with_those_that_were_passed_over() {
        for (algorithm, why, passed_over) in [
            (Algorithm::RoundRobin, "its turn", Some("not its turn")),
            (Algorithm::LeastConnections, "the fewest exchanges in flight", None),
            (Algorithm::IpHash(KeyPrefixes::default()), "the address of the client", Some("not for this address")),
        ] {
            let view = cluster(algorithm).view();
            let pick = view.pick(&query()).picked().unwrap();
            let explained = view.explain(pick.index(), &query());
            assert!(explained.why.starts_with(why), "{explained:?}");
            assert_eq!((explained.in_rotation, explained.candidates.len()), (3, 3));
            for (index, candidate) in explained.candidates.iter().enumerate() {
                let is_picked = index == pick.index();
                assert_eq!(candidate.is_picked, is_picked);
                assert_eq!(candidate.passed_over, passed_over.filter(|_| !is_picked), "{candidate:?}");
                assert_eq!(candidate.score, "0 in flight, weight 1");
            }
        }
    }

    #[test]
    fn tried_and_busier_backends_are_told() {
        let view = cluster(Algorithm::LeastConnections).view();
        let held: Vec<_> = (0..4).map(|_| view.pick(&query()).picked().unwrap()).collect();
        let tried = [view.backends()[1].id()];
        let query = Query { tried: &tried, ..query() };
        let pick = view.pick(&query).picked().unwrap();
        assert_eq!(pick.index(), 2, "the first has two exchanges, the second was tried");
        let explained = view.explain(pick.index(), &query);
        let reasons: Vec<_> = explained.candidates.iter().map(|candidate| candidate.passed_over).collect();
        assert_eq!(reasons, [Some("more exchanges in flight for its weight"), Some("the request has tried it"), None]);
        drop(held);
    }
}
