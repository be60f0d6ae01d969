//! Makes the validated changes of fields of the changes in the file.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::checker::Checker;
use super::reader::{At, Place, Problem};
use super::routing_file::FileEdits;
use super::table::Table;
use super::values::FieldText;
use crate::route::{FieldEdits, Template, Variable, Variables};

impl Checker<'_> {
    pub(super) fn edits(&mut self, typed: Option<&At<FileEdits>>) -> FieldEdits {
        let Some(typed) = typed else { return FieldEdits::default() };
        let remove = typed.value.remove.iter().flat_map(|names| &names.value);
        let mut remove: Vec<Arc<str>> = remove
            .filter(|name| self.may_edit(&name.value.0, name.place))
            .map(|name| name.value.0.to_ascii_lowercase().into())
            .collect();
        self.names_differ("set", typed.value.set.as_ref());
        let mut add = self.templates(typed.value.set.as_ref());
        remove.extend(add.iter().map(|(name, _)| Arc::from(name.to_ascii_lowercase())));
        add.extend(self.templates(typed.value.add.as_ref()));
        FieldEdits { remove, add }
    }

    /// Adds a fault for two spellings of one field name: field names are case-insensitive (RFC 9110, section 5.1).
    pub(super) fn names_differ<T>(&mut self, key: &str, table: Option<&At<Table<T>>>) {
        let mut seen: BTreeMap<String, &str> = BTreeMap::new();
        for (name, _) in table.iter().flat_map(|table| &table.value.0) {
            let other = seen.insert(name.value.to_ascii_lowercase(), &name.value);
            // The reader reports two equal names.
            if let Some(other) = other.filter(|other| *other != name.value) {
                let message = format!("\"{other}\" and \"{}\" are the same field, twice in one \"{key}\"", name.value);
                self.fault(name.place, Problem::new(message, "keep one of the two"));
            }
        }
    }

    fn templates(&mut self, table: Option<&At<Table<FieldText>>>) -> Vec<(Arc<str>, Template)> {
        let mut out = Vec::new();
        for (name, value) in table.iter().flat_map(|table| &table.value.0) {
            if !self.may_edit(&name.value, name.place) {
                continue;
            }
            match Template::<Variable>::parse(&value.value.0) {
                Ok(template) => out.push((name.value.as_str().into(), template)),
                Err(fault) => {
                    let known: Vec<String> = Variable::ALL.iter().map(|(name, _)| format!("{{{name}}}")).collect();
                    let help = format!("a value may contain {}; write {{{{ for a brace", known.join(", "));
                    self.fault(value.place, Problem::new(fault.to_string(), help));
                }
            }
        }
        out
    }

    /// Whether a route may change the field. Only LoadX writes fields that frame a message or belong to one connection.
    pub(super) fn may_edit(&mut self, name: &str, place: Place) -> bool {
        const OWN: [&str; 10] = [
            "connection",
            "content-length",
            "expect",
            "host",
            "keep-alive",
            "proxy-connection",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
        ];
        if !self.is_field_name(name, place) {
            return false;
        }
        let is_own = OWN.contains(&name.to_ascii_lowercase().as_str());
        if is_own {
            let help = "LoadX writes this field itself; to change Host, use \"rewrite\": {\"host\": …}";
            self.fault(place, Problem::new(format!("\"{name}\" cannot be changed"), help));
        }
        !is_own
    }

    /// Whether the text is a field name (RFC 9110, section 5.1); adds a fault otherwise.
    pub(super) fn is_field_name(&mut self, name: &str, place: Place) -> bool {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let is_name = !name.is_empty() && name.bytes().all(is_token);
        if !is_name {
            let problem = Problem::new(format!("\"{name}\" is not a field name"), "write a name such as \"x-env\"");
            self.fault(place, problem);
        }
        is_name
    }
}
