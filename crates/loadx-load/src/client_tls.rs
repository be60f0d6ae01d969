//! How a client checks the certificates of servers.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// Which certificates are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Those of the authorities that the system trusts.
    System,
    /// Those of the authorities in this file, in the PEM format.
    Authorities(PathBuf),
    /// All: nothing is checked but that the server has the key of its certificate.
    Everyone,
}

/// Why there are no settings.
#[derive(Debug)]
pub enum TrustError {
    /// The system names no authority.
    NoSystem,
    /// The file cannot be read, or has no certificate that can be used.
    File(PathBuf, String),
    /// The library of TLS refuses the settings.
    Settings(Error),
}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrustError::NoSystem => f.write_str("the system has no certificates of authorities"),
            TrustError::File(file, reason) => {
                write!(f, "cannot read certificates of authorities from {}: {reason}", file.display())
            }
            TrustError::Settings(error) => write!(f, "cannot set up TLS: {error}"),
        }
    }
}

impl std::error::Error for TrustError {}

/// Settings for connections of HTTP/1.1, or with `http2` of HTTP/2.
///
/// # Errors
/// When there is no authority to trust.
pub fn config(trust: &Trust, http2: bool) -> Result<ClientConfig, TrustError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().map_err(TrustError::Settings)?;
    let mut config = match trust {
        Trust::Everyone => {
            let verifier = Arc::new(TrustsEveryone(provider));
            builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
        }
        Trust::System => {
            let mut store = RootCertStore::empty();
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if store.is_empty() {
                return Err(TrustError::NoSystem);
            }
            builder.with_root_certificates(store).with_no_client_auth()
        }
        Trust::Authorities(file) => {
            let fault = |reason: String| TrustError::File(file.clone(), reason);
            let certificates = CertificateDer::pem_file_iter(file).map_err(|error| fault(error.to_string()))?;
            let mut store = RootCertStore::empty();
            for certificate in certificates {
                let certificate = certificate.map_err(|error| fault(error.to_string()))?;
                store.add(certificate).map_err(|error| fault(error.to_string()))?;
            }
            if store.is_empty() {
                return Err(fault("the file has no certificate".to_owned()));
            }
            builder.with_root_certificates(store).with_no_client_auth()
        }
    };
    config.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    Ok(config)
}

/// Trusts every certificate, and still checks signatures.
#[derive(Debug)]
struct TrustsEveryone(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustsEveryone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
