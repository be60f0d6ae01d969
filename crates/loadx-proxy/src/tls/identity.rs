//! Certificates with their private keys.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::files::pem_fault;

/// A chain of certificates with the private key of its first certificate.
#[derive(Debug)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
    names: Vec<Box<str>>,
    not_before: SystemTime,
    not_after: SystemTime,
    issuer: String,
}

/// Why a certificate or a key cannot be used.
#[derive(Debug)]
pub enum IdentityError {
    /// A file cannot be read.
    File(PathBuf, io::Error),
    /// The text has no certificate.
    NoCertificate,
    /// A certificate cannot be read; with the reason.
    Certificate(String),
    /// The text has no private key.
    NoKey,
    /// The private key cannot be used; with the reason.
    Key(String),
    /// The private key belongs to another certificate.
    Mismatch,
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdentityError::File(path, error) => write!(f, "{} cannot be read: {error}", path.display()),
            IdentityError::NoCertificate => {
                f.write_str("there is no certificate in the PEM format (-----BEGIN CERTIFICATE-----)")
            }
            IdentityError::Certificate(reason) => write!(f, "the certificate cannot be read: {reason}"),
            IdentityError::NoKey => f.write_str(
                "there is no private key in the PEM format without a password (-----BEGIN PRIVATE KEY-----)",
            ),
            IdentityError::Key(reason) => write!(f, "the private key cannot be used: {reason}"),
            IdentityError::Mismatch => f.write_str("the private key does not belong to the certificate"),
        }
    }
}

impl std::error::Error for IdentityError {}

impl Identity {
    /// Reads a chain, its first certificate first, and the private key of that certificate, both in the PEM format.
    ///
    /// # Errors
    /// When the texts have no certificate or no key, the key cannot be used, or the two do not belong together.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, IdentityError> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .map_err(|error| IdentityError::Certificate(pem_fault(&error)))?;
        let leaf = chain.first().ok_or(IdentityError::NoCertificate)?;
        let certificate = parse(leaf)?;
        let names = names(&certificate);
        let validity = certificate.validity();
        let (not_before, not_after) = (time(validity.not_before.timestamp()), time(validity.not_after.timestamp()));
        let issuer = certificate.issuer().to_string();
        let public_key = certificate.public_key().raw.to_vec();
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| IdentityError::NoKey)?;
        let key =
            provider().key_provider.load_private_key(key).map_err(|error| IdentityError::Key(error.to_string()))?;
        if key.public_key().is_some_and(|public| *public != *public_key) {
            return Err(IdentityError::Mismatch);
        }
        let certified = CertifiedKey::new(chain, key);
        Ok(Identity { certified: Arc::new(certified), names, not_before, not_after, issuer })
    }

    /// Reads the files of a chain and of its key, as [`from_pem`](Self::from_pem) does.
    ///
    /// # Errors
    /// The errors of [`from_pem`](Self::from_pem), and files that cannot be read.
    pub fn read(chain: &Path, key: &Path) -> Result<Self, IdentityError> {
        let read = |path: &Path| std::fs::read(path).map_err(|error| IdentityError::File(path.to_owned(), error));
        Identity::from_pem(&read(chain)?, &read(key)?)
    }

    /// The names and addresses in the certificate, in lower case; a name may begin with `*.`.
    pub fn names(&self) -> &[Box<str>] {
        &self.names
    }

    /// When the certificate ends to be valid.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// The name of the issuer.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Each certificate for people, that of the server first.
    pub fn summaries(&self) -> Vec<Summary> {
        self.chain().iter().map(Summary::of).collect()
    }

    /// The certificates in the DER format, that of the server first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// The names, the issuer and the end of the certificate, in a line for people.
    pub fn summary(&self) -> String {
        format!("{}, issued by {}, valid until {}", self.names.join(", "), self.issuer, date(self.not_after))
    }

    /// Why clients would not accept the certificate at `now`, if they would not.
    pub fn fault_at(&self, now: SystemTime) -> Option<String> {
        if now < self.not_before {
            Some(format!("the certificate is valid only from {}", date(self.not_before)))
        } else if now >= self.not_after {
            Some(format!("the certificate has expired: it was valid until {}", date(self.not_after)))
        } else {
            None
        }
    }

    /// Whether the certificate is for this host, which is in lower case and without a port.
    pub(crate) fn covers(&self, host: &str) -> bool {
        let covered_by = |name: &str| match name.strip_prefix("*.") {
            Some(parent) => host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == parent),
            None => name == host,
        };
        self.names.iter().any(|name| covered_by(name))
    }

    pub(super) fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }
}

/// A certificate for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The name of the owner.
    pub subject: String,
    /// The name of the issuer.
    pub issuer: String,
    /// The names and addresses that the certificate is for.
    pub names: Vec<Box<str>>,
    /// The end of the validity, as a date.
    pub valid_until: String,
}

impl Summary {
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Self {
        match parse(certificate) {
            Ok(parsed) => Summary {
                subject: parsed.subject().to_string(),
                issuer: parsed.issuer().to_string(),
                names: names(&parsed),
                valid_until: date(time(parsed.validity().not_after.timestamp())),
            },
            Err(error) => Summary {
                subject: error.to_string(),
                issuer: String::new(),
                names: Vec::new(),
                valid_until: String::new(),
            },
        }
    }
}

/// The cryptography of all connections.
pub(super) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::LazyLock<Arc<CryptoProvider>> =
        std::sync::LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    Arc::clone(&PROVIDER)
}

/// The subject of a certificate, for the log.
pub(super) fn subject(certificate: &CertificateDer<'_>) -> Option<Box<str>> {
    parse(certificate).ok().map(|certificate| certificate.subject().to_string().into())
}

/// The common name of a certificate.
pub(super) fn common_name(certificate: &CertificateDer<'_>) -> Option<Box<str>> {
    let certificate = parse(certificate).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    Some(name.into())
}

fn parse<'c>(leaf: &'c CertificateDer<'_>) -> Result<X509Certificate<'c>, IdentityError> {
    X509Certificate::from_der(leaf)
        .map(|(_, certificate)| certificate)
        .map_err(|error| IdentityError::Certificate(error.to_string()))
}

/// The names in the certificate's alternative names (RFC 6125); without any, the common name of its subject.
fn names(certificate: &X509Certificate<'_>) -> Vec<Box<str>> {
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let names: Vec<Box<str>> = alternative
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase().into()),
            GeneralName::IPAddress(bytes) => address(bytes).map(|ip| ip.to_string().into()),
            _ => None,
        })
        .collect();
    if !names.is_empty() {
        return names;
    }
    let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    common.map(|name| name.to_ascii_lowercase().into()).collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

pub(super) fn time(timestamp: i64) -> SystemTime {
    u64::try_from(timestamp).map_or(UNIX_EPOCH, |seconds| UNIX_EPOCH + Duration::from_secs(seconds))
}

/// A date for people, in UTC.
fn date(time: SystemTime) -> String {
    let date = jiff::Timestamp::try_from(time).map(|time| time.strftime("%Y-%m-%d %H:%M UTC").to_string());
    date.unwrap_or_else(|_| "an unknown date".to_owned())
}
