//! TLS to the backends of a cluster: whom LoadX trusts, and what LoadX shows.

use std::sync::Arc;

use loadx_core::config::{BackendProtocol, BackendTls};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use super::error::TlsError;
use super::facts::ALPN_H2;
use super::identity::{Identity, provider};
use super::roots::{of_file, of_system};

/// TLS to the backends of a cluster.
#[derive(Debug)]
pub(crate) struct ClientTls {
    rustls: Arc<ClientConfig>,
    /// The name that certificates must have, in place of the backend's host.
    server_name: Option<Arc<str>>,
}

impl ClientTls {
    /// Reads the files that `config` names, and sets TLS up for this version of HTTP.
    ///
    /// # Errors
    /// Any [`TlsError`].
    pub(crate) fn new(config: &BackendTls, protocol: BackendProtocol) -> Result<ClientTls, TlsError> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Settings)?;
        let builder = match config.insecure {
            true => builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider()))),
            false => builder.with_root_certificates(config.ca.as_deref().map_or_else(of_system, of_file)?),
        };
        let mut rustls = match &config.certificate {
            None => builder.with_no_client_auth(),
            Some(files) => {
                let own = Identity::read(&files.certificate, &files.key)
                    .map_err(|error| TlsError::Identity(files.certificate.clone(), error))?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(own.certified()))))
            }
        };
        rustls.alpn_protocols = vec![match protocol {
            BackendProtocol::Http1 => b"http/1.1".to_vec(),
            BackendProtocol::Http2 => ALPN_H2.to_vec(),
        }];
        Ok(ClientTls { rustls: Arc::new(rustls), server_name: config.server_name.clone() })
    }

    pub(super) fn rustls(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.rustls)
    }

    /// The name that the certificate of a backend with this host must have.
    pub(super) fn name_for(&self, host: &str) -> Result<ServerName<'static>, Error> {
        let name = self.server_name.as_deref().unwrap_or(host);
        let bare = name.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
        let parsed = ServerName::try_from(bare.to_owned());
        parsed.map_err(|InvalidDnsNameError| Error::General(format!("{name:?} cannot be the name of a certificate")))
    }
}

/// The settings of a client that is not LoadX itself, such as the load generator, with the rules of a cluster's TLS.
///
/// # Errors
/// Any [`TlsError`].
pub fn client_config(config: &BackendTls, protocol: BackendProtocol) -> Result<Arc<ClientConfig>, TlsError> {
    ClientTls::new(config, protocol).map(|tls| tls.rustls)
}

/// Takes any certificate. The backend must still have the key of the certificate.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
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
