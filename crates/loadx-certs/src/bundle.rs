//! A chain of certificates and the private key, in one text.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_parser::pem::Pem;

/// A chain of certificates and the private key of the first one, in the PEM format. One text and so one file, so that no
/// reader finds a certificate with the key of another.
#[derive(Clone, PartialEq, Eq)]
pub struct Bundle {
    text: String,
    not_before: SystemTime,
    not_after: SystemTime,
}

impl std::fmt::Debug for Bundle {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bundle").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

impl Bundle {
    /// Reads the certificates and the key of a text.
    ///
    /// # Errors
    /// The reason, as a text for people, when the text has no certificate.
    pub fn new(text: String) -> Result<Self, String> {
        let pem = Pem::iter_from_buffer(text.as_bytes())
            .filter_map(Result::ok)
            .find(|pem| pem.label == "CERTIFICATE")
            .ok_or("there is no certificate in the file")?;
        let certificate = pem.parse_x509().map_err(|error| format!("the certificate cannot be read: {error}"))?;
        let validity = certificate.validity();
        let (not_before, not_after) = (time(validity.not_before.timestamp()), time(validity.not_after.timestamp()));
        Ok(Bundle { text, not_before, not_after })
    }

    /// Puts a chain and its key into one text: of the chain only the certificates, and of the key only the key.
    ///
    /// # Errors
    /// The errors of [`new`](Self::new), and a text without a key.
    pub fn of(chain: &str, key: &str) -> Result<Self, String> {
        let parts = |text: &str, is_key: bool| -> String {
            let mut kept = String::new();
            let mut inside = false;
            for line in text.lines() {
                let begins = line.starts_with("-----BEGIN ");
                inside = inside
                    || (begins && line.contains("PRIVATE KEY") == is_key && (is_key || line.contains("CERTIFICATE")));
                if inside {
                    kept.push_str(line.trim_end());
                    kept.push('\n');
                }
                inside = inside && !line.starts_with("-----END ");
            }
            kept
        };
        let (chain, key) = (parts(chain, false), parts(key, true));
        if key.is_empty() {
            return Err("there is no private key in the file".to_owned());
        }
        Bundle::new(chain + &key)
    }

    /// The certificates and the key, in the PEM format.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The certificates alone.
    pub fn chain(&self) -> &str {
        &self.text[..self.key_start()]
    }

    /// The key alone.
    pub fn key(&self) -> &str {
        &self.text[self.key_start()..]
    }

    /// The key stands behind the certificates.
    fn key_start(&self) -> usize {
        let end = "-----END CERTIFICATE-----\n";
        self.text.rfind(end).map_or(0, |at| at + end.len())
    }

    /// When the certificate ends to be valid.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// When LoadX gets a new certificate: after two thirds of the time for which the certificate is valid.
    pub fn renew_at(&self) -> SystemTime {
        let lifetime = self.not_after.duration_since(self.not_before).unwrap_or_default();
        self.not_before + lifetime / 3 * 2
    }
}

fn time(timestamp: i64) -> SystemTime {
    u64::try_from(timestamp).map_or(UNIX_EPOCH, |seconds| UNIX_EPOCH + Duration::from_secs(seconds))
}
