//! Values with variables, such as `{client_ip}`, in fields that a route sets.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// A text with variables: by default those of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template<V = Variable>(Vec<Piece<V>>);

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece<V> {
    /// The text itself.
    Text(Arc<str>),
    /// The value of a variable.
    Variable(V),
}

/// The variables that a template may have.
pub trait Variables: Copy + PartialEq + 'static {
    /// Every variable and its name.
    const ALL: &'static [(&'static str, Self)];
}

/// A variable of a template.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    /// The client's address, also behind trusted proxies.
    ClientIp,
    /// The id of the request, as in the access log.
    RequestId,
    /// The host of the request, without port.
    Host,
    /// The method.
    Method,
    /// The path that the route matched.
    Path,
    /// The name of the route.
    Route,
}

impl Variables for Variable {
    const ALL: &'static [(&'static str, Variable)] = &[
        ("client_ip", Variable::ClientIp),
        ("request_id", Variable::RequestId),
        ("host", Variable::Host),
        ("method", Variable::Method),
        ("path", Variable::Path),
        ("route", Variable::Route),
    ];
}

/// Writes the values of variables.
pub trait Values {
    /// Writes the value of `variable`.
    fn put(&self, variable: Variable, out: &mut Vec<u8>);
}

/// Why a text is not a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateFault {
    /// No variable has this name.
    Unknown(String),
    /// A brace is not closed.
    Open,
}

impl fmt::Display for TemplateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TemplateFault::Unknown(name) => write!(f, "no variable is named \"{name}\""),
            TemplateFault::Open => f.write_str("a { has no }"),
        }
    }
}

impl std::error::Error for TemplateFault {}

impl<V: Variables> fmt::Display for Template<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => f.write_str(&text.replace('{', "{{")),
            Piece::Variable(variable) => {
                let name = V::ALL.iter().find(|(_, other)| other == variable).map_or("", |(name, _)| *name);
                write!(f, "{{{name}}}")
            }
        })
    }
}

impl<V: Variables> Template<V> {
    /// Reads a text; `{{` means a brace.
    ///
    /// # Errors
    /// A variable is unknown, or a brace is not closed.
    pub fn parse(text: &str) -> Result<Self, TemplateFault> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            plain.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('{') {
                plain.push('{');
                rest = after;
                continue;
            }
            let (name, after) = rest.split_once('}').ok_or(TemplateFault::Open)?;
            let known = V::ALL.iter().find(|(known, _)| *known == name);
            let (_, variable) = known.ok_or_else(|| TemplateFault::Unknown(name.to_owned()))?;
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain).into()));
            }
            pieces.push(Piece::Variable(*variable));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain.into()));
        }
        Ok(Template(pieces))
    }

    /// The parts, in their order.
    pub fn pieces(&self) -> &[Piece<V>] {
        &self.0
    }
}

impl Template {
    /// The text for [`parse`](Template::parse) that stands for `text` itself.
    pub fn literal(text: &str) -> Cow<'_, str> {
        if text.contains('{') { text.replace('{', "{{").into() } else { text.into() }
    }

    /// Writes the text with the values of its variables.
    pub fn put(&self, values: &dyn Values, out: &mut Vec<u8>) {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Variable(variable) => values.put(*variable, out),
            }
        }
    }
}
