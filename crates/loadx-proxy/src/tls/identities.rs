//! Certificates by the names that they are for.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;

use super::identity::Identity;
use crate::limits::CHALLENGE_LOOKS_MAX;

/// Certificates by name. A look-up takes two steps, however many certificates there are.
#[derive(Debug, Default)]
pub(crate) struct IdentityTable {
    all: Vec<Arc<Identity>>,
    /// By the whole name.
    exact: HashMap<Box<str>, Vec<usize>>,
    /// By the name behind `*.`.
    below: HashMap<Box<str>, Vec<usize>>,
}

impl IdentityTable {
    pub(crate) fn new(all: Vec<Arc<Identity>>) -> Self {
        let mut table = IdentityTable { all, ..IdentityTable::default() };
        for (index, identity) in table.all.iter().enumerate() {
            for name in identity.names() {
                match name.strip_prefix("*.") {
                    Some(parent) => table.below.entry(parent.into()).or_default().push(index),
                    None => table.exact.entry(name.clone()).or_default().push(index),
                }
            }
        }
        table
    }

    /// All certificates, in their order.
    pub(crate) fn all(&self) -> &[Arc<Identity>] {
        &self.all
    }

    /// A certificate that has this name, which may begin with `*.`, as a name of its own.
    pub(crate) fn named(&self, name: &str) -> Option<&Arc<Identity>> {
        let positions = match name.strip_prefix("*.") {
            Some(parent) => self.below.get(parent),
            None => self.exact.get(name),
        };
        positions?.first().map(|index| &self.all[*index])
    }

    /// The certificates for a name in lower case: those with the name itself before those with a wildcard.
    pub(crate) fn find(&self, name: &str) -> impl Iterator<Item = &Arc<Identity>> {
        let exact = self.exact.get(name);
        let below = name.split_once('.').and_then(|(_, parent)| self.below.get(parent));
        exact.into_iter().chain(below).flatten().map(|index| &self.all[*index])
    }
}

/// Where other instances of LoadX put the answers to the questions of authorities, so that any of them can answer. Called on
/// threads that may wait.
pub trait Elsewhere: Send + Sync {
    /// The answer to a request over HTTP with this token.
    fn http(&self, token: &str) -> Option<String>;

    /// The certificate for a question over TLS for this name.
    fn tls(&self, name: &str) -> Option<Arc<Identity>>;
}

/// The certificates that LoadX obtains itself, for all listeners. The owner of the certificates replaces them while the
/// proxy runs.
#[derive(Default)]
pub struct Keyring {
    table: ArcSwap<IdentityTable>,
    challenges: ArcSwap<Challenges>,
    problems: ArcSwap<BTreeMap<String, String>>,
    elsewhere: OnceLock<Arc<dyn Elsewhere>>,
    looks: Looks,
}

/// The looks elsewhere at the same time. Anybody may ask for answers.
#[derive(Debug)]
struct Looks(Arc<Semaphore>);

impl Default for Looks {
    fn default() -> Self {
        Looks(Arc::new(Semaphore::new(CHALLENGE_LOOKS_MAX)))
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("table", &self.table).finish_non_exhaustive()
    }
}

/// The answers to the questions of an authority that checks whether a name is LoadX's own (RFC 8555, section 8).
#[derive(Debug, Default)]
pub struct Challenges {
    /// The answers over HTTP, by the last segment of the path.
    pub http: HashMap<String, String>,
    /// The answers over TLS (RFC 8737): certificates by name.
    pub tls: HashMap<String, Arc<Identity>>,
}

impl Keyring {
    /// Replaces the reasons why names have no certificate, or no new certificate, by name; for the status.
    pub fn set_problems(&self, problems: BTreeMap<String, String>) {
        self.problems.store(Arc::new(problems));
    }

    pub(crate) fn problem(&self, name: &str) -> Option<String> {
        self.problems.load().get(name).cloned()
    }

    /// Replaces the answers to the questions of authorities.
    pub fn set_challenges(&self, challenges: Challenges) {
        self.challenges.store(Arc::new(challenges));
    }

    /// The answer to a request of an authority: the path without its beginning
    /// [`CHALLENGE_PATH`](crate::tls::CHALLENGE_PATH).
    pub(crate) async fn http_answer(&self, token: &str) -> Option<String> {
        let known = self.challenges.load().http.get(token).cloned();
        if known.is_some() {
            return known;
        }
        self.look(token, |elsewhere, token| elsewhere.http(token)).await
    }

    /// The certificate for an authority that asks over TLS for this name.
    pub(super) async fn tls_answer(&self, name: &str) -> Option<Arc<Identity>> {
        let known = self.challenges.load().tls.get(name).cloned();
        if known.is_some() {
            return known;
        }
        self.look(name, |elsewhere, name| elsewhere.tls(name)).await
    }

    /// Has LoadX look elsewhere for answers that this instance did not give.
    pub fn look_elsewhere(&self, elsewhere: Arc<dyn Elsewhere>) {
        // The first place stays.
        let _ = self.elsewhere.set(elsewhere);
    }

    /// Looks elsewhere, on a thread that may wait. Nothing is found while many looks are under way.
    async fn look<T: Send + 'static>(&self, key: &str, find: fn(&dyn Elsewhere, &str) -> Option<T>) -> Option<T> {
        let elsewhere = Arc::clone(self.elsewhere.get()?);
        let permit = Arc::clone(&self.looks.0).try_acquire_owned().ok()?;
        let key = key.to_owned();
        let look = move || {
            let _permit = permit;
            find(&*elsewhere, &key)
        };
        tokio::task::spawn_blocking(look).await.ok()?
    }

    /// Replaces all certificates.
    pub fn replace(&self, identities: Vec<Arc<Identity>>) {
        self.table.store(Arc::new(IdentityTable::new(identities)));
    }

    /// All certificates.
    pub fn identities(&self) -> Vec<Arc<Identity>> {
        self.table.load().all().to_vec()
    }

    pub(super) fn table(&self) -> Arc<IdentityTable> {
        self.table.load_full()
    }
}
