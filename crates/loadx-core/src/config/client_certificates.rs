//! The certificates that clients show, by the host that they ask for.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use super::checker::Checker;
use super::reader::{At, Place, Problem, Typed as _};
use super::routing_values::{ClientCertificateWord, HostPattern};
use super::tls_file::{FileClientCertificates, FileClientRules};

/// The certificates that clients must or may show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// The file with the certificates of the authorities.
    pub ca: PathBuf,
    /// The files with lists of revoked certificates.
    pub revoked: Vec<PathBuf>,
    /// Whether a client without a certificate is refused.
    pub required: bool,
}

/// What LoadX asks of a client; `None` means that LoadX asks for no certificate.
pub type ClientRule = Option<Arc<ClientCertificates>>;

/// What a listener asks of clients, by the host that they ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientRules {
    /// By host, in lower case.
    pub named: BTreeMap<Arc<str>, ClientRule>,
    /// By the name above the hosts, in lower case: of `*.example.com`, `example.com`.
    pub below: BTreeMap<Arc<str>, ClientRule>,
    /// For other hosts, and for clients that name no host.
    pub others: ClientRule,
}

impl ClientRules {
    /// The rule for a host, which is in lower case and without a port: that of the host itself, then that of the longest
    /// wildcard.
    pub fn of(&self, host: &str) -> &ClientRule {
        let own = self.named.get(host);
        own.or_else(|| parents(host).find_map(|parent| self.below.get(parent))).unwrap_or(&self.others)
    }

    /// Whether all hosts have the same rule.
    pub fn is_uniform(&self) -> bool {
        self.named.is_empty() && self.below.is_empty()
    }

    /// The rules of hosts, with the hosts as the config has them.
    pub fn of_hosts(&self) -> impl Iterator<Item = (String, &ClientRule)> {
        let below = self.below.iter().map(|(parent, rule)| (format!("*.{parent}"), rule));
        self.named.iter().map(|(name, rule)| (name.to_string(), rule)).chain(below)
    }

    /// The different rules.
    pub fn distinct(&self) -> Vec<&ClientRule> {
        let mut distinct = vec![&self.others];
        for rule in self.named.values().chain(self.below.values()) {
            if !distinct.contains(&rule) {
                distinct.push(rule);
            }
        }
        distinct
    }
}

/// The names above a name, the longest first.
fn parents(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |name| name.split_once('.').map(|(_, parent)| parent)).skip(1)
}

impl Checker<'_> {
    pub(super) fn client_rules(&mut self, typed: &At<FileClientRules>) -> ClientRules {
        let mut rules = ClientRules::default();
        let mut has_others = false;
        let entries = match &typed.value {
            FileClientRules::One(file) => vec![(&**file, typed.place)],
            FileClientRules::List(list) => list.iter().map(|entry| (&entry.value, entry.place)).collect(),
        };
        for (file, place) in entries {
            let rule = self.client_rule(file, place);
            match &file.names {
                Some(names) if self.is_empty_list(names.place) => {
                    let help = "list hosts, or remove \"names\" so that the object is for all other hosts";
                    self.fault(names.place, Problem::new("\"names\" is empty", help));
                }
                Some(names) => {
                    for name in &names.value {
                        self.name_of_rule(name, &rule, &mut rules);
                    }
                }
                // The reader has already reported an invalid value.
                None if file.place_of("names").is_some() => {}
                None if has_others => {
                    let message = "\"client_certificates\" has two objects without \"names\"";
                    self.fault(place, Problem::new(message, "add \"names\": [\"app.example.com\"]"));
                }
                None => {
                    has_others = true;
                    rules.others = rule;
                }
            }
        }
        if self.is_empty_list(typed.place) {
            let help = "add an object such as {\"ca\": \"clients.pem\"}, or remove the key";
            self.fault(typed.place, Problem::new("\"client_certificates\" has no object", help));
        }
        rules
    }

    fn name_of_rule(&mut self, typed: &At<HostPattern>, rule: &ClientRule, rules: &mut ClientRules) {
        let name = typed.value.0.as_str();
        if name.starts_with('[') || name.parse::<Ipv4Addr>().is_ok() {
            let message = format!("{name} is an address: a client that connects to an address names no host in TLS");
            let help = "remove the address, and write an object without \"names\" for such clients";
            self.fault(typed.place, Problem::new(message, help));
            return;
        }
        let former = match name.strip_prefix("*.") {
            Some(parent) => rules.below.insert(parent.into(), rule.clone()),
            None => rules.named.insert(name.into(), rule.clone()),
        };
        if former.is_some() {
            self.fault(typed.place, Problem::new(format!("{name} is listed twice"), "remove one"));
        }
    }

    fn client_rule(&mut self, file: &FileClientCertificates, place: Place) -> ClientRule {
        let is_off = file.mode == ClientCertificateWord::Off;
        let unused = [("ca", file.place_of("ca")), ("revoked", file.place_of("revoked"))];
        for (key, place) in unused.into_iter().filter(|_| is_off).filter_map(|(key, place)| Some((key, place?))) {
            let message =
                format!("LoadX asks for no certificate with \"mode\": \"off\", so that \"{key}\" has no effect");
            self.fault(place, Problem::new(message, format!("remove \"{key}\", or change \"mode\"")));
        }
        if is_off {
            return None;
        }
        let Some(ca) = &file.ca else {
            // The reader has already reported an invalid value.
            if file.place_of("ca").is_none() {
                let message = "the certificates of clients need authorities that sign them: \"ca\" is missing";
                self.fault(place, Problem::new(message, "add \"ca\": \"clients.pem\", or \"mode\": \"off\""));
            }
            return None;
        };
        if let Some(revoked) = file.revoked.as_ref().filter(|revoked| self.is_empty_list(revoked.place)) {
            let help = "name files with lists of revoked certificates, or remove the key";
            self.fault(revoked.place, Problem::new("\"revoked\" is empty", help));
        }
        let revoked = file.revoked.iter().flat_map(|lists| &lists.value);
        Some(Arc::new(ClientCertificates {
            ca: ca.value.0.as_str().into(),
            revoked: revoked.map(|list| list.value.0.as_str().into()).collect(),
            required: file.mode == ClientCertificateWord::Required,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_decides() {
        let rule = |ca: &str| Some(Arc::new(ClientCertificates { ca: ca.into(), revoked: Vec::new(), required: true }));
        let below = [("test", "all"), ("b.test", "below b")];
        let rules = ClientRules {
            named: [("a.test".into(), rule("a"))].into(),
            below: below.into_iter().map(|(name, ca)| (name.into(), rule(ca))).collect(),
            others: rule("others"),
        };
        for (host, ca) in [
            ("a.test", "a"),
            ("x.a.test", "all"),
            ("b.test", "all"),
            ("x.b.test", "below b"),
            ("y.x.b.test", "below b"),
            ("test", "others"),
            ("a.test.org", "others"),
            ("", "others"),
            ("*.b.test", "below b"),
        ] {
            assert_eq!(*rules.of(host), rule(ca), "{host}");
        }
        assert_eq!(rules.distinct().len(), 4);
    }

    #[test]
    fn rules_without_a_meaning_are_refused() {
        for (rules, wanted) in [
            ("[]", "\"client_certificates\" has no object"),
            ("{}", "\"ca\" is missing"),
            (r#"{"mode": "off", "ca": "a.pem"}"#, "\"ca\" has no effect"),
            (r#"{"ca": "a.pem", "names": []}"#, "\"names\" is empty"),
            (r#"[{"ca": "a.pem"}, {"ca": "b.pem"}]"#, "two objects without \"names\""),
            (
                r#"[{"ca": "a.pem", "names": ["a.test"]}, {"mode": "off", "names": ["A.test"]}]"#,
                "a.test is listed twice",
            ),
            (r#"{"ca": "a.pem", "names": ["10.0.0.1"]}"#, "10.0.0.1 is an address"),
            (r#"{"ca": "a.pem", "names": ["[::1]"]}"#, "[::1] is an address"),
            (r#"{"ca": "a.pem", "mode": "on"}"#, "known values: off, optional, required"),
            (r#"{"ca": 1}"#, "\"ca\" must be"),
            ("1", "\"client_certificates\" must be an object or a list of objects, not 1"),
            (r#"[{"ca": "a.pem", "names": ["*"]}]"#, "is not a host"),
            ("[1]", "must be an object"),
            (r#"{"ca": "a.pem", "revoked": []}"#, "\"revoked\" is empty"),
        ] {
            let text = format!(
                r#"{{"backend_servers": [{{"host": "a", "port": 1}}], "tls": {{"auto": ["a.test"], "client_certificates": {rules}}}}}"#
            );
            let faults = crate::config::parse(&text).unwrap_err();
            let said: Vec<String> = faults.iter().map(|fault| format!("{} {}", fault.message, fault.help)).collect();
            assert!(said.len() == 1 && said[0].contains(wanted), "{rules}: {said:?}");
        }
    }
}
