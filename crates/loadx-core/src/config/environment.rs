//! Variables of the environment in the values of the config: `${NAME}` and `${NAME:-default}`.

use std::borrow::Cow;
use std::fmt;

/// The function that looks up a variable of the environment.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Why [`expand`] fails.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum VariableFault {
    /// The variable is not set, and there is no default.
    Unset(String),
    /// A brace is not closed, or the braces contain no name.
    Malformed,
}

impl VariableFault {
    /// How to fix the value.
    pub(super) fn help(&self) -> String {
        match self {
            VariableFault::Unset(name) => format!("set {name}, or give a default: ${{{name}:-value}}"),
            VariableFault::Malformed => {
                "write ${NAME} or ${NAME:-default}; $${ stands for the characters ${".to_owned()
            }
        }
    }
}

impl fmt::Display for VariableFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VariableFault::Unset(name) => write!(f, "the environment variable {name} is not set"),
            VariableFault::Malformed => f.write_str("${ is not followed by a name and }"),
        }
    }
}

impl std::error::Error for VariableFault {}

/// Replaces the variables in `text` by their values, and `$${` by `${`.
pub(super) fn expand(text: &str, environment: Environment<'_>) -> Result<String, VariableFault> {
    expand_literally(text, environment, |value| Cow::Borrowed(value))
}

/// Expands a text as [`expand`] does. `literally` writes a value so that a later reader of the text takes the value as
/// it is.
pub(super) fn expand_literally(
    text: &str,
    environment: Environment<'_>,
    literally: impl Fn(&str) -> Cow<'_, str>,
) -> Result<String, VariableFault> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at - 1]);
            out.push_str(&literally("${"));
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let (inside, after) = rest[at + 2..].split_once('}').ok_or(VariableFault::Malformed)?;
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if default.is_some_and(|default| default.contains("${")) {
            return Err(VariableFault::Malformed);
        }
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err(VariableFault::Malformed);
        }
        // With a default, an empty variable counts as not set, as in a shell.
        let value = environment(name).filter(|value| !value.is_empty() || default.is_none());
        match (value, default) {
            (Some(value), _) => out.push_str(&literally(&value)),
            (None, Some(default)) => out.push_str(default),
            (None, None) => return Err(VariableFault::Unset(name.to_owned())),
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_have_values_or_defaults() {
        let environment = |name: &str| match name {
            "HOST" => Some("a.example".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let of = |text| expand(text, &environment);
        assert_eq!(of("x-${HOST}:${PORT:-80}").as_deref(), Ok("x-a.example:80"));
        assert_eq!(of("${EMPTY:-b}${EMPTY}").as_deref(), Ok("b"));
        assert_eq!(of("$${HOST} $5").as_deref(), Ok("${HOST} $5"));
        assert_eq!(of("${PORT}"), Err(VariableFault::Unset("PORT".to_owned())));
        assert_eq!(of("${PORT"), Err(VariableFault::Malformed));
        assert_eq!(of("${}"), Err(VariableFault::Malformed));
        assert_eq!(of("${A:-${B}}"), Err(VariableFault::Malformed), "a default contains no variables");
    }
}
