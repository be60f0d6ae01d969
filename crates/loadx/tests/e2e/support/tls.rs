//! Certificates for tests, and clients that trust them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationList, CertificateRevocationListParams, DnType, IsCa,
    Issuer, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tempfile::TempDir;

use super::Client;

/// An authority of a test, with a folder for the certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pub(crate) folder: TempDir,
}

/// The files of a certificate and its key.
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> Self {
        Authority::named("An authority of a test")
    }

    pub(crate) fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        Authority { issuer: Issuer::new(params, key), certificate: certificate.der().clone(), folder }
    }

    pub(crate) fn ca_path(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Writes a certificate for these names into the files of this name.
    pub(crate) fn issue(&self, file: &str, names: &[&str]) -> Files {
        self.issue_with(file, names, |_| ())
    }

    /// The same, after `change`.
    pub(crate) fn issue_with(&self, file: &str, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Files {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, file);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let path = |end: &str| self.folder.path().join(format!("{file}.{end}"));
        std::fs::write(path("crt"), certificate.pem()).unwrap();
        std::fs::write(path("key"), key.serialize_pem()).unwrap();
        Files { certificate: path("crt"), key: path("key") }
    }

    /// A list of revoked certificates, valid for these years.
    pub(crate) fn revoke(&self, serials: &[u64], years: std::ops::Range<i32>) -> CertificateRevocationList {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(years.start, 1, 1),
            next_update: date_time_ymd(years.end, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap()
    }

    /// The settings of a client that trusts this authority.
    pub(crate) fn client_config(&self) -> ClientConfig {
        self.builder().with_no_client_auth()
    }

    /// The settings of a client that shows this certificate.
    pub(crate) fn client_config_with(&self, files: &Files) -> ClientConfig {
        use rustls::pki_types::pem::PemObject as _;
        let chain = CertificateDer::pem_file_iter(&files.certificate).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
        self.builder().with_client_auth_cert(chain, key).unwrap()
    }

    fn builder(&self) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        builder.with_root_certificates(roots)
    }

    /// A client that asks for this name.
    pub(crate) fn connect(&self, address: SocketAddr, name: &str) -> Client {
        connect(address, name, &Arc::new(self.client_config())).expect("a connection inside TLS")
    }
}

/// Connects with these settings.
pub(crate) fn connect(address: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> std::io::Result<Client> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    Client::connect(address).with_tls(ClientConnection::new(Arc::clone(config), name).unwrap())
}

/// A path as the text in a config.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
