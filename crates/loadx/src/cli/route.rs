//! `loadx route`: the route of a request, and the reason.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use loadx_core::config::Config;
use loadx_core::route::path::{self, Target};
use loadx_core::route::{
    self, Decided, Endpoint, FieldEdits, Fields, Forward, Forwarded, Match, Request, Route, RouteTable, Verdict,
};
use loadx_http::{Framing, Parsed, RequestHead};

use crate::config_file;
use crate::trouble::{Trouble, print};

/// The options of `loadx route`.
#[derive(Debug, Args)]
pub(super) struct RouteArguments {
    /// The method of the request, such as GET
    method: String,
    /// The URL of the request, such as shop.example.com/cart?id=7; a scheme may precede the host; OPTIONS also takes *
    url: String,
    /// A field of the request; repeat the option for more fields
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The listener that gets the request [default: the first listener]
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// The address of the client, for access rules and "trusted_proxies"
    #[arg(long, value_name = "ADDRESS")]
    client: Option<IpAddr>,
    /// The config file
    #[arg(long, short, value_name = "FILE", default_value = "config.json")]
    config: PathBuf,
}

pub(super) fn route(arguments: &RouteArguments) -> Result<ExitCode, Trouble> {
    let config = config_file::load(&arguments.config)?;
    let head = arguments.head()?;
    let listener = arguments.listener(&config)?;
    let scheme = if arguments.url.starts_with("https://") { "https" } else { "http" };
    let client = arguments.client.map(|client| client.to_canonical());
    let client_trusted = client.is_some_and(|client| config.trusted_proxies.iter().any(|net| net.contains(&client)));
    let length_max = config.client_limits.body_max;
    let request = Typed { head: &head, listener, scheme, client, client_trusted, length_max };
    let (text, code) = Explanation { config: &config, request, out: String::new() }.explain();
    print(&text)?;
    Ok(code)
}

impl RouteArguments {
    /// The request as LoadX would read the request from a connection.
    fn head(&self) -> Result<RequestHead, Trouble> {
        let parts = [("method", &self.method), ("URL", &self.url)].into_iter();
        for (part, text) in parts.chain(self.headers.iter().map(|header| ("field", header))) {
            if text.contains(['\r', '\n']) {
                return Err(Trouble::Input(format!(
                    "a line break in a {part} would begin another line of the request"
                )));
            }
        }
        let (authority, target) = self.target();
        // A Host option replaces the host of the URL.
        let names_host =
            |header: &String| header.split(':').next().is_some_and(|name| name.trim().eq_ignore_ascii_case("host"));
        let host = if self.headers.iter().any(names_host) {
            String::new()
        } else if authority.is_empty() {
            let with_host =
                if target == "*" { "shop.example.com".to_owned() } else { format!("shop.example.com{target}") };
            return Err(Trouble::Input(format!(
                "the URL \"{}\" has no host\n  help: write the host too, such as {with_host}, or add -H \"Host: \
                 shop.example.com\"",
                self.url
            )));
        } else {
            format!("Host: {authority}\r\n")
        };
        let mut text = format!("{} {target} HTTP/1.1\r\n{host}", self.method);
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

    /// The host, and the target as a client sends it: `*` for an OPTIONS of a whole server (RFC 9112, section 3.2.4).
    fn target(&self) -> (&str, String) {
        let rest = self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest);
        if rest == "*" {
            return ("", rest.to_owned());
        }
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let target = match target {
            "" if self.method == "OPTIONS" => "*".to_owned(),
            path if path.starts_with('/') => path.to_owned(),
            query => format!("/{query}"),
        };
        (authority, target)
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

/// A request of the command line. Variables that only a real request has stay as in the config.
#[derive(Copy, Clone)]
struct Typed<'t> {
    head: &'t RequestHead,
    listener: usize,
    scheme: &'t str,
    client: Option<IpAddr>,
    /// Whether "trusted_proxies" names the client. From other clients, LoadX ignores X-Forwarded-For and the like.
    client_trusted: bool,
    length_max: Option<u64>,
}

impl Fields for Typed<'_> {
    fn value(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let values: Vec<&[u8]> = self.head.forwarded_values(name, self.client_trusted).collect();
        (!values.is_empty()).then(|| values.join(b", ".as_slice()).into())
    }
}

impl Request for Typed<'_> {
    fn listener(&self) -> usize {
        self.listener
    }

    fn authority(&self) -> &[u8] {
        self.head.authority()
    }

    fn target(&self) -> &[u8] {
        self.head.path_and_query()
    }

    fn method(&self) -> &[u8] {
        self.head.method()
    }

    fn client(&self) -> Option<IpAddr> {
        self.client
    }

    fn length(&self) -> Option<u64> {
        match self.head.framing() {
            Framing::Length(length) => Some(length),
            Framing::Chunked | Framing::UntilClose => None,
        }
    }

    fn length_max(&self) -> Option<u64> {
        self.length_max
    }

    fn scheme(&self) -> &str {
        self.scheme
    }

    fn put_request_id(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{request_id}");
    }
}

/// The output about a request.
struct Explanation<'e> {
    config: &'e Config,
    request: Typed<'e>,
    out: String,
}

impl Explanation<'_> {
    /// The output and the exit status; the exit status is 1 if no route matches or LoadX refuses the request.
    fn explain(mut self) -> (String, ExitCode) {
        let (config, request) = (self.config, self.request);
        let target = match Target::read(request.target()) {
            Ok(target) => target,
            Err(fault) => return (format!("answer    400: {fault}\n"), ExitCode::FAILURE),
        };
        let listener = &config.listeners[request.listener];
        let host = path::host(request.authority());
        self.line("listener", &listener.name);
        self.line("request", &format!("{} {} for host {}", shown(request.method()), shown(&target.path), shown(&host)));
        let table = RouteTable::new(config.routes.clone());
        let Decided { found, verdict } = route::decide(&table, &request);
        if listener.endpoints && Endpoint::of(request.method(), request.target()).is_some() {
            self.out.push_str("answer    LoadX itself, for clients in \"endpoints_allow\"; for other clients:\n");
        }
        if let Some(Match { index, route }) = found {
            let number = format!("{} (number {} of {})", route.name, index + 1, config.routes.len());
            self.line("route", &number);
        }
        let refused = self.verdict(&verdict);
        if let Some(Match { route, .. }) = found {
            self.limits(route, &verdict);
        }
        let others = if matches!(verdict, Verdict::BadPath(_)) {
            Vec::new()
        } else {
            table.explain(&request.asked(&host, &target))
        };
        if !others.is_empty() {
            self.out.push_str("not taken\n");
        }
        for (index, mismatch) in others {
            let _ = writeln!(self.out, "  {:<16} {mismatch}", &*config.routes[index].name);
        }
        (self.out, if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    /// Writes the verdict. Returns whether LoadX refuses the request.
    fn verdict(&mut self, verdict: &Verdict<'_>) -> bool {
        match verdict {
            Verdict::BadPath(fault) => self.line("answer", &format!("400: {fault}")),
            Verdict::NotFound => self.line("answer", "404: no route matches"),
            Verdict::Denied => self.line("answer", "403: the access rules of the route deny this client"),
            Verdict::TooLarge => self.line("answer", "413: the request body is larger than the limit"),
            Verdict::Respond(respond) => {
                self.line("answer", &format!("{} with {} bytes of the config", respond.status, respond.body.len()));
                return false;
            }
            Verdict::Redirect { status, location } => {
                self.line("answer", &format!("{status}, a redirect"));
                self.line("location", &shown(location));
                return false;
            }
            Verdict::Forward(forwarded) => {
                self.clusters(forwarded.to);
                self.sent(forwarded);
                return false;
            }
        }
        true
    }

    fn clusters(&mut self, forward: &Forward) {
        let total: u32 = forward.split.iter().map(|share| share.weight).sum();
        for share in &forward.split {
            let cluster = &self.config.clusters[share.cluster];
            let backends = crate::words::count(cluster.backends.len(), "backend");
            let part = match forward.split.len() {
                1 => String::new(),
                _ => format!(", {:.1} % of the requests", 100.0 * f64::from(share.weight) / f64::from(total)),
            };
            self.line("cluster", &format!("{}: {backends}, {}{part}", cluster.name, cluster.algorithm.as_str()));
        }
        if let Some(mirror) = forward.mirror {
            self.line("mirror", &self.config.clusters[mirror].name);
        }
    }

    /// Writes the request that the backend gets.
    fn sent(&mut self, forwarded: &Forwarded<'_>) {
        let path = forwarded.path_and_query.as_deref().unwrap_or(self.request.target());
        self.line("sent as", &format!("{} {}", shown(self.request.method()), shown(path)));
        let host = forwarded.to.rewrite.host.as_deref().map_or_else(|| shown(self.request.authority()), Into::into);
        self.line("", &format!("Host: {host}"));
        for line in shown(&forwarded.added).lines() {
            self.line("", line);
        }
        for name in &forwarded.to.request_fields.remove {
            if self.request.head.values(name).next().is_some() {
                self.line("", &format!("without the {name} of the client"));
            }
        }
    }

    /// Writes the limits and the access rules of the route.
    fn limits(&mut self, route: &Route, verdict: &Verdict<'_>) {
        if matches!(verdict, Verdict::Forward(_)) {
            self.response(route);
            if let Some(timeout) = route.exchange_timeout.or(self.config.timeouts.exchange) {
                self.line("timeout", &format!("{} s for the whole exchange", timeout.as_secs_f64()));
            }
        }
        if let Some(max) = route.body_max.or(self.config.client_limits.body_max) {
            self.line("body", &format!("at most {max} bytes"));
        }
        let is_limited = !route.access.allow.is_empty() || !route.access.deny.is_empty();
        match self.request.client() {
            None if is_limited => {
                self.line("access", "depends on the client's address (--client); other clients get 403");
            }
            Some(client) if is_limited && !matches!(verdict, Verdict::Denied) => {
                self.line("access", &format!("permits {client}"));
            }
            _ => {}
        }
    }

    /// Writes the changes of the route to the response.
    fn response(&mut self, route: &Route) {
        let FieldEdits { remove, add } = &route.response_fields;
        let mut added = Vec::new();
        route::put_response_lines(route, &self.request, &mut added);
        let replaced = |name: &str| add.iter().any(|(added, _)| added.eq_ignore_ascii_case(name));
        let added = shown(&added);
        let removed = remove.iter().filter(|name| !replaced(name)).map(|name| format!("without {name}"));
        let lines = added.lines().map(str::to_owned).chain(removed);
        for (index, line) in lines.enumerate() {
            self.line(if index == 0 { "response" } else { "" }, &line);
        }
    }

    fn line(&mut self, label: &str, text: &str) {
        let _ = writeln!(self.out, "{label:<9} {text}");
    }
}

fn shown(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
