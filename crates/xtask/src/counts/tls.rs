//! The TLS of the client of a scene.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use loadx_proxy::{Identity, Keyring};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::memory::MemoryStream;
use crate::Trouble;

/// The name of the certificate, and the host of the requests.
const NAME: &str = "app.example.com";

/// A client inside TLS.
pub(super) struct ClientTls {
    connection: ClientConnection,
    records: Vec<u8>,
}

impl ClientTls {
    /// A client, and the certificate of the proxy.
    pub(super) fn new() -> Result<(Arc<Keyring>, Self), Trouble> {
        let key = KeyPair::generate()?;
        let pem = CertificateParams::new([NAME.to_owned()])?.self_signed(&key)?.pem() + &key.serialize_pem();
        let keyring = Arc::<Keyring>::default();
        keyring.replace(vec![Arc::new(Identity::from_pem(pem.as_bytes(), pem.as_bytes())?)]);
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes())?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connection = ClientConnection::new(Arc::new(config), ServerName::try_from(NAME)?)?;
        Ok((keyring, ClientTls { connection, records: Vec::new() }))
    }

    /// Sends a request, and reads its response into `buffer`; returns the length of the response.
    pub(super) async fn exchange(&mut self, stream: &MemoryStream, request: &[u8], buffer: &mut [u8]) -> usize {
        self.connection.writer().write_all(request).expect("the connection buffers a request");
        let mut received = [0; 16 * 1024];
        loop {
            self.records.clear();
            while self.connection.wants_write() {
                self.connection.write_tls(&mut self.records).expect("writing to memory never fails");
            }
            if !self.records.is_empty() {
                stream.send(&self.records);
            }
            let count = stream.receive(&mut received).await;
            let mut unread = &received[..count];
            while !unread.is_empty() {
                self.connection.read_tls(&mut unread).expect("reading from memory never fails");
                self.connection.process_new_packets().expect("the proxy speaks TLS");
            }
            match self.connection.reader().read(buffer) {
                Ok(count) => return count,
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}"),
            }
        }
    }
}
