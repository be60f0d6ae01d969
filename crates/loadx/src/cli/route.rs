//! `loadx route`: where the config sends a request, and why.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use loadx_core::config::Config;
use loadx_core::route::path::{self, Normal};
use loadx_core::route::{Action, Asked, Fields, Forward, Match, Route, RouteTable, Values, Variable};
use loadx_http::{Parsed, RequestHead};

use super::config_file;
use super::trouble::{Trouble, print};

/// The options of `loadx route`.
#[derive(Debug, Args)]
pub(super) struct RouteArguments {
    /// The method of the request, such as GET
    method: String,
    /// The URL of the request, such as shop.example.com/cart?id=7; a scheme may stand before the host
    url: String,
    /// A field of the request; repeat the option for more fields
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The listener that the request comes by [default: the first one]
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// The config file
    #[arg(long, short, value_name = "FILE", default_value = "config.json")]
    config: PathBuf,
}

pub(super) fn route(arguments: &RouteArguments) -> Result<ExitCode, Trouble> {
    let config = config_file::load(&arguments.config)?;
    let head = arguments.head()?;
    let listener = arguments.listener(&config)?;
    let (text, code) = explain(&config, &head, listener);
    print(&text)?;
    Ok(code)
}

impl RouteArguments {
    /// The request as LoadX would read the request from a connection.
    fn head(&self) -> Result<RequestHead, Trouble> {
        let rest = self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest);
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(at);
        let slash = if target.starts_with('/') { "" } else { "/" };
        // A Host that was typed is the one that counts, as in a real request.
        let names_host =
            |header: &String| header.split(':').next().is_some_and(|name| name.eq_ignore_ascii_case("host"));
        let host = match self.headers.iter().any(names_host) {
            true => String::new(),
            false => format!("Host: {authority}\r\n"),
        };
        let mut text = format!("{} {slash}{target} HTTP/1.1\r\n{host}", self.method);
        for header in &self.headers {
            let _ = write!(text, "{header}\r\n");
        }
        text.push_str("\r\n");
        match RequestHead::read(text.as_bytes()) {
            Ok(Parsed::Complete(head, length)) if length == text.len() => Ok(head),
            Err(fault) => Err(Trouble::Input(format!("LoadX answers {} to this request: {fault}", fault.status()))),
            Ok(_) => Err(Trouble::Input("the method, the URL and the fields do not make one request".to_owned())),
        }
    }

    fn listener(&self, config: &Config) -> Result<usize, Trouble> {
        let Some(name) = &self.listener else { return Ok(0) };
        let found = config.listeners.iter().position(|listener| *listener.name == **name);
        found.ok_or_else(|| {
            let names: Vec<&str> = config.listeners.iter().map(|listener| &*listener.name).collect();
            Trouble::Input(format!(
                "there is no listener named \"{name}\"\n  help: the config has {}",
                names.join(", ")
            ))
        })
    }
}

struct HeadFields<'h>(&'h RequestHead);

impl Fields for HeadFields<'_> {
    fn value(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let values: Vec<&[u8]> = self.0.values(name).collect();
        (!values.is_empty()).then(|| values.join(b", ".as_slice()).into())
    }
}

/// Variables that only a real request has stand as they are written.
struct Named<'n>(&'n Asked<'n>, &'n Route);

impl Values for Named<'_> {
    fn put(&self, variable: Variable, out: &mut Vec<u8>) {
        match variable {
            Variable::Host => out.extend_from_slice(self.0.host),
            Variable::Method => out.extend_from_slice(self.0.method),
            Variable::Path => out.extend_from_slice(self.0.path),
            Variable::Route => out.extend_from_slice(self.1.name.as_bytes()),
            Variable::ClientIp => out.extend_from_slice(b"{client_ip}"),
            Variable::RequestId => out.extend_from_slice(b"{request_id}"),
        }
    }
}

/// What becomes of the request; the exit status is 1 when no route matches.
fn explain(config: &Config, head: &RequestHead, listener: usize) -> (String, ExitCode) {
    let table = RouteTable::new(config.routes.clone());
    let target = head.path_and_query();
    let at = target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
    let (typed, query) = (&target[..at], target.get(at + 1..));
    let mut out = String::new();
    let mut normal = Vec::new();
    let path = match path::normalise(typed, &mut normal) {
        Ok(Normal::Unchanged) => typed,
        Ok(Normal::Changed) => &normal,
        Err(fault) => return (format!("answer    400: {fault}\n"), ExitCode::FAILURE),
    };
    let host = path::host(head.authority());
    let asked = Asked {
        listener,
        host: &host,
        path,
        query: query.unwrap_or_default(),
        method: head.method(),
        fields: &HeadFields(head),
    };
    let shown = String::from_utf8_lossy;
    let _ = writeln!(out, "listener  {}", config.listeners[listener].name);
    let _ = writeln!(out, "request   {} {} for host {}", shown(head.method()), shown(path), shown(asked.host));
    if config.listeners[listener].endpoints && is_endpoint(head, path) {
        out.push_str("answer    LoadX itself, for clients in \"endpoints_allow\"; for others:\n");
    }
    let found = match table.find_unambiguous(&asked) {
        Ok(found) => found,
        Err(fault) => return (format!("{out}answer    400: {fault}\n"), ExitCode::FAILURE),
    };
    match found {
        None => out.push_str("answer    404: no route matches\n"),
        Some(Match { index, route }) => {
            let _ = writeln!(out, "route     {} (number {} of {})", route.name, index + 1, config.routes.len());
            describe(&mut out, config, route, &asked, head);
        }
    }
    let others = table.explain(&asked);
    if !others.is_empty() {
        out.push_str("not taken\n");
        for (index, mismatch) in others {
            let _ = writeln!(out, "  {:<16} {mismatch}", &*config.routes[index].name);
        }
    }
    (out, if found.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether LoadX may answer the request with its own state.
fn is_endpoint(head: &RequestHead, path: &[u8]) -> bool {
    matches!(head.method(), b"GET" | b"HEAD") && matches!(path, b"/__health__" | b"/__metrics__" | b"/__status__")
}

fn describe(out: &mut String, config: &Config, route: &Route, asked: &Asked<'_>, head: &RequestHead) {
    match &route.action {
        Action::Respond(respond) => {
            let _ = writeln!(out, "answer    {} with {} bytes of the config", respond.status, respond.body.len());
        }
        Action::Redirect(redirect) => {
            let _ = writeln!(out, "answer    {}, a redirect", redirect.status);
        }
        Action::Forward(forward) => forwarded(out, config, forward, route, asked, head),
    }
    if !route.access.allow.is_empty() || !route.access.deny.is_empty() {
        out.push_str("access    depends on the client's address; others get 403\n");
    }
}

fn forwarded(
    out: &mut String,
    config: &Config,
    forward: &Forward,
    route: &Route,
    asked: &Asked<'_>,
    head: &RequestHead,
) {
    let shown = String::from_utf8_lossy;
    let total: u32 = forward.split.iter().map(|share| share.weight).sum();
    for share in &forward.split {
        let cluster = &config.clusters[share.cluster];
        let backends = super::words::count(cluster.backends.len(), "backend");
        let _ = write!(out, "cluster   {}: {backends}, {}", cluster.name, cluster.algorithm.as_str());
        match forward.split.len() {
            1 => out.push('\n'),
            _ => {
                let _ = writeln!(out, ", {:.1} % of the requests", 100.0 * f64::from(share.weight) / f64::from(total));
            }
        }
    }
    if let Some(mirror) = forward.mirror {
        let _ = writeln!(out, "mirror    {}", config.clusters[mirror].name);
    }
    let mut path = Vec::new();
    if !forward.rewrite.path(&route.rules.path, asked.path, &mut path) {
        path.extend_from_slice(asked.path);
    }
    if !asked.query.is_empty() {
        path.push(b'?');
        path.extend_from_slice(asked.query);
    }
    let host = forward.rewrite.host.as_deref().map_or_else(|| shown(head.authority()), Into::into);
    let _ = writeln!(out, "sent as   {} {}\n          Host: {host}", shown(asked.method), shown(&path));
    let mut added = Vec::new();
    forward.request_fields.put_added(&Named(asked, route), &mut added);
    for line in shown(&added).lines() {
        let _ = writeln!(out, "          {line}");
    }
    for name in &forward.request_fields.remove {
        if head.values(name).next().is_some() {
            let _ = writeln!(out, "          without the {name} of the client");
        }
    }
}
