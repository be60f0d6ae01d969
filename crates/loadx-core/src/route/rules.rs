//! The conditions of a route on a request, and the changes of a route to the request.

use std::fmt;
use std::sync::Arc;

use regex_automata::meta::Regex;

use super::{Asked, Template, Values};

/// The conditions on a request. A matching request meets all of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// The hosts, lower case: exact (`a.example`) or with a wildcard for one or more labels (`*.a.example`). An empty
    /// list means any host.
    pub hosts: Vec<Arc<str>>,
    /// The path.
    pub path: PathRule,
    /// The methods; an empty list means any method.
    pub methods: Vec<Arc<str>>,
    /// The required values of fields.
    pub fields: Vec<FieldRule>,
    /// The required values of query parameters.
    pub query: Vec<QueryRule>,
    /// The listeners, as positions in the plan; an empty list means any listener.
    pub listeners: Vec<usize>,
}

/// The condition on a path.
#[derive(Clone, Debug, Default)]
pub enum PathRule {
    /// Any path, and also `*`.
    #[default]
    Any,
    /// Exactly this path.
    Exact(Arc<str>),
    /// This path and all paths below, by whole segments: `/v1` matches `/v1` and `/v1/a`, not `/v10`. The prefix has no
    /// trailing slash.
    Prefix(Arc<str>),
    /// A regular expression that matches the whole path.
    Regex(Arc<str>, Box<Regex>),
}

impl PartialEq for PathRule {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (PathRule::Any, PathRule::Any) => true,
            (PathRule::Exact(mine), PathRule::Exact(theirs))
            | (PathRule::Prefix(mine), PathRule::Prefix(theirs))
            | (PathRule::Regex(mine, _), PathRule::Regex(theirs, _)) => mine == theirs,
            _ => false,
        }
    }
}

/// The required value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRule {
    /// The name, lower case.
    pub name: Arc<str>,
    /// The value, byte for byte.
    pub value: Arc<str>,
}

/// The required value of a query parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryRule {
    /// The name.
    pub name: Arc<str>,
    /// The value, after percent-decoding.
    pub value: Arc<str>,
}

/// Why a route does not match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// The host is different.
    Host,
    /// The path is different.
    Path,
    /// The route is not for this listener.
    Listener,
    /// The method is different.
    Method,
    /// This field is missing or has another value.
    Field(Arc<str>),
    /// This query parameter is missing or has another value.
    Query(Arc<str>),
    /// The route matches too, but the chosen route comes first.
    Later,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mismatch::Host => f.write_str("the host is different"),
            Mismatch::Path => f.write_str("the path is different"),
            Mismatch::Listener => f.write_str("the route is not for this listener"),
            Mismatch::Method => f.write_str("the method is different"),
            Mismatch::Field(name) => write!(f, "the field {name} is missing or has another value"),
            Mismatch::Query(name) => write!(f, "the query parameter {name} is missing or has another value"),
            Mismatch::Later => f.write_str("the route matches too, but the chosen route comes first"),
        }
    }
}

impl Rules {
    /// The first condition, other than host and path, that the request does not meet.
    pub(super) fn mismatch(&self, asked: &Asked<'_>) -> Option<Mismatch> {
        if !self.listeners.is_empty() && !self.listeners.contains(&asked.listener) {
            return Some(Mismatch::Listener);
        }
        if !self.methods.is_empty() && !self.methods.iter().any(|method| method.as_bytes() == asked.method) {
            return Some(Mismatch::Method);
        }
        let field_differs =
            |rule: &&FieldRule| asked.fields.value(&rule.name).is_none_or(|value| *value != *rule.value.as_bytes());
        if let Some(rule) = self.fields.iter().find(field_differs) {
            return Some(Mismatch::Field(Arc::clone(&rule.name)));
        }
        let query_differs = |rule: &&QueryRule| !has_parameter(asked.query, &rule.name, &rule.value);
        self.query.iter().find(query_differs).map(|rule| Mismatch::Query(Arc::clone(&rule.name)))
    }

    /// The number of conditions other than host and path; LoadX compares a route with more conditions first.
    pub(super) fn weight(&self) -> (bool, usize, usize) {
        (!self.methods.is_empty(), self.fields.len(), self.query.len())
    }
}

/// Whether the first parameter of this name has this value.
fn has_parameter(query: &[u8], name: &str, value: &str) -> bool {
    let mut pairs = query.split(|byte| *byte == b'&').map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        (&pair[..at], pair.get(at + 1..).unwrap_or_default())
    });
    let found = pairs.find(|(key, _)| decoded_is(key, name.as_bytes()));
    found.is_some_and(|(_, typed)| decoded_is(typed, value.as_bytes()))
}

/// Whether `typed`, with percent escapes decoded and `+` read as a space, equals `wanted`.
fn decoded_is(typed: &[u8], wanted: &[u8]) -> bool {
    let mut bytes = typed.iter().copied();
    let mut wanted = wanted.iter().copied();
    while let Some(byte) = bytes.next() {
        let decoded = match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
                let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next())) else { return false };
                (high * 16 + low) as u8
            }
            byte => byte,
        };
        if wanted.next() != Some(decoded) {
            return false;
        }
    }
    wanted.next().is_none()
}

/// Changes to the target and the host of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// Replaces the whole path.
    pub path: Option<Arc<str>>,
    /// Replaces the prefix that the route matched.
    pub path_prefix: Option<Arc<str>>,
    /// Replaces the host.
    pub host: Option<Arc<str>>,
}

impl Rewrite {
    /// Writes the new path for a request that matched a route with this rule; `false` if the path does not change.
    pub fn path(&self, rule: &PathRule, path: &[u8], out: &mut Vec<u8>) -> bool {
        if let Some(whole) = &self.path {
            out.extend_from_slice(whole.as_bytes());
            return true;
        }
        let Some(replacement) = &self.path_prefix else { return false };
        let matched = match rule {
            PathRule::Prefix(prefix) => prefix.len(),
            PathRule::Exact(path) => path.len(),
            PathRule::Any | PathRule::Regex(..) => 0,
        };
        let rest = path.get(matched..).unwrap_or_default();
        out.extend_from_slice(replacement.trim_end_matches('/').as_bytes());
        // Always one slash between the parts: a reader takes `//host` for another origin.
        let slashes = rest.iter().take_while(|byte| **byte == b'/').count();
        let rest = &rest[slashes..];
        if slashes > 0 || !rest.is_empty() || replacement.ends_with('/') || replacement.is_empty() {
            out.push(b'/');
        }
        out.extend_from_slice(rest);
        true
    }
}

/// Changes to the fields of a message: LoadX removes fields first and then adds fields. To set a field, LoadX removes
/// and adds the field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldEdits {
    /// The names of the removed fields, lower case.
    pub remove: Vec<Arc<str>>,
    /// The added fields.
    pub add: Vec<(Arc<str>, Template)>,
}

impl FieldEdits {
    /// Whether there are no changes.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.add.is_empty()
    }

    /// Whether a field with this name, in lower case, is added.
    pub fn adds(&self, name: &str) -> bool {
        self.add.iter().any(|(added, _)| added.eq_ignore_ascii_case(name))
    }

    /// Writes the lines of the added fields.
    pub fn put_added(&self, values: &dyn Values, out: &mut Vec<u8>) {
        for (name, template) in &self.add {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            template.put(values, out);
            out.extend_from_slice(b"\r\n");
        }
    }
}
