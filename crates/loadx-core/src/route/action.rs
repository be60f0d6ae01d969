//! One route: what a request must look like, and what then becomes of the request.

use std::sync::Arc;
use std::time::Duration;

use super::{Access, FieldEdits, Rewrite, Rules};

/// One route of the plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Shown in logs and pages: the name that the config gives, or `route-N` by position, from 1.
    pub name: Arc<str>,
    /// What a request must look like.
    pub rules: Rules,
    /// What becomes of a request that matches.
    pub action: Action,
    /// Which clients are served.
    pub access: Access,
    /// The limit of a whole exchange, where it differs from that of the config.
    pub exchange_timeout: Option<Duration>,
    /// The largest request body in bytes, where it differs from that of the config.
    pub body_max: Option<u64>,
    /// Changes to the fields of the response.
    pub response_fields: FieldEdits,
}

impl Route {
    /// Whether the backend gets another path than that of the request.
    pub(super) fn rewrites_path(&self) -> bool {
        match &self.action {
            Action::Forward(forward) => forward.rewrite.path.is_some() || forward.rewrite.path_prefix.is_some(),
            Action::Redirect(_) | Action::Respond(_) => false,
        }
    }
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A cluster answers the request.
    Forward(Forward),
    /// The client is sent to another place.
    Redirect(Redirect),
    /// LoadX answers by itself.
    Respond(Respond),
}

/// Where a request is forwarded to, and how it is changed on the way.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    /// The clusters, of which one is drawn by weight.
    pub split: Vec<Share>,
    /// Whether the client's address draws the cluster, so that a client stays with its cluster.
    pub sticky: bool,
    /// The cluster that gets a copy, as a position in the plan.
    pub mirror: Option<usize>,
    /// Changes to the target and the host.
    pub rewrite: Rewrite,
    /// Changes to the fields of the request.
    pub request_fields: FieldEdits,
}

/// One cluster's share of a route.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The cluster, as a position in the plan.
    pub cluster: usize,
    /// The share, in proportion to the other weights; a weight of 0 gets nothing.
    pub weight: u32,
}

impl Forward {
    /// Everything to one cluster, unchanged.
    pub fn to(cluster: usize) -> Self {
        Forward {
            split: vec![Share { cluster, weight: 1 }],
            sticky: false,
            mirror: None,
            rewrite: Rewrite::default(),
            request_fields: FieldEdits::default(),
        }
    }

    /// The cluster for a request. `entropy` is 64 random bits, `client` 64 bits that belong to the client's address.
    pub fn cluster(&self, entropy: u64, client: impl FnOnce() -> u64) -> usize {
        if let [only] = &self.split[..] {
            return only.cluster;
        }
        let bits = if self.sticky { client() } else { entropy };
        let total: u64 = self.split.iter().map(|share| u64::from(share.weight)).sum();
        let mut left = ((u128::from(bits) * u128::from(total)) >> 64) as u64;
        for share in &self.split {
            let weight = u64::from(share.weight);
            if left < weight {
                return share.cluster;
            }
            left -= weight;
        }
        self.split.last().map_or(0, |share| share.cluster)
    }
}

/// Another place for the client to go. What is not set stays as it was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redirect {
    /// The status: 301, 302, 303, 307 or 308.
    pub status: u16,
    /// `http` or `https`.
    pub scheme: Option<Arc<str>>,
    /// The host.
    pub host: Option<Arc<str>>,
    /// The port; without one, the scheme's own when the scheme or the host changes.
    pub port: Option<u16>,
    /// The path, or the replacement of the matched prefix.
    pub path: Rewrite,
}

/// A response that the config holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Respond {
    /// The status, 200 to 599.
    pub status: u16,
    /// The content.
    pub body: Arc<str>,
    /// The Content-Type.
    pub content_type: Arc<str>,
}
