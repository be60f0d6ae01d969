//! The certificates that LoadX obtains itself.
//!
//! [`Store`] is a folder with certificates and their keys. [`LocalAuthority`] signs certificates for names that no public
//! authority would sign: `localhost`, IP addresses, and names that end in `.localhost` or `.internal`. [`Acme`] gets
//! certificates of public authorities (RFC 8555).

mod acme;
mod authority;
mod bundle;
mod error;
mod store;

pub use acme::{Acme, AcmeSettings, Answers, CustomerKey, Proof};
pub use authority::LocalAuthority;
pub use bundle::Bundle;
pub use error::CertsError;
pub use instant_acme::RevocationReason;
pub use store::{Lock, Store};
