//! The faults of a config, with the place and a fix for each.

use std::fmt;

/// One fault and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The line of the text, from 1.
    pub line: usize,
    /// The column in that line, in characters, from 1.
    pub column: usize,
    /// The wrong text, cut to one line.
    pub text: String,
    /// The whole line that contains the wrong text.
    pub source_line: String,
    /// The description of the fault.
    pub message: String,
    /// How to fix the fault.
    pub help: String,
}

/// The longest excerpt of the config in a fault, in characters.
const EXCERPT_MAX: usize = 100;

/// The largest number of faults that LoadX reports.
const FAULTS_MAX: usize = 100;

impl Fault {
    /// A fault in the `length` bytes of `source` from byte `start`.
    pub(super) fn new(source: &str, start: usize, length: usize, message: String, help: String) -> Self {
        let line_start = source[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line = source[line_start..].lines().next().unwrap_or_default();
        let text = source[start..start + length].lines().next().unwrap_or_default();
        Fault {
            line: source[..start].matches('\n').count() + 1,
            column: source[line_start..start].chars().count() + 1,
            text: excerpt(text),
            source_line: line.to_owned(),
            message,
            help,
        }
    }

    /// Shows the fault of the file `name`.
    pub fn display<'f>(&'f self, name: &'f str) -> impl fmt::Display + 'f {
        DisplayFault { fault: self, name }
    }
}

fn excerpt(text: &str) -> String {
    match text.char_indices().nth(EXCERPT_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

struct DisplayFault<'f> {
    fault: &'f Fault,
    name: &'f str,
}

impl fmt::Display for DisplayFault<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { line, column, text, source_line, message, help } = self.fault;
        writeln!(f, "{}:{line}:{column}: {message}", self.name)?;
        let shown = source_line.chars().count() <= EXCERPT_MAX;
        if shown && !text.is_empty() {
            let margin = line.to_string().len();
            // Tabs stay tabs, so that the marks are below the marked text.
            let lead: String =
                source_line.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            writeln!(f, "  {line} | {source_line}")?;
            writeln!(f, "  {:margin$} | {lead}{}", "", "^".repeat(text.chars().count().max(1)))?;
        } else if !text.is_empty() {
            writeln!(f, "  {line} | … {text} …")?;
        }
        write!(f, "  help: {help}")
    }
}

/// All faults of a config.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn push(&mut self, fault: Fault) {
        if self.0.len() < FAULTS_MAX {
            self.0.push(fault);
        }
    }

    /// Whether there are no faults.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of faults.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The faults, in the order of the text.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.0.iter()
    }

    /// Replaces the line of each fault by the line of `text`, which still has comments.
    pub(super) fn with_lines_of(mut self, text: &str) -> Self {
        for fault in &mut self.0 {
            if let Some(line) = text.lines().nth(fault.line - 1) {
                fault.source_line = line.to_owned();
            }
        }
        self
    }

    pub(super) fn sorted(mut self) -> Self {
        self.0.sort_by_key(|fault| (fault.line, fault.column));
        self
    }
}
