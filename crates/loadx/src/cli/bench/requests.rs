//! The requests of a run: from the options, or from a file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use loadx_load::{Content, Origin, Request, Target};
use serde::Deserialize;

use super::limits::FILE_BYTES_MAX;
use super::options::BenchArguments;
use crate::trouble::Trouble;

/// A request in a file, as JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Typed {
    method: Option<String>,
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<String>,
}

/// The servers and the requests that the options describe.
pub(super) fn requests(arguments: &BenchArguments) -> Result<(Vec<Origin>, Vec<Request>), Trouble> {
    let mut all = Collected { arguments, origins: Vec::new(), mix: Vec::new() };
    let targets = arguments.targets();
    match &arguments.requests_file {
        Some(file) => all.read(file, &targets[0])?,
        None => {
            let content = arguments.data.as_deref().map(content).transpose()?;
            let default = if content.is_some() { "POST" } else { "GET" };
            let method = method(arguments.method.as_deref().unwrap_or(default)).map_err(Trouble::Input)?;
            for target in targets {
                let path = match &arguments.path {
                    None => target.path.clone(),
                    Some(path) => checked_path(path).map_err(|fault| Trouble::Input(format!("--path {fault}")))?,
                };
                let content = content.clone().unwrap_or(Content::Filler(0));
                all.add(Target { path, ..target }, &method, &[], content);
            }
        }
    }
    Ok((all.origins, all.mix))
}

struct Collected<'a> {
    arguments: &'a BenchArguments,
    origins: Vec<Origin>,
    mix: Vec<Request>,
}

impl Collected<'_> {
    fn add(&mut self, target: Target, method: &str, fields: &[(String, String)], content: Content) {
        let origin = Origin { socket: self.arguments.unix.clone(), ..target.origin };
        let position = self.origins.iter().position(|known| *known == origin).unwrap_or_else(|| {
            self.origins.push(origin.clone());
            self.origins.len() - 1
        });
        let of_all = self.arguments.fields.iter();
        let of_all = of_all.filter(|(name, _)| !fields.iter().any(|(own, _)| own.eq_ignore_ascii_case(name)));
        let mut all: Vec<(String, String)> = of_all.cloned().chain(fields.iter().cloned()).collect();
        let has_connection = all.iter().any(|(name, _)| name.eq_ignore_ascii_case("connection"));
        if self.arguments.no_keep_alive && !has_connection {
            all.push(("Connection".to_owned(), "close".to_owned()));
        }
        self.mix.push(Request::build(position, &origin.authority(), method, &target.path, &all, content));
    }

    fn read(&mut self, file: &Path, base: &Target) -> Result<(), Trouble> {
        let shown = file.display();
        let text = read(file)
            .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "the file is not text in UTF-8".to_owned()));
        let text = text.map_err(|error| {
            Trouble::Input(format!(
                "cannot read {shown}: {error}\n  help: --requests-file takes a text file with a request in each line"
            ))
        })?;
        for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            self.read_line(line, base).map_err(|fault| {
                Trouble::Input(format!(
                    "{shown}:{}: {fault}\n  help: write a line such as \"/path\", \"POST /path\", or {{\"method\": \"PUT\", \"url\": \"/path\", \"body\": \"text\"}}",
                    number + 1
                ))
            })?;
        }
        match self.mix.is_empty() {
            true => Err(Trouble::Input(format!("{shown} has no requests\n  help: write a request in each line"))),
            false => Ok(()),
        }
    }

    fn read_line(&mut self, line: &str, base: &Target) -> Result<(), String> {
        let typed = if line.starts_with('{') {
            serde_json::from_str(line).map_err(|error| error.to_string())?
        } else {
            let (method, url) = match line.split_once(char::is_whitespace) {
                Some((method, url)) => (Some(method.to_owned()), url.trim()),
                None => (None, line),
            };
            Typed { method, url: url.to_owned(), headers: BTreeMap::new(), body: None }
        };
        let target = match typed.url.starts_with('/') {
            true => Target { path: checked_path(&typed.url)?, ..base.clone() },
            false if typed.url.contains("://") => Target::parse(&typed.url)?,
            false => return Err(format!("\"{}\" is neither a path nor a URL with its scheme", typed.url)),
        };
        let default = if typed.body.is_some() { "POST" } else { "GET" };
        let method = method(typed.method.as_deref().unwrap_or(default))?;
        let fields = typed.headers.iter().map(|(name, value)| checked_field(name, value));
        let fields = fields.collect::<Result<Vec<_>, _>>()?;
        let content = typed.body.map_or(Content::Filler(0), |body| Content::Bytes(body.into_bytes().into()));
        self.add(target, &method, &fields, content);
        Ok(())
    }
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut opened = File::open(file).map_err(|error| error.to_string())?.take(FILE_BYTES_MAX + 1);
    opened.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    match bytes.len() as u64 > FILE_BYTES_MAX {
        true => Err(format!("the file is larger than {FILE_BYTES_MAX} bytes")),
        false => Ok(bytes),
    }
}

fn content(typed: &str) -> Result<Content, Trouble> {
    let bytes = match typed.strip_prefix('@') {
        None => typed.as_bytes().to_vec(),
        Some(file) => read(Path::new(file)).map_err(|error| {
            Trouble::Input(format!("cannot read {file}: {error}\n  help: --data @FILE names the file with the content"))
        })?,
    };
    Ok(Content::Bytes(bytes.into()))
}

fn is_token(text: &str) -> bool {
    let is_token_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_token_byte)
}

fn method(typed: &str) -> Result<String, String> {
    match is_token(typed) && !typed.eq_ignore_ascii_case("connect") {
        true => Ok(typed.to_ascii_uppercase()),
        false => Err(format!("\"{typed}\" is no method that a load can have; write one such as GET or POST")),
    }
}

fn checked_path(path: &str) -> Result<String, String> {
    let is_plain =
        path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}#".contains(&byte));
    is_plain.then(|| path.to_owned()).ok_or_else(|| {
        format!(
            "\"{path}\" must begin with / and contain no spaces, and other characters than those of URLs only as %XX"
        )
    })
}

fn checked_field(name: &str, value: &str) -> Result<(String, String), String> {
    let (name, value) = (name.trim(), value.trim());
    let is_plain = is_token(name) && value.bytes().all(|byte| byte >= b' ' && byte != 0x7f || byte == b'\t');
    let frames =
        ["transfer-encoding", "content-length", "upgrade"].iter().any(|known| name.eq_ignore_ascii_case(known));
    match is_plain && !frames {
        true => Ok((name.to_owned(), value.to_owned())),
        false if frames => Err(format!("a load cannot have the field {name}")),
        false => Err(format!("\"{name}: {value}\" is no field; write one such as \"Accept: text/html\"")),
    }
}

pub(super) fn parse_field(typed: &str) -> Result<(String, String), String> {
    let (name, value) = typed.split_once(':').ok_or("a field has a colon; write one such as \"Accept: text/html\"")?;
    checked_field(name, value)
}
