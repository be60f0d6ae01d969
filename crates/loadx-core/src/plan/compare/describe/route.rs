//! Routes and their conditions.

use super::words::{list, networks, quote, quoted};
use super::{ActionEntry, Effects, Entry, Settings, settings};
use crate::config::Config;
use crate::plan::compare::Part;
use crate::route::{PathRule, Route, Rules};

pub(super) fn entry(route: &Route, config: &Config) -> Entry {
    let mut all = rules(&route.rules, config);
    all.extend(settings([
        ("allow", networks(&route.access.allow, "any")),
        ("deny", networks(&route.access.deny, "none")),
        ("max_body_size", route.body_max.map_or_else(|| "as for all routes".to_owned(), |bytes| bytes.to_string())),
    ]));
    Entry {
        part: Part::Route,
        of: None,
        name: route.name.to_string(),
        settings: all,
        action: Some(ActionEntry::new(route, config)),
        effects: Effects::new(
            "takes matching requests from the next request on",
            "its requests take another route, or get 404 where no other route matches",
            "holds from the next request on; running requests finish as they began",
        ),
    }
}

fn rules(rules: &Rules, config: &Config) -> Settings {
    let listeners = rules.listeners.iter().filter_map(|position| config.listeners.get(*position));
    let fields = rules.fields.iter().map(|rule| format!("{}: {}", quote(&rule.name), quote(&rule.value)));
    let query = rules.query.iter().map(|rule| format!("{}={}", quote(&rule.name), quote(&rule.value)));
    settings([
        ("hosts", quoted(&rules.hosts)),
        ("path", path(&rules.path)),
        ("methods", quoted(&rules.methods)),
        ("headers", list(fields, "any")),
        ("query", list(query, "any")),
        // By address, as listeners are matched: a name may move to another listener.
        ("listeners", list(listeners.map(|listener| listener.at.to_string()), "any")),
    ])
}

fn path(rule: &PathRule) -> String {
    match rule {
        // Only a route without a condition on the path takes `OPTIONS *`.
        PathRule::Any => "any path and *".to_owned(),
        PathRule::Exact(path) => format!("exactly {}", quote(path)),
        PathRule::Prefix(path) if path.is_empty() => "any path".to_owned(),
        PathRule::Prefix(path) => format!("{} and below", quote(path)),
        PathRule::Regex(expression, _) => format!("expression {}", quote(expression)),
    }
}
