//! Regular expressions over paths, in linear time and bounded memory.

use regex_automata::MatchKind;
use regex_automata::meta::{BuildError, Regex};
use regex_automata::util::syntax;

/// The largest number of routes with a regular expression: each expression makes the automaton of its host larger.
pub const REGEX_ROUTES_MAX: usize = 1_000;

/// The largest memory of one compiled expression, in bytes.
pub const REGEX_BYTES_MAX: usize = 64 * 1024;

/// Compiles one automaton for several expressions; each expression matches a whole path. Paths are ASCII, so `.` and
/// classes match bytes.
///
/// # Errors
/// An expression is malformed, or larger than [`REGEX_BYTES_MAX`].
pub fn compile(patterns: &[&str]) -> Result<Regex, Box<BuildError>> {
    let whole: Vec<String> = patterns.iter().map(|pattern| format!("^(?:{pattern})$")).collect();
    let config = Regex::config()
        .match_kind(MatchKind::All)
        .utf8_empty(false)
        .nfa_size_limit(Some(REGEX_BYTES_MAX * patterns.len()))
        .onepass(false);
    Regex::builder().configure(config).syntax(syntax()).build_many(&whole).map_err(Box::new)
}

fn syntax() -> syntax::Config {
    syntax::Config::new().unicode(false).utf8(false)
}

/// Compiles one expression of the config.
///
/// # Errors
/// The reason why the expression does not compile, in one line.
pub fn compile_typed(pattern: &str) -> Result<Regex, String> {
    // Parses the expression alone first: a closing parenthesis must not end the group that anchors the expression.
    syntax::parse_with(pattern, &syntax()).map_err(|error| reason(&error.to_string()))?;
    compile(&[pattern]).map_err(|error| match error.size_limit() {
        Some(_) => format!("the compiled expression takes more than {} KiB", REGEX_BYTES_MAX / 1024),
        None => reason(&error.to_string()),
    })
}

/// The reason in the text of a fault: the text shows the expression with a mark, and ends with the line of the reason.
fn reason(text: &str) -> String {
    text.rsplit("error: ").next().unwrap_or(text).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_expressions_of_the_largest_size_compile_together() {
        let large = (1..).map(|count| format!("/[a-z]{{{count}}}")).take_while(|pattern| compile(&[pattern]).is_ok());
        let large = large.last().unwrap();
        let all: Vec<&str> = std::iter::repeat_n(large.as_str(), REGEX_ROUTES_MAX).collect();
        assert!(compile(&all).is_ok(), "{large}");
        for (pattern, reason) in [
            ("/[a-z]{10000}", "the compiled expression takes more than 64 KiB"),
            ("/(a", "unclosed group"),
            ("/a)|(/b", "unopened group"),
            ("/[b-a]", "invalid character class range, the start must be <= the end"),
        ] {
            assert_eq!(compile_typed(pattern).unwrap_err(), reason, "{pattern}");
        }
    }
}
