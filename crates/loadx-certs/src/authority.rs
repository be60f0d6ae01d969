//! The local authority: signs certificates for names that no public authority would sign.

use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, NameConstraints,
};

use crate::{Bundle, CertsError, Store};

/// The days for which the authority is valid.
const AUTHORITY_DAYS: i64 = 3_650;
/// The days for which a certificate of the authority is valid.
const CERTIFICATE_DAYS: i64 = 90;

/// The endings of the names for which the authority may sign.
const ENDINGS: [&str; 2] = ["localhost", "internal"];

/// An authority that signs certificates for local names. Its own certificate says that the authority signs for no other
/// names, so that a stolen key is of no use for names of the internet.
pub struct LocalAuthority {
    bundle: Bundle,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for LocalAuthority {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalAuthority").field("bundle", &self.bundle).finish_non_exhaustive()
    }
}

impl LocalAuthority {
    /// The folder of the store with the certificates of the authority.
    pub const KIND: &str = "local";

    /// The name of the authority's own certificate in that folder. No host has this name, because a name without a dot is not
    /// local.
    pub const NAME: &str = "authority";

    /// Reads the authority of the store, or makes it.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn open(store: &Store) -> Result<Self, CertsError> {
        let lock = store.lock(LocalAuthority::KIND)?;
        let bundle = match store
            .load(LocalAuthority::KIND, LocalAuthority::NAME)?
            .filter(|bundle| bundle.renew_at() > SystemTime::now())
        {
            Some(bundle) => bundle,
            None => {
                let bundle = make()?;
                store.save(LocalAuthority::KIND, LocalAuthority::NAME, &bundle)?;
                bundle
            }
        };
        drop(lock);
        let content = |reason: rcgen::Error| {
            CertsError::Content(store.path(LocalAuthority::KIND, LocalAuthority::NAME), reason.to_string())
        };
        let key = KeyPair::from_pem(bundle.key()).map_err(content)?;
        let issuer = Issuer::from_ca_cert_pem(bundle.chain(), key).map_err(content)?;
        Ok(LocalAuthority { bundle, issuer })
    }

    /// The certificate of the authority in the PEM format, for the trust stores of systems and browsers.
    pub fn certificate(&self) -> &str {
        self.bundle.chain()
    }

    /// The name of the authority.
    pub fn name(&self) -> String {
        let pem = x509_parser::pem::Pem::iter_from_buffer(self.certificate().as_bytes()).filter_map(Result::ok).next();
        let name = pem.as_ref().and_then(|pem| {
            let certificate = pem.parse_x509().ok()?;
            certificate.subject().iter_common_name().next()?.as_str().ok().map(str::to_owned)
        });
        name.unwrap_or_else(|| "LoadX local authority".to_owned())
    }

    /// When the authority ends to be valid.
    pub fn not_after(&self) -> SystemTime {
        self.bundle.not_after()
    }

    /// Signs a certificate for these names and addresses.
    ///
    /// # Errors
    /// When a name cannot stand in a certificate.
    pub fn issue(&self, names: &[String]) -> Result<Bundle, CertsError> {
        let mut params = CertificateParams::new(names).map_err(making)?;
        // Not a name of the list: OpenSSL takes a common name with dots for a name in DNS, and compares an IP address there
        // with the names for which the authority may sign.
        params.distinguished_name.push(DnType::CommonName, "A server behind LoadX");
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        set_validity(&mut params, CERTIFICATE_DAYS);
        let key = KeyPair::generate().map_err(making)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(making)?;
        bundle(&certificate.pem(), &key)
    }

    /// The certificate for `name` in the store, or a new one if there is none or its time is over.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn certificate_for(&self, store: &Store, name: &str) -> Result<Bundle, CertsError> {
        let _lock = store.lock(LocalAuthority::KIND)?;
        let kept = store.load(LocalAuthority::KIND, name).unwrap_or_else(|error| {
            tracing::warn!("{error}; LoadX makes a new certificate");
            None
        });
        let kept = kept.filter(|bundle| bundle.renew_at() > SystemTime::now());
        if let Some(bundle) = kept.filter(|bundle| self.has_signed(bundle)) {
            return Ok(bundle);
        }
        let issued = self.issue(&[name.to_owned()])?;
        store.save(LocalAuthority::KIND, name, &issued)?;
        Ok(issued)
    }

    /// A new certificate for `name`, which replaces the one in the store.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn renew(&self, store: &Store, name: &str) -> Result<Bundle, CertsError> {
        let _lock = store.lock(LocalAuthority::KIND)?;
        let issued = self.issue(&[name.to_owned()])?;
        store.save(LocalAuthority::KIND, name, &issued)?;
        Ok(issued)
    }

    /// Whether a certificate is of this authority, and not of a former one.
    fn has_signed(&self, bundle: &Bundle) -> bool {
        use x509_parser::pem::Pem;
        let first = |text: &str| Pem::iter_from_buffer(text.as_bytes()).filter_map(Result::ok).next();
        let (Some(leaf), Some(root)) = (first(bundle.text()), first(self.bundle.text())) else { return false };
        let (Ok(leaf), Ok(root)) = (leaf.parse_x509(), root.parse_x509()) else { return false };
        leaf.issuer() == root.subject()
    }
}

/// Makes an authority.
fn make() -> Result<Bundle, CertsError> {
    let key = KeyPair::generate().map_err(making)?;
    let mut params = CertificateParams::default();
    // Distinct names for distinct authorities: browsers mix authorities of one name up.
    let name = format!("LoadX local authority {}", hex(&key.public_key_raw()[1..5]));
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let mut permitted: Vec<GeneralSubtree> =
        ENDINGS.iter().map(|end| GeneralSubtree::DnsName((*end).to_owned())).collect();
    permitted.push(GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([0; 4], 0)));
    permitted.push(GeneralSubtree::IpAddress(CidrSubnet::from_v6_prefix([0; 16], 0)));
    params.name_constraints = Some(NameConstraints { permitted_subtrees: permitted, excluded_subtrees: Vec::new() });
    set_validity(&mut params, AUTHORITY_DAYS);
    let certificate = params.self_signed(&key).map_err(making)?;
    bundle(&certificate.pem(), &key)
}

fn set_validity(params: &mut CertificateParams, days: i64) {
    let now =
        rcgen::date_time_ymd(1970, 1, 1) + SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // The clocks of clients may be behind.
    params.not_before = now - std::time::Duration::from_secs(3_600);
    params.not_after = now + std::time::Duration::from_secs(days as u64 * 86_400);
}

/// The certificates are first in the text.
pub(crate) fn bundle(certificate: &str, key: &KeyPair) -> Result<Bundle, CertsError> {
    let text =
        format!("{}\n{}", certificate.replace("\r\n", "\n").trim_end(), key.serialize_pem().replace("\r\n", "\n"));
    Bundle::new(text).map_err(CertsError::Making)
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn making(error: rcgen::Error) -> CertsError {
    CertsError::Making(error.to_string())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_and_its_certificates_stay() {
        let folder = tempfile::TempDir::new().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let first = LocalAuthority::open(&store).unwrap();
        let certificate = first.certificate_for(&store, "localhost").unwrap();
        let second = LocalAuthority::open(&store).unwrap();
        assert_eq!(first.certificate(), second.certificate());
        assert_eq!(second.certificate_for(&store, "localhost").unwrap(), certificate);
        std::fs::remove_file(store.path(LocalAuthority::KIND, LocalAuthority::NAME)).unwrap();
        let third = LocalAuthority::open(&store).unwrap();
        assert_ne!(third.certificate_for(&store, "localhost").unwrap(), certificate, "of another authority");
    }
}
