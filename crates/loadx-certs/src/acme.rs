//! Certificates of public authorities (ACME, RFC 8555).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error, ExternalAccountKey,
    Identifier, KeyAuthorization, LetsEncrypt, NewAccount, NewOrder, Order, OrderStatus, RetryPolicy, RevocationReason,
    RevocationRequest,
};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use sha2::{Digest as _, Sha256};
use tokio::process::Command;
use tokio::time::Instant;

use crate::{Bundle, CertsError, Store};

/// The longest time that the authority may take to check a name, and to sign a certificate.
const AUTHORITY_TIMEOUT: Duration = Duration::from_secs(120);

/// The longest time of an order with all its tries. The program for DNS may take two thirds of this time.
const ORDER_LIMIT: Duration = Duration::from_secs(15 * 60);

/// The problem of a request whose number the authority no longer takes (RFC 8555, section 6.5). The library sends the request
/// again, but not often: an authority on several servers, or one that has just started, refuses more of them.
const BAD_NONCE: &str = "urn:ietf:params:acme:error:badNonce";

/// How often LoadX begins an order or an account again after refused numbers.
const NONCE_TRIES: usize = 5;

/// The problem of a certificate that was revoked before (RFC 8555, section 6.7).
const ALREADY_REVOKED: &str = "urn:ietf:params:acme:error:alreadyRevoked";

/// The interval in which LoadX looks whether another LoadX still makes an account.
const LOCK_LOOK: Duration = Duration::from_millis(500);

/// The longest time that the program which sets records in DNS may take.
const HOOK_TIMEOUT: Duration = Duration::from_secs(300);

/// Which authority, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AcmeSettings {
    /// The address of the authority's directory; `None` means that of Let's Encrypt.
    pub directory: Option<String>,
    /// The address at which the authority warns of problems.
    pub email: Option<String>,
    /// The file with the certificates that prove the authority's server; `None` means those of the system.
    pub ca: Option<PathBuf>,
    /// The profile of the authority.
    pub profile: Option<String>,
    /// The program that sets and removes records in DNS.
    pub dns_hook: Option<PathBuf>,
    /// The key by which the authority knows its customer.
    pub customer_key: Option<CustomerKey>,
}

/// The key by which the authority knows its customer (RFC 8555, section 7.3.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomerKey {
    /// The name of the key.
    pub id: String,
    /// The file with the key in the notation base64url.
    pub file: PathBuf,
}

/// How LoadX proves that a name is its own (RFC 8555, section 8).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// By a response over HTTP.
    Http,
    /// By a certificate on a connection of TLS (RFC 8737).
    Tls,
    /// By a record in DNS.
    Dns,
}

/// Answers the questions of the authority.
pub trait Answers: Send + Sync {
    /// Answers requests over HTTP for this token, or stops to answer.
    fn http(&self, token: &str, answer: Option<&str>);

    /// Shows this certificate to an authority that asks over TLS for this name, or stops to show it.
    fn tls(&self, name: &str, certificate: Option<&Bundle>);
}

/// An account at an authority.
pub struct Acme {
    account: Account,
    settings: AcmeSettings,
}

impl std::fmt::Debug for Acme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acme").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Acme {
    /// The folder of the store with the certificates of an authority.
    pub fn kind(settings: &AcmeSettings) -> String {
        let directory = directory(settings);
        let host = directory.split("://").nth(1).unwrap_or_default().split(['/', ':']).next().unwrap_or_default();
        let mut name = format!("acme-{host}-");
        for byte in &Sha256::digest(directory.as_bytes())[..4] {
            let _ = write!(name, "{byte:02x}");
        }
        name
    }

    /// Whether the store has an account at this authority.
    pub fn has_account(settings: &AcmeSettings, store: &Store) -> bool {
        account_file(settings, store).is_file()
    }

    /// Takes the account of the store, or makes one and agrees to the terms of the authority.
    ///
    /// # Errors
    /// When the authority cannot be reached or refuses, or the store cannot be read or written.
    pub async fn open(settings: &AcmeSettings, store: &Store) -> Result<Self, CertsError> {
        let kind = Acme::kind(settings);
        let path = account_file(settings, store);
        let builder = || match &settings.ca {
            Some(ca) => {
                Account::builder_with_root(ca).map_err(|error| CertsError::Content(ca.clone(), error.to_string()))
            }
            None => Account::builder().map_err(|error| failed("the certificates of the system", &error)),
        };
        // Only one LoadX makes an account. The others find it.
        let lock = loop {
            match store.try_lock(&kind)? {
                Some(lock) => break lock,
                None => tokio::time::sleep(LOCK_LOOK).await,
            }
        };
        let account = match store.read(&path)? {
            Some(text) => {
                let credentials: AccountCredentials = serde_json::from_str(&text)
                    .map_err(|error| CertsError::Content(path.clone(), format!("it is no account: {error}")))?;
                within(builder()?.from_credentials(credentials))
                    .await?
                    .map_err(|error| failed(directory(settings), &error))?
            }
            None => {
                let contact = settings.email.as_ref().map(|email| format!("mailto:{email}"));
                let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
                let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
                let customer = settings.customer_key.as_ref().map(external_key).transpose()?;
                let (account, credentials) = again(async || {
                    let made = builder()?.create(&new, directory(settings).to_owned(), customer.as_ref());
                    within(made).await?.map_err(|error| failed(directory(settings), &error))
                })
                .await?;
                let text = serde_json::to_string_pretty(&credentials)
                    .map_err(|error| CertsError::Making(error.to_string()))?;
                store.write(&path, &text)?;
                account
            }
        };
        drop(lock);
        Ok(Acme { account, settings: settings.clone() })
    }

    /// Gets a certificate for a name. `former`: the certificate that the new one replaces.
    ///
    /// # Errors
    /// When the authority cannot be reached, does not accept a proof, or does not sign.
    pub async fn obtain(
        &self,
        name: &str,
        proof: Proof,
        former: Option<&Bundle>,
        answers: &Arc<dyn Answers>,
    ) -> Result<Bundle, CertsError> {
        let deadline = Instant::now() + ORDER_LIMIT;
        again(async || {
            let mut order = self.order(name, former).await?;
            let mut given = Given { answers: Arc::clone(answers), settings: &self.settings, all: Vec::new() };
            let completing = self.complete(&mut order, name, proof, &mut given);
            let outcome = tokio::time::timeout_at(deadline, completing).await.unwrap_or_else(|_| {
                let minutes = ORDER_LIMIT.as_secs() / 60;
                Err(CertsError::Authority(format!("the authority did not finish the order within {minutes} min")))
            });
            given.withdraw().await;
            outcome
        })
        .await
    }

    /// Orders a certificate.
    async fn order(&self, name: &str, former: Option<&Bundle>) -> Result<Order, CertsError> {
        let identifiers = [Identifier::Dns(name.to_owned())];
        let new = || {
            let order = NewOrder::new(&identifiers);
            match &self.settings.profile {
                Some(profile) => order.profile(profile),
                None => order,
            }
        };
        // An authority that does not know the former certificate, or has an order that replaces it, refuses the order, so that the
        // order is made without.
        if let Some(id) = former.and_then(identifier) {
            match within(self.account.new_order(&new().replaces(id)))
                .await?
                .map_err(|error| failed("the order", &error))
            {
                Err(CertsError::Authority(_)) => {}
                outcome => return outcome,
            }
        }
        within(self.account.new_order(&new())).await?.map_err(|error| failed("the order", &error))
    }

    async fn complete(
        &self,
        order: &mut Order,
        name: &str,
        proof: Proof,
        given: &mut Given<'_>,
    ) -> Result<Bundle, CertsError> {
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(|error| failed("the order", &error))?;
            match authorization.status {
                AuthorizationStatus::Valid => continue,
                AuthorizationStatus::Pending => {}
                status => return Err(CertsError::Authority(format!("the authority refuses {name}: {status:?}"))),
            }
            let kind = match proof {
                Proof::Http => ChallengeType::Http01,
                Proof::Tls => ChallengeType::TlsAlpn01,
                Proof::Dns => ChallengeType::Dns01,
            };
            let Some(mut challenge) = authorization.challenge(kind) else {
                return Err(CertsError::Authority(format!(
                    "the authority does not accept a proof by {} for {name}",
                    proof.as_str()
                )));
            };
            let key = challenge.key_authorization();
            let token = challenge.token.clone();
            given.give(name, proof, &token, &key).await?;
            challenge.set_ready().await.map_err(|error| failed("the proof", &error))?;
        }
        let patience = RetryPolicy::default().timeout(AUTHORITY_TIMEOUT);
        let status = order.poll_ready(&patience).await.map_err(|error| failed("the check of the name", &error))?;
        if status != OrderStatus::Ready && status != OrderStatus::Valid {
            return Err(CertsError::Authority(reason(order, name).await));
        }
        let key = KeyPair::generate().map_err(|error| CertsError::Making(error.to_string()))?;
        let mut params =
            CertificateParams::new([name.to_owned()]).map_err(|error| CertsError::Making(error.to_string()))?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        let request = params.serialize_request(&key).map_err(|error| CertsError::Making(error.to_string()))?;
        order.finalize_csr(request.der()).await.map_err(|error| failed("the request for a certificate", &error))?;
        let chain = order.poll_certificate(&patience).await.map_err(|error| failed("the certificate", &error))?;
        crate::authority::bundle(&chain, &key)
    }

    /// Has the authority revoke a certificate that this account got (RFC 8555, section 7.6). A certificate that is revoked
    /// already is no error.
    ///
    /// # Errors
    /// When the authority cannot be reached or refuses.
    pub async fn revoke(&self, bundle: &Bundle, reason: RevocationReason) -> Result<(), CertsError> {
        let (_, content) = x509_parser::pem::parse_x509_pem(bundle.chain().as_bytes())
            .map_err(|error| CertsError::Making(error.to_string()))?;
        let request = RevocationRequest { certificate: &content.contents.into(), reason: Some(reason) };
        again(async || match within(self.account.revoke(&request)).await? {
            Err(Error::Api(problem)) if problem.r#type.as_deref() == Some(ALREADY_REVOKED) => Ok(()),
            outcome => outcome.map_err(|error| failed("the revocation", &error)),
        })
        .await
    }

    /// When the authority wants the certificate to be renewed (RFC 9773): a moment in the time that the authority suggests,
    /// the same for each call. None if the authority suggests nothing.
    pub async fn renew_at(&self, bundle: &Bundle) -> Option<SystemTime> {
        let id = identifier(bundle)?;
        let (info, _) = within(self.account.renewal_info(&id)).await.ok()?.ok()?;
        let (start, end): (SystemTime, SystemTime) =
            (info.suggested_window.start.into(), info.suggested_window.end.into());
        let width = end.duration_since(start).unwrap_or_default();
        let share = Sha256::digest(id.to_string().as_bytes())[0];
        Some(start + width * u32::from(share) / 256)
    }
}

impl Proof {
    /// The name of the challenge (RFC 8555, section 9.7.8).
    pub fn as_str(self) -> &'static str {
        match self {
            Proof::Http => "http-01",
            Proof::Tls => "tls-alpn-01",
            Proof::Dns => "dns-01",
        }
    }
}

/// The answers that were given for one order.
struct Given<'g> {
    answers: Arc<dyn Answers>,
    settings: &'g AcmeSettings,
    all: Vec<Answer>,
}

enum Answer {
    Http(String),
    Tls(String),
    Dns { record: String, value: String },
}

impl Given<'_> {
    async fn give(&mut self, name: &str, proof: Proof, token: &str, key: &KeyAuthorization) -> Result<(), CertsError> {
        match proof {
            Proof::Http => {
                self.answers.http(token, Some(key.as_str()));
                self.all.push(Answer::Http(token.to_owned()));
            }
            Proof::Tls => {
                self.answers.tls(name, Some(&proving(name, key)?));
                self.all.push(Answer::Tls(name.to_owned()));
            }
            Proof::Dns => {
                let record = format!("_acme-challenge.{}", name.trim_start_matches("*."));
                let value = key.dns_value();
                self.call_hook("set", &record, &value).await?;
                self.all.push(Answer::Dns { record, value });
            }
        }
        Ok(())
    }

    async fn withdraw(self) {
        for answer in &self.all {
            match answer {
                Answer::Http(token) => self.answers.http(token, None),
                Answer::Tls(name) => self.answers.tls(name, None),
                Answer::Dns { record, value } => {
                    if let Err(error) = self.call_hook("remove", record, value).await {
                        tracing::warn!("the record {record} stays in DNS: {error}");
                    }
                }
            }
        }
    }

    async fn call_hook(&self, verb: &str, record: &str, value: &str) -> Result<(), CertsError> {
        let Some(program) = &self.settings.dns_hook else {
            return Err(CertsError::Authority("a proof by dns-01 needs \"dns_hook\"".to_owned()));
        };
        let failed = |reason: String| CertsError::Hook(program.clone(), reason);
        let mut command = Command::new(program);
        command.args([verb, record, value]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        let output = tokio::time::timeout(HOOK_TIMEOUT, command.output()).await;
        let output = output
            .map_err(|_| failed(format!("{verb} did not end within {} s", HOOK_TIMEOUT.as_secs())))?
            .map_err(|error| failed(error.to_string()))?;
        match output.status.success() {
            true => Ok(()),
            false => Err(failed(format!(
                "{verb} {record}: {}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            ))),
        }
    }
}

/// Calls `attempt` again while the authority refuses the numbers of requests.
async fn again<T>(attempt: impl AsyncFn() -> Result<T, CertsError>) -> Result<T, CertsError> {
    for _ in 1..NONCE_TRIES {
        match attempt().await {
            Err(CertsError::Nonce(_)) => {}
            outcome => return outcome,
        }
    }
    attempt().await
}

/// Waits for an answer of the authority. The library has no limit for one.
async fn within<T>(answer: impl Future<Output = T>) -> Result<T, CertsError> {
    let silent = |_| CertsError::Authority(format!("no answer within {} s", AUTHORITY_TIMEOUT.as_secs()));
    tokio::time::timeout(AUTHORITY_TIMEOUT, answer).await.map_err(silent)
}

fn account_file(settings: &AcmeSettings, store: &Store) -> PathBuf {
    store.folder().join(Acme::kind(settings)).join("account.json")
}

fn directory(settings: &AcmeSettings) -> &str {
    settings.directory.as_deref().unwrap_or_else(|| LetsEncrypt::Production.url())
}

/// The certificate that proves over TLS that a name is LoadX's own (RFC 8737, section 3).
fn proving(name: &str, key: &KeyAuthorization) -> Result<Bundle, CertsError> {
    let making = |error: rcgen::Error| CertsError::Making(error.to_string());
    let mut params = CertificateParams::new([name.to_owned()]).map_err(making)?;
    params.custom_extensions.push(CustomExtension::new_acme_identifier(key.digest().as_ref()));
    let key = KeyPair::generate().map_err(making)?;
    let certificate = params.self_signed(&key).map_err(making)?;
    crate::authority::bundle(&certificate.pem(), &key)
}

/// How the authority names a certificate of its own.
fn identifier(bundle: &Bundle) -> Option<CertificateIdentifier<'static>> {
    let pem = x509_parser::pem::Pem::iter_from_buffer(bundle.chain().as_bytes()).filter_map(Result::ok).next()?;
    CertificateIdentifier::try_from(&pem.contents.into()).ok().map(CertificateIdentifier::into_owned)
}

fn external_key(key: &CustomerKey) -> Result<ExternalAccountKey, CertsError> {
    let text = read(&key.file)?;
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text.trim().trim_end_matches('=')).map_err(|error| {
        CertsError::Content(key.file.clone(), format!("the key is not in the notation base64url: {error}"))
    })?;
    Ok(ExternalAccountKey::new(key.id.clone(), &bytes))
}

fn read(path: &Path) -> Result<String, CertsError> {
    std::fs::read_to_string(path).map_err(CertsError::file(path))
}

/// Why the authority did not accept the proof.
async fn reason(order: &mut Order, name: &str) -> String {
    let mut authorizations = order.authorizations();
    while let Some(Ok(authorization)) = authorizations.next().await {
        for challenge in &authorization.challenges {
            if let Some(problem) = &challenge.error {
                return format!("the authority did not accept the proof for {name}: {problem}");
            }
        }
    }
    format!("the authority did not accept the proof for {name}, and gave no reason")
}

fn failed(what: &str, error: &Error) -> CertsError {
    let mut text = format!("{what}: {error}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    match error {
        Error::Api(problem) if problem.r#type.as_deref() == Some(BAD_NONCE) => CertsError::Nonce(text),
        _ => CertsError::Authority(text),
    }
}
