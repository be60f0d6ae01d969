//! The keys of TLS in the config file.

use serde_json::{Value, json};

use super::Faults;
use super::reader::{At, Node, Read};
use super::routing_values::{ChallengeWord, ClientCertificateWord, HostPattern, ProfileWord, UnknownNameWord};
use super::values::{Host, Text, Whole};

file_object! {
    /// TLS on a listener.
    FileTls {
        required {}
        optional {
            /// The names and addresses whose certificates LoadX gets and renews itself: from its local authority for
            /// localhost, IP addresses and names that end in .localhost or .internal.
            auto: Vec<At<HostPattern>>,
            /// The file with the certificate in the PEM format, followed by the certificates of its issuers.
            certificate: Text,
            /// The file with the private key of the certificate in the PEM format. Without this key: the file of the
            /// certificate.
            key: Text,
            /// Further certificates. LoadX chooses by the name that the client asks for, and by the kind of key that the
            /// client supports; a client that asks for no name gets the first certificate.
            certificates: Vec<At<FileCertificate>>,
            /// Certificates that clients must or may show: an object for all hosts, or a list of objects with "names".
            /// Without this key: LoadX asks for none.
            client_certificates: FileClientRules,
            /// The time, in seconds, for which browsers use only https for the host (Strict-Transport-Security). Without
            /// this key: LoadX does not add the field.
            hsts: Whole<0, 157_680_000>,
        }
        default {
            /// The versions of TLS: 1.2 and 1.3 (intermediate), or 1.3 alone (modern).
            profile: ProfileWord = ProfileWord::Intermediate,
            /// What a client gets that asks for a name without a certificate: the first certificate (default), or the alert
            /// unrecognized_name (refuse).
            unknown_names: UnknownNameWord = UnknownNameWord::Default,
        }
    }
}

file_object! {
    /// How LoadX gets certificates for public names by itself (ACME, RFC 8555).
    FileAcme {
        required {}
        optional {
            /// The address of the authority's directory. Without this key: that of Let's Encrypt.
            directory: Text,
            /// The address at which the authority warns of problems. Without this key: none.
            email: Text,
            /// The file with the certificates that prove the authority's own server. Without this key: those of the system.
            ca: Text,
            /// The kind of certificate that LoadX asks the authority for (a profile of the authority).
            profile: Text,
            /// The program that sets and removes records in DNS; needed for names with *. LoadX calls the program with
            /// set or remove, the name of the record, and the value of the record.
            dns_hook: Text,
            /// The name of the key by which the authority knows its customer.
            customer_key_id: Text,
            /// The file with the key by which the authority knows its customer, in the notation base64url.
            customer_key_file: Text,
        }
        default {
            /// How LoadX proves that a name is its own: over a connection of TLS (tls-alpn-01), over HTTP (http-01), by a
            /// record in DNS (dns-01), or by whatever the listeners allow (auto).
            challenge: ChallengeWord = ChallengeWord::Auto,
        }
    }
}

file_object! {
    /// A certificate with its private key.
    FileCertificate {
        required {
            /// The file with the certificate in the PEM format, followed by the certificates of its issuers.
            certificate: Text,
        }
        optional {
            /// The file with the private key in the PEM format. Without this key: the file of the certificate.
            key: Text,
        }
        default {}
    }
}

file_object! {
    /// The certificates of clients.
    FileClientCertificates {
        required {}
        optional {
            /// The hosts for which the object is; *.example.com stands for all names below example.com. Without this key:
            /// all hosts that no other object names, and clients that name no host in TLS.
            names: Vec<At<HostPattern>>,
            /// The file with the certificates of the authorities that may sign certificates of clients. Needed unless the
            /// mode is off.
            ca: Text,
            /// Files with lists of revoked certificates (CRL). With this key, a certificate needs a list of its issuer.
            revoked: Vec<At<Text>>,
        }
        default {
            /// Whether clients show certificates: LoadX asks for none (off), a client may show one (optional), or a client
            /// without one is refused (required).
            mode: ClientCertificateWord = ClientCertificateWord::Required,
        }
    }
}

/// The certificates of clients: an object for all hosts, or a list of objects.
#[derive(Clone, Debug)]
pub(super) enum FileClientRules {
    One(Box<FileClientCertificates>),
    List(Vec<At<FileClientCertificates>>),
}

impl Read for FileClientRules {
    fn schema() -> Value {
        json!({ "anyOf": [FileClientCertificates::schema(), Vec::<At<FileClientCertificates>>::schema()] })
    }

    fn read(node: Node<'_>, faults: &mut Faults) -> Option<Self> {
        if node.is_object() {
            return FileClientCertificates::read(node, faults).map(Box::new).map(FileClientRules::One);
        }
        if !node.is_list() {
            node.wrong_kind(faults, "an object or a list of objects");
            return None;
        }
        Read::read(node, faults).map(FileClientRules::List)
    }
}

file_object! {
    /// TLS to the backends of a cluster.
    FileBackendTls {
        required {}
        optional {
            /// The file with the certificates of the authorities that may sign the backends' certificates. Without this key:
            /// the authorities of the system.
            ca: Text,
            /// The name that LoadX asks for (SNI) and that the certificates must have. Without this key: the host of the
            /// backend.
            server_name: Host,
            /// The file with the certificate that LoadX shows to the backends, in the PEM format, followed by the
            /// certificates of its issuers. Without this key: none.
            certificate: Text,
            /// The file with the private key of this certificate in the PEM format. Without this key: the file of the
            /// certificate.
            key: Text,
        }
        default {
            /// Whether LoadX takes any certificate of a backend. Anybody on the way to the backend can then read and change
            /// all content.
            insecure: bool = false,
        }
    }
}

/// TLS to backends: an object, or true for the default settings.
#[derive(Clone, Debug)]
pub(super) enum FileBackendTlsEntry {
    Object(Box<FileBackendTls>),
    Switch(bool),
}

impl Read for FileBackendTlsEntry {
    fn schema() -> Value {
        json!({ "anyOf": [{ "type": "boolean" }, FileBackendTls::schema()] })
    }

    fn read(node: Node<'_>, faults: &mut Faults) -> Option<Self> {
        if node.is_object() {
            return FileBackendTls::read(node, faults).map(Box::new).map(FileBackendTlsEntry::Object);
        }
        node.scalar(faults, "true, or an object such as {\"ca\": \"ca.pem\"}").map(FileBackendTlsEntry::Switch)
    }
}
