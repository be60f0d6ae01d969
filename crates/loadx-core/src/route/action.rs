//! One route: the conditions on a request, and the action for a request that meets the conditions.

use std::sync::Arc;
use std::time::Duration;

use super::{Access, FieldEdits, Rewrite, Rules};

/// One route of the plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// The name in logs and pages: the name in the config, or `route-N` by position, from 1.
    pub name: Arc<str>,
    /// The conditions on a request.
    pub rules: Rules,
    /// The action for a matching request.
    pub action: Action,
    /// The clients that the route serves.
    pub access: Access,
    /// The longest time of an exchange; `None` means the limit of the config.
    pub exchange_timeout: Option<Duration>,
    /// The largest request body in bytes; `None` means the limit of the config.
    pub body_max: Option<u64>,
    /// Changes to the fields of the response.
    pub response_fields: FieldEdits,
}

impl Route {
    /// Whether the backend gets a path other than the path of the request.
    pub(super) fn rewrites_path(&self) -> bool {
        match &self.action {
            Action::Forward(forward) => forward.rewrite.path.is_some() || forward.rewrite.path_prefix.is_some(),
            Action::Redirect(_) | Action::Respond(_) => false,
        }
    }
}

/// The action of a route.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A backend of a cluster answers the request.
    Forward(Forward),
    /// LoadX answers with a redirect.
    Redirect(Redirect),
    /// LoadX answers with a response of the config.
    Respond(Respond),
}

/// The clusters for a request, and the changes to the request.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    /// The clusters; LoadX draws one by weight.
    pub split: Vec<Share>,
    /// Whether the client's address decides the draw, so that all requests of a client go to one cluster.
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
    /// The share, in proportion to the other weights; a cluster with weight 0 gets no requests.
    pub weight: u32,
}

impl Forward {
    /// Forwards every request to one cluster, unchanged.
    pub fn to(cluster: usize) -> Self {
        Forward {
            split: vec![Share { cluster, weight: 1 }],
            sticky: false,
            mirror: None,
            rewrite: Rewrite::default(),
            request_fields: FieldEdits::default(),
        }
    }

    /// The cluster for a request. `entropy` is 64 random bits, `client` gives 64 bits of the client's address.
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

/// A redirect. For parts that are not set, the target has the parts of the request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redirect {
    /// The status: 301, 302, 303, 307 or 308.
    pub status: u16,
    /// `http` or `https`.
    pub scheme: Option<Arc<str>>,
    /// The host.
    pub host: Option<Arc<str>>,
    /// The port; `None` means the default port of the scheme if the scheme or the host changes, otherwise the port of
    /// the request.
    pub port: Option<u16>,
    /// The path, or the replacement of the matched prefix.
    pub path: Rewrite,
}

/// A response of the config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Respond {
    /// The status, 200 to 599.
    pub status: u16,
    /// The content.
    pub body: Arc<str>,
    /// The Content-Type.
    pub content_type: Arc<str>,
}
