//! Reads JSON into file types, records the place of every value and continues after a fault.
//!
//! `serde_json` parses the text. The reader splits objects and lists into raw pieces that borrow from the text; the
//! start of a slice gives the place of the piece.

use std::fmt;

use serde::de::{Deserializer as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::environment::{Environment, expand, expand_literally};
use super::{Fault, Faults};
use crate::route::Template;

/// A value of the file and its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct At<T> {
    /// The value.
    pub(super) value: T,
    pub(super) place: Place,
}

impl<T> At<T> {
    /// A value without a place, such as a default.
    pub(super) fn unplaced(value: T) -> Self {
        At { value, place: Place { start: 0, length: 0 } }
    }
}

impl<T: Serialize> Serialize for At<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

/// A range of the text, in bytes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    start: usize,
    length: usize,
}

/// The description of a fault, and the fix.
pub(super) struct Problem {
    pub(super) message: String,
    pub(super) help: String,
}

impl Problem {
    pub(super) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Problem { message: message.into(), help: help.into() }
    }
}

/// A type that the reader can read from a piece of JSON. `read` adds faults to `faults`.
pub(super) trait Read: Sized {
    /// The JSON Schema of the valid values.
    fn schema() -> Value;

    fn read(node: Node<'_>, faults: &mut Faults) -> Option<Self>;
}

/// An object of the file that knows which of its keys are in the file.
pub(super) trait Typed {
    /// The place of the value of `key`, if the key is in the file.
    fn place_of(&self, key: &str) -> Option<Place>;
}

/// One piece of JSON and the whole text.
#[derive(Copy, Clone)]
pub(super) struct Node<'a> {
    source: &'a str,
    raw: &'a str,
    name: Name,
    environment: Environment<'a>,
}

/// The name of a piece of JSON in messages.
#[derive(Copy, Clone)]
enum Name {
    File,
    /// The value of a key.
    Key(&'static str),
    /// An entry of the list of a key, from 1.
    Entry(&'static str, usize),
    /// A value with a name that the user chose, in the object of a key.
    Named(&'static str),
}

/// Reads all of `source`.
pub(super) fn read<T: Read>(source: &str, environment: Environment<'_>, faults: &mut Faults) -> Option<T> {
    match serde_json::from_str::<&RawValue>(source) {
        Ok(raw) => T::read(Node { source, raw: raw.get(), name: Name::File, environment }, faults),
        Err(error) => {
            faults.push(syntax_fault(source, &error));
            None
        }
    }
}

fn syntax_fault(source: &str, error: &serde_json::Error) -> Fault {
    let line_start = source.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum::<usize>();
    let mut start = (line_start + error.column().saturating_sub(1)).min(source.len());
    while !source.is_char_boundary(start) {
        start -= 1;
    }
    let length = source[start..].chars().next().filter(|c| *c != '\n').map_or(0, char::len_utf8);
    let said = error.to_string();
    let after_comma = source[..start].trim_end().ends_with(',') && source[start..].starts_with(['}', ']']);
    let message = if after_comma { "trailing comma" } else { said.split(" at line ").next().unwrap_or(&said) };
    let help = if source.trim().is_empty() {
        "the file is empty; the smallest config is {\"backend_servers\": [{\"host\": \"localhost\", \"port\": 8001}]}"
    } else if source.starts_with('\u{feff}') {
        "the file begins with a byte order mark; save the file as UTF-8 without this mark"
    } else if message.starts_with("trailing comma") {
        "remove the comma before the closing bracket"
    } else if message.starts_with("EOF") {
        "a bracket or a text is not closed: look for a missing }, ] or \""
    } else if message.starts_with("trailing characters") {
        "the config ends at its closing }; remove the text after the }"
    } else {
        "the config is JSON: keys and texts in double quotes, a comma between entries"
    };
    Fault::new(source, start, length, format!("not valid JSON: {message}"), help.to_owned())
}

impl<'a> Node<'a> {
    pub(super) fn place(&self) -> Place {
        // `raw` is a slice of `source`, so the difference of the addresses is an offset in `source`.
        Place { start: self.raw.as_ptr() as usize - self.source.as_ptr() as usize, length: self.raw.len() }
    }

    pub(super) fn fault(&self, faults: &mut Faults, problem: Problem) {
        self.place().fault(self.source, faults, problem);
    }

    /// The scalar, as serde reads the scalar, with the values of environment variables. The fault names the value that
    /// the file has instead.
    pub(super) fn scalar<T: serde::de::DeserializeOwned>(&self, faults: &mut Faults, wanted: &str) -> Option<T> {
        let Some(typed) = self.text_with_variables() else {
            return self.fault_of(serde_json::from_str(self.raw), faults, wanted);
        };
        match expand(&typed, self.environment) {
            Ok(text) => {
                // The value of a variable may be a number, true or false.
                let read = serde_json::from_value(text.as_str().into()).or_else(|_| serde_json::from_str(&text));
                if read.is_err() {
                    let message =
                        format!("{} must be {wanted}, not \"{text}\", the value of {}", self.title(), self.raw);
                    self.fault(faults, Problem::new(message, format!("write {wanted}, or change the variable")));
                }
                read.ok()
            }
            Err(fault) => {
                self.fault(faults, Problem::new(format!("{}: {fault}", self.title()), fault.help()));
                None
            }
        }
    }

    /// A text that is read as a template. Values of variables have no variables of the template.
    pub(super) fn template(&self, faults: &mut Faults) -> Option<String> {
        let Some(typed) = self.text_with_variables() else { return self.scalar(faults, "a text in double quotes") };
        match expand_literally(&typed, self.environment, Template::literal) {
            Ok(text) => Some(text),
            Err(fault) => {
                self.fault(faults, Problem::new(format!("{}: {fault}", self.title()), fault.help()));
                None
            }
        }
    }

    fn fault_of<T>(&self, read: serde_json::Result<T>, faults: &mut Faults, wanted: &str) -> Option<T> {
        if read.is_err() {
            self.wrong_kind(faults, wanted);
        }
        read.ok()
    }

    /// The text, if the text names variables of the environment.
    fn text_with_variables(&self) -> Option<String> {
        if !self.raw.starts_with('"') || !self.raw.contains("${") {
            return None;
        }
        serde_json::from_str(self.raw).ok()
    }

    /// Whether this is a text.
    pub(super) fn is_text(&self) -> bool {
        self.raw.starts_with('"')
    }

    /// The entries of an object whose keys the user chooses.
    pub(super) fn table(&self, faults: &mut Faults) -> Option<Vec<(At<String>, Node<'a>)>> {
        let raws = serde_json::Deserializer::from_str(self.raw).deserialize_map(ObjectVisitor);
        let Ok(raws) = raws else {
            let message = format!("{} must be an object, not {}", self.title(), self.kind());
            self.fault(faults, Problem::new(message, "write an object: { \"name\": … }"));
            return None;
        };
        let name = match self.name {
            Name::Key(key) => Name::Named(key),
            other => other,
        };
        let mut entries: Vec<(At<String>, Node<'a>)> = Vec::new();
        let mut keys = std::collections::BTreeSet::new();
        for (raw_key, raw) in raws {
            let key_node = Node { raw: raw_key.get(), ..*self };
            let key: At<String> =
                At { value: serde_json::from_str(raw_key.get()).unwrap_or_default(), place: key_node.place() };
            if !keys.insert(key.value.clone()) {
                let message = format!("\"{}\" appears twice", key.value);
                key_node.fault(faults, Problem::new(message, "keep one of the two"));
            }
            entries.push((key, Node { raw: raw.get(), name, ..*self }));
        }
        Some(entries)
    }

    /// Whether this is an object.
    pub(super) fn is_object(&self) -> bool {
        self.raw.starts_with('{')
    }

    /// Whether this is a list.
    pub(super) fn is_list(&self) -> bool {
        self.raw.starts_with('[')
    }

    /// Adds the fault that this value is of another kind than `wanted`.
    pub(super) fn wrong_kind(&self, faults: &mut Faults, wanted: &str) {
        let message = format!("{} must be {wanted}, not {}", self.title(), self.kind());
        self.fault(faults, Problem::new(message, format!("write {wanted}")));
    }

    /// The name of this value in messages.
    pub(super) fn title(&self) -> String {
        match self.name {
            Name::File => "the file".to_owned(),
            Name::Key(key) => format!("\"{key}\""),
            Name::Entry(key, number) => format!("entry {number} of \"{key}\""),
            Name::Named(key) => format!("a value of \"{key}\""),
        }
    }

    fn kind(&self) -> String {
        match self.raw.as_bytes().first() {
            Some(b'{') => "an object".to_owned(),
            Some(b'[') => "a list".to_owned(),
            Some(b'"') => format!("the text {}", self.raw),
            _ => self.raw.to_owned(),
        }
    }

    /// The entries of the list.
    pub(super) fn list(&self, faults: &mut Faults) -> Option<Vec<Node<'a>>> {
        let raws = serde_json::Deserializer::from_str(self.raw).deserialize_seq(ListVisitor);
        match raws {
            Ok(raws) => {
                let entry = |(index, raw): (usize, &'a RawValue)| {
                    let name = match self.name {
                        Name::Key(key) => Name::Entry(key, index + 1),
                        name => name,
                    };
                    Node { raw: raw.get(), name, ..*self }
                };
                Some(raws.into_iter().enumerate().map(entry).collect())
            }
            Err(_) => {
                let message = format!("{} must be a list, not {}", self.title(), self.kind());
                self.fault(faults, Problem::new(message, "write a list: [ … ]"));
                None
            }
        }
    }

    /// The entries of the object; `keys` are the valid keys.
    pub(super) fn object(&self, keys: &[&'static str], faults: &mut Faults) -> Option<Object<'a>> {
        let raws = serde_json::Deserializer::from_str(self.raw).deserialize_map(ObjectVisitor);
        let Ok(raws) = raws else {
            let message = format!("{} must be an object, not {}", self.title(), self.kind());
            self.fault(faults, Problem::new(message, format!("write an object: {{ \"{}\": … }}", keys[0])));
            return None;
        };
        let mut entries: Vec<(&'static str, Node<'a>)> = Vec::new();
        for (raw_key, raw) in raws {
            let key_node = Node { raw: raw_key.get(), ..*self };
            let key: String = serde_json::from_str(raw_key.get()).unwrap_or_default();
            // For editors: the address of the schema of this file.
            if key == "$schema" && matches!(self.name, Name::File) {
                continue;
            }
            match keys.iter().find(|known| **known == key) {
                None => key_node.fault(faults, unknown_key(&key, keys)),
                Some(known) if entries.iter().any(|(name, _)| name == known) => {
                    let help = "keep one of the two";
                    key_node.fault(faults, Problem::new(format!("\"{key}\" appears twice"), help));
                }
                Some(known) => {
                    entries.push((known, Node { raw: raw.get(), name: Name::Key(known), ..*self }));
                }
            }
        }
        Some(Object { entries })
    }
}

/// The entries of an object of the file.
pub(super) struct Object<'a> {
    entries: Vec<(&'static str, Node<'a>)>,
}

impl Object<'_> {
    /// The value of `key`, if the key exists and the value is valid.
    pub(super) fn read<T: Read>(&self, key: &str, faults: &mut Faults) -> Option<At<T>> {
        let (_, node) = self.entries.iter().find(|(name, _)| *name == key)?;
        T::read(*node, faults).map(|value| At { value, place: node.place() })
    }

    /// The keys, and the places of their values.
    pub(super) fn places(&self) -> Vec<(&'static str, Place)> {
        self.entries.iter().map(|(key, node)| (*key, node.place())).collect()
    }

    /// Whether `key` exists, with a valid or an invalid value.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(name, _)| *name == key)
    }
}

impl Place {
    /// The beginning of the text.
    pub(super) const START: Place = Place { start: 0, length: 1 };

    pub(super) fn text(self, source: &str) -> &str {
        &source[self.start..self.start + self.length]
    }

    pub(super) fn fault(self, source: &str, faults: &mut Faults, problem: Problem) {
        faults.push(Fault::new(source, self.start, self.length, problem.message, problem.help));
    }
}

impl<T: Read> Read for Vec<At<T>> {
    fn schema() -> Value {
        json!({ "type": "array", "items": T::schema() })
    }

    fn read(node: Node<'_>, faults: &mut Faults) -> Option<Self> {
        let nodes = node.list(faults)?;
        let read = |node: Node<'_>| T::read(node, faults).map(|value| At { value, place: node.place() });
        // `read` adds a fault for an invalid entry; the other entries are still read, so that all faults are reported.
        Some(nodes.into_iter().filter_map(read).collect())
    }
}

fn unknown_key(key: &str, keys: &[&str]) -> Problem {
    let help = match nearest(key, keys) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("known keys here: {}", keys.join(", ")),
    };
    Problem::new(format!("unknown key \"{key}\""), help)
}

/// The word that the user probably meant.
pub(super) fn nearest<'w>(typed: &str, words: &[&'w str]) -> Option<&'w str> {
    let typed = typed.to_ascii_lowercase().replace('-', "_");
    let scored = words.iter().map(|word| (strsim::jaro_winkler(&typed, word), *word));
    scored.filter(|(score, _)| *score > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, word)| word)
}

struct ListVisitor;

impl<'de> Visitor<'de> for ListVisitor {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut raws = Vec::new();
        while let Some(raw) = access.next_element()? {
            raws.push(raw);
        }
        Ok(raws)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Vec<(&'de RawValue, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(entries)
    }
}
