//! Makes the validated admin API of the keys of the file.

use super::checker::Checker;
use super::reader::{At, Problem};
use super::routing_file::FileAdmin;
use super::{AdminConfig, AdminSocket, HostPort, TokenSource};

impl Checker<'_> {
    pub(super) fn admin(&mut self, typed: &At<FileAdmin>) -> AdminConfig {
        let admin = &typed.value;
        let socket = match &admin.socket {
            None => AdminSocket::Runtime,
            Some(path) if path.value.0 == "off" => AdminSocket::Off,
            Some(path) => AdminSocket::Path(path.value.0.as_str().into()),
        };
        let token = match (&admin.token_file, &admin.token_variable) {
            (Some(file), None) => Some(TokenSource::File(file.value.0.as_str().into())),
            (None, Some(variable)) => Some(TokenSource::Variable(variable.value.0.clone())),
            (Some(_), Some(variable)) => {
                let message = "\"admin\" has both \"token_file\" and \"token_variable\"";
                self.fault(variable.place, Problem::new(message, "remove one"));
                None
            }
            (None, None) => None,
        };
        let tcp = admin.address.as_ref().and_then(|address| {
            let at: HostPort = address.value.0.clone();
            if !at.is_loopback() && !admin.allow_unencrypted {
                let message = format!("the admin API on {at} would send its token without encryption over the network");
                let help = "use an address of the loopback, such as 127.0.0.1:9901, and reach it through SSH; or write \
                            \"allow_unencrypted\": true if the network is safe";
                self.fault(address.place, Problem::new(message, help));
            }
            if token.is_none() && admin.token_file.is_none() {
                let help = "add \"token_file\", or \"token_variable\" with the name of an environment variable";
                self.fault(address.place, Problem::new("the admin API over TCP needs a token", help));
            }
            Some((at, token?))
        });
        AdminConfig { socket, tcp }
    }
}
