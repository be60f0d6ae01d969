//! TLS of a listener.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use loadx_core::config::{CertificateFiles, TlsConfig};
use rustls::ServerConfig;
use rustls::server::ClientHello;
use rustls::sign::SingleCertAndKey;

use super::choice::{Choice, NoIdentity, Reason};
use super::clients::{self, Group};
use super::error::TlsError;
use super::files::{Stamp, stamp};
use super::identities::{IdentityTable, Keyring};
use super::identity::{Identity, provider};

/// TLS of one listener.
#[derive(Debug)]
pub(crate) struct ServerTls {
    config: TlsConfig,
    choice: Choice,
    /// One for each different rule for the certificates of clients.
    groups: ArcSwap<Vec<Arc<Group>>>,
    /// The files of each part, as they were when LoadX began to read them.
    stamps: Mutex<Vec<Vec<Stamp>>>,
    /// Why files could not be read again, by part.
    problems: Mutex<BTreeMap<usize, String>>,
}

/// The result of reading a part again.
pub(crate) struct Read {
    pub(crate) files: Vec<PathBuf>,
    /// The certificate, if the part has a new one.
    pub(crate) outcome: Result<Option<Arc<Identity>>, TlsError>,
}

/// A name whose certificate LoadX gets.
#[derive(Debug)]
pub(crate) struct Automatic {
    pub(crate) name: Arc<str>,
    pub(crate) identity: Option<Arc<Identity>>,
    /// Why there is no certificate, or no new one.
    pub(crate) problem: Option<String>,
}

/// What a client gets.
pub(super) struct Chosen {
    pub(super) settings: Arc<ServerConfig>,
    pub(super) identity: Arc<Identity>,
    /// The group of the client; none for an authority that asks for a proof.
    pub(super) group: Option<Arc<Group>>,
}

impl ServerTls {
    /// Reads the files that `config` names, and sets TLS up. `former`: TLS of the listener so far, whose tickets stay valid
    /// where the same rule lets clients in.
    ///
    /// # Errors
    /// Any [`TlsError`].
    pub(crate) fn new(
        config: &TlsConfig,
        keyring: &Arc<Keyring>,
        former: Option<&ServerTls>,
    ) -> Result<ServerTls, TlsError> {
        let stamps = stamps(config);
        let own = read_all(&config.certificates, former.map(|former| former.choice.own.load_full()).as_deref())?;
        let choice = Choice {
            own: ArcSwap::from_pointee(own),
            keyring: Arc::clone(keyring),
            auto: config.auto.clone(),
            auto_names: config.auto.iter().cloned().collect(),
            refuses_unknown: config.refuses_unknown,
        };
        let groups = groups(config, &former.map(|former| former.groups.load_full()).unwrap_or_default())?;
        Ok(ServerTls {
            config: config.clone(),
            choice,
            groups: ArcSwap::from_pointee(groups),
            stamps: Mutex::new(stamps),
            problems: Mutex::default(),
        })
    }

    /// What is wrong with the files by which LoadX checks the certificates of clients.
    pub(crate) fn client_problems(&self) -> Vec<String> {
        let unread = lock(&self.problems).clone().split_off(&self.config.certificates.len());
        unread.into_values().chain(self.list_faults()).collect()
    }

    /// Whether TLS has files.
    pub(crate) fn has_files(&self) -> bool {
        !self.config.certificates.is_empty() || self.config.clients.distinct().into_iter().any(Option::is_some)
    }

    /// The files of each part as they are now.
    pub(crate) fn stamps(&self) -> Vec<Vec<Stamp>> {
        stamps(&self.config)
    }

    /// The parts whose files differ from those that LoadX read. `now`: the files as they are.
    pub(crate) fn replaced(&self, now: &[Vec<Stamp>]) -> Vec<usize> {
        let read = lock(&self.stamps);
        (0..now.len()).filter(|part| read.get(*part) != now.get(*part)).collect()
    }

    /// What is wrong with the lists of revoked certificates.
    pub(crate) fn list_faults(&self) -> Vec<String> {
        let (now, groups) = (SystemTime::now(), self.groups.load());
        groups.iter().flat_map(|group| group.list_faults(now)).map(str::to_owned).collect()
    }

    /// Reads the files of these parts again, each for itself: of a part that cannot be read, what was read before stays in use.
    pub(crate) fn read_again(&self, wanted: &[usize]) -> Vec<Read> {
        let parts = parts(&self.config);
        let certificates = &self.config.certificates;
        let former = self.choice.own.load_full();
        let mut own = former.all().to_vec();
        let mut groups = Vec::clone(&self.groups.load());
        let mut read = |part: usize| -> Result<Option<Arc<Identity>>, TlsError> {
            if let Some(files) = certificates.get(part) {
                let identity = read_one(files, Some(&former))?;
                let is_new = own[part].chain() != identity.chain();
                own[part] = Arc::clone(&identity);
                return Ok(is_new.then_some(identity));
            }
            let group = &mut groups[part - certificates.len()];
            *group = Arc::new(Group::new(&self.config, group.rule(), Some(group))?);
            Ok(None)
        };
        let mut all = Vec::new();
        for part in wanted.iter().copied() {
            let files = &parts[part];
            // Before reading: a file that is replaced meanwhile is read again.
            lock(&self.stamps)[part] = stamps_of(files);
            let outcome = read(part);
            let mut problems = lock(&self.problems);
            match &outcome {
                Ok(_) => problems.remove(&part),
                Err(error) => problems.insert(part, error.to_string()),
            };
            all.push(Read { files: files.iter().map(|file| file.to_path_buf()).collect(), outcome });
        }
        self.choice.own.store(Arc::new(IdentityTable::new(own)));
        self.groups.store(Arc::new(groups));
        all
    }

    /// The certificates of files, each with the reason why its files could not be read again.
    pub(crate) fn of_files(&self) -> Vec<(Arc<Identity>, Option<String>)> {
        let (own, problems) = (self.choice.own.load(), lock(&self.problems));
        let identities = own.all().iter().cloned().enumerate();
        identities.map(|(part, identity)| (identity, problems.get(&part).cloned())).collect()
    }

    /// Of each name whose certificate LoadX gets, the certificate, if there is one, and the last problem.
    pub(crate) fn automatic(&self) -> impl Iterator<Item = Automatic> {
        let keyring = &self.choice.keyring;
        let table = keyring.table();
        self.config.auto.iter().map(move |name| Automatic {
            name: Arc::clone(name),
            identity: table.named(name).cloned(),
            problem: keyring.problem(name),
        })
    }

    /// What this client gets. `local`: the address to which the client connected.
    ///
    /// # Errors
    /// [`NoIdentity`].
    pub(super) fn choose(&self, hello: &ClientHello<'_>, local: Option<IpAddr>) -> Result<Chosen, NoIdentity> {
        let identity = self.choice.of(hello, local)?;
        let rules = &self.config.clients;
        let rule = match hello.server_name() {
            Some(name) => rules.of(&name.to_ascii_lowercase()),
            None => &rules.others,
        };
        let groups = self.groups.load();
        // There is a group for each rule; a client without one would get no certificate.
        let group = groups.iter().find(|group| group.rule() == rule).ok_or(NoIdentity::UnknownName)?;
        let settings = group.settings_with(&identity);
        Ok(Chosen { settings, identity, group: Some(Arc::clone(group)) })
    }

    /// The certificate that a client with all kinds of keys gets that asks for this name, or connects to this address without
    /// a name; and why.
    pub(super) fn explain(&self, name: Option<&str>, local: Option<IpAddr>) -> (Option<Arc<Identity>>, Reason) {
        self.choice.first(name, local, &|_| true)
    }

    /// The proof for an authority that asks over TLS for this name.
    ///
    /// # Errors
    /// [`NoIdentity::UnknownName`].
    pub(super) async fn prove(&self, name: Option<&str>) -> Result<Chosen, NoIdentity> {
        let name = name.ok_or(NoIdentity::UnknownName)?;
        let identity = self.choice.keyring.tls_answer(name).await.ok_or(NoIdentity::UnknownName)?;
        let settings = challenge_settings(&identity).ok_or(NoIdentity::UnknownName)?;
        Ok(Chosen { settings, identity, group: None })
    }
}

/// The files of the parts that LoadX reads each for itself: each certificate with its key, then each rule for certificates of
/// clients.
fn parts(config: &TlsConfig) -> Vec<Vec<&Path>> {
    let certificates = config.certificates.iter().map(|files| match files.certificate == files.key {
        true => vec![&*files.certificate],
        false => vec![&*files.certificate, &*files.key],
    });
    certificates.chain(config.clients.distinct().into_iter().map(|rule| clients::files(rule).collect())).collect()
}

fn stamps(config: &TlsConfig) -> Vec<Vec<Stamp>> {
    parts(config).iter().map(|files| stamps_of(files)).collect()
}

fn stamps_of(files: &[&Path]) -> Vec<Stamp> {
    files.iter().map(|file| stamp(file)).collect()
}

/// A group for each different rule, in the order of the rules. `former`: the groups so far, whose tickets stay valid.
fn groups(config: &TlsConfig, former: &[Arc<Group>]) -> Result<Vec<Arc<Group>>, TlsError> {
    let group = |rule| {
        let former = former.iter().find(|group| group.rule() == rule);
        Group::new(config, rule, former.map(|group| &**group)).map(Arc::new)
    };
    config.clients.distinct().into_iter().map(group).collect()
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the client is an authority that asks for a proof.
pub(super) fn asks_for_proof(hello: &ClientHello<'_>) -> bool {
    hello.alpn().is_some_and(|mut protocols| protocols.any(|protocol| protocol == ACME_PROTOCOL))
}

/// The protocol by which an authority asks over TLS (RFC 8737, section 4).
const ACME_PROTOCOL: &[u8] = b"acme-tls/1";

/// The settings for an authority that asks over TLS. Made anew for each question: questions are rare.
fn challenge_settings(identity: &Identity) -> Option<Arc<ServerConfig>> {
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().ok()?;
    let answer = SingleCertAndKey::from(Arc::clone(identity.certified()));
    let mut settings = builder.with_no_client_auth().with_cert_resolver(Arc::new(answer));
    settings.alpn_protocols = vec![ACME_PROTOCOL.to_vec()];
    Some(Arc::new(settings))
}

/// Reads certificates. A certificate that clients would not accept is an error only if LoadX does not serve it already: a
/// listener with an expired certificate must not keep LoadX from starting or from applying other changes.
fn read_all(files: &[CertificateFiles], former: Option<&IdentityTable>) -> Result<IdentityTable, TlsError> {
    files.iter().map(|files| read_one(files, former)).collect::<Result<_, _>>().map(IdentityTable::new)
}

fn read_one(files: &CertificateFiles, former: Option<&IdentityTable>) -> Result<Arc<Identity>, TlsError> {
    let identity = Identity::read(&files.certificate, &files.key)
        .map_err(|error| TlsError::Identity(files.certificate.clone(), error))?;
    let is_new = |former: &IdentityTable| !former.all().iter().any(|known| known.chain() == identity.chain());
    if let Some(reason) = identity.fault_at(SystemTime::now()).filter(|_| former.is_some_and(is_new)) {
        return Err(TlsError::Validity(files.certificate.clone(), reason));
    }
    Ok(Arc::new(identity))
}
