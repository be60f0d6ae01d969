//! Regular expressions over paths, in linear time and bounded memory.

use regex_automata::MatchKind;
use regex_automata::meta::{BuildError, Regex};
use regex_automata::util::syntax;

/// The most routes of a config whose path is a regular expression: each makes the automaton of its host larger.
pub const REGEX_ROUTES_MAX: usize = 1_000;

/// The most memory of one compiled expression, in bytes.
pub const REGEX_BYTES_MAX: usize = 64 * 1024;

/// One automaton for expressions that each match a whole path. Paths are ASCII, so that `.` and classes are bytes.
///
/// # Errors
/// When an expression is malformed, or larger than [`REGEX_BYTES_MAX`].
pub fn compile(patterns: &[&str]) -> Result<Regex, Box<BuildError>> {
    let whole: Vec<String> = patterns.iter().map(|pattern| format!("^(?:{pattern})$")).collect();
    let config = Regex::config()
        .match_kind(MatchKind::All)
        .utf8_empty(false)
        .nfa_size_limit(Some(REGEX_BYTES_MAX * patterns.len()))
        .onepass(false);
    let syntax = syntax::Config::new().unicode(false).utf8(false);
    Regex::builder().configure(config).syntax(syntax).build_many(&whole).map_err(Box::new)
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
        assert!(compile(&["/[a-z]{10000}"]).is_err());
    }
}
