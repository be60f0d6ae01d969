//! The measured proxies, with the settings that their documentation recommends for backends that fail. All have the same limits
//! of time: one second to connect, three seconds for a response.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A measured proxy.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Contender {
    LoadX,
    Nginx,
    Haproxy,
    Envoy,
}

/// What a proxy is set up for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Setup {
    /// Backends that fail.
    Faults,
    /// More requests than the backends can serve: ten at a time at each backend, and a queue of 50 ms.
    Overload,
    /// The same, with a limit that finds itself.
    OverloadAuto,
}

impl Contender {
    pub(super) const ALL: [Contender; 4] = [Contender::LoadX, Contender::Nginx, Contender::Haproxy, Contender::Envoy];

    pub(super) fn name(self) -> &'static str {
        match self {
            Contender::LoadX => "LoadX",
            Contender::Nginx => "nginx",
            Contender::Haproxy => "HAProxy",
            Contender::Envoy => "Envoy",
        }
    }

    /// Whether the program is there.
    pub(super) fn is_installed(self) -> bool {
        match self {
            Contender::LoadX => true,
            Contender::Nginx => program("nginx").is_some(),
            Contender::Haproxy => program("haproxy").is_some(),
            Contender::Envoy => program("envoy").is_some(),
        }
    }

    /// Writes the config to `folder`, and returns the command that starts the proxy. The backends are hosts with ports.
    pub(super) fn command(
        self,
        listen: SocketAddr,
        backends: &[String],
        folder: &Path,
        setup: Setup,
    ) -> io::Result<Command> {
        let write = |name: &str, text: String| fs::write(folder.join(name), text).map(|()| folder.join(name));
        Ok(match self {
            Contender::LoadX => {
                let mut command = Command::new(std::env::current_exe()?.with_file_name("loadx"));
                command.args(["run", "--config"]).arg(write("loadx.json", loadx(listen, backends, setup))?);
                command.arg("--admin").arg(folder.join("admin.sock")).arg("--state").arg(folder.join("state.json"));
                command
            }
            Contender::Nginx => {
                let mut command = Command::new("nginx");
                command.arg("-p").arg(folder).arg("-c").arg(write("nginx.conf", nginx(listen, backends, setup))?);
                command
            }
            Contender::Haproxy => {
                let mut command = Command::new("haproxy");
                command.arg("-db").arg("-f").arg(write("haproxy.cfg", haproxy(listen, backends, setup))?);
                command
            }
            Contender::Envoy => {
                let mut command = Command::new(program("envoy").unwrap_or_else(|| "envoy".into()));
                command.args(["--concurrency", "1", "--log-level", "off", "--use-dynamic-base-id", "--config-path"]);
                command.arg(write("envoy.json", envoy(listen, backends, setup))?);
                command
            }
        })
    }
}

fn program(name: &str) -> Option<PathBuf> {
    let folders = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    folders.split(':').map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())
}

/// Whether a backend is named by a host that is no address.
fn is_name(backend: &str) -> bool {
    backend.parse::<SocketAddr>().is_err()
}

/// The defaults, and limits for overload.
fn loadx(listen: SocketAddr, backends: &[String], setup: Setup) -> String {
    let limits = match setup {
        Setup::Faults => "",
        Setup::Overload => ",\"resilience\":{\"limits\":{\"requests_per_backend\":10}}",
        Setup::OverloadAuto => ",\"resilience\":{\"limits\":{\"requests_per_backend\":\"auto\"}}",
    };
    let backends: Vec<String> = backends.iter().map(|at| format!("\"{at}\"")).collect();
    format!(
        "{{\"listeners\":[{{\"address\":\"{listen}\"}}],\"workers\":1,\"enable_logging\":false,\"connection_timeout\":1,
         \"request_timeout\":3,\"max_connections\":10000,\"clusters\":{{\"web\":{{\"backends\":[{}]}}}}{limits}}}",
        backends.join(",")
    )
}

/// What the documentation of ngx_http_proxy_module and ngx_http_upstream_module offers: the next server for every failure, and
/// the default of `fail_timeout`.
fn nginx(listen: SocketAddr, backends: &[String], setup: Setup) -> String {
    let limit = if setup == Setup::Faults { "" } else { " max_conns=10" };
    let servers: String =
        backends.iter().map(|at| format!("server {at} max_fails=3 fail_timeout=10s{limit};")).collect();
    format!(
        "daemon off; worker_processes 1; pid nginx.pid; error_log error.log; events {{ worker_connections 10000; }}
http {{
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  keepalive_requests 1000000;
  upstream backends {{ {servers} keepalive 64; }}
  server {{
    listen {listen} backlog=4096;
    location / {{
      proxy_pass http://backends;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_connect_timeout 1s; proxy_read_timeout 3s; proxy_send_timeout 3s;
      proxy_next_upstream error timeout invalid_header http_500 http_502 http_503 http_504;
      proxy_next_upstream_tries 3;
    }}
  }}
}}
"
    )
}

/// Active checks each second, checks of the traffic, and retries on the other servers, without those of POST.
fn haproxy(listen: SocketAddr, backends: &[String], setup: Setup) -> String {
    let limit = if setup == Setup::Faults { "" } else { " maxconn 10" };
    let queue = if setup == Setup::Faults { "" } else { "  timeout queue 50ms\n" };
    let server = |(index, at): (usize, &String)| {
        let names = if is_name(at) { " resolvers names init-addr libc,none" } else { "" };
        format!("  server s{index} {at} check{limit}{names}\n")
    };
    let servers: String = backends.iter().enumerate().map(server).collect();
    format!(
        "global
  nbthread 1
  maxconn 9800
resolvers names
  parse-resolv-conf
  hold valid 1s
defaults
  mode http
  option http-keep-alive
  http-reuse safe
  timeout connect 1s
  timeout client 75s
  timeout server 3s
  timeout check 1s
frontend f
  bind {listen} backlog 4096
  default_backend b
backend b
  balance roundrobin
  option httpchk GET /health
  option redispatch 1
  retries 3
  retry-on all-retryable-errors
  http-request disable-l7-retry if METH_POST
{queue}  default-server inter 1s fall 2 rise 2 observe layer7 error-limit 10 on-error mark-down
{servers}"
    )
}

/// Active checks each second, outlier detection with its defaults but for a share that lets one of three leave and a time like
/// that of the others, and retries of requests other than POST on other hosts.
fn envoy(listen: SocketAddr, backends: &[String], setup: Setup) -> String {
    let socket = |at: &str| {
        let (host, port) = at.rsplit_once(':').unwrap_or((at, "80"));
        format!("{{\"socket_address\":{{\"address\":\"{host}\",\"port_value\":{port}}}}}")
    };
    let kind = match backends.iter().any(|at| is_name(at)) {
        true => "\"STRICT_DNS\",\"dns_refresh_rate\":\"1s\"",
        false => "\"STATIC\"",
    };
    // Thirty requests wait for 50 ms if 600 are served in a second.
    let limits = match setup {
        Setup::Faults => "",
        Setup::Overload | Setup::OverloadAuto => {
            "\"circuit_breakers\":{\"thresholds\":[{\"max_connections\":30,\"max_requests\":60,\"max_pending_requests\":30}]},"
        }
    };
    let endpoint = |at: &String| format!("{{\"endpoint\":{{\"address\":{}}}}}", socket(at));
    let endpoints = backends.iter().map(endpoint).collect::<Vec<_>>().join(",");
    format!(
        "{{\"static_resources\":{{\"listeners\":[{{\"address\":{},\"filter_chains\":[{{\"filters\":[{{
\"name\":\"http\",\"typed_config\":{{
\"@type\":\"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\",
\"stat_prefix\":\"http\",\"route_config\":{{\"virtual_hosts\":[{{\"name\":\"all\",\"domains\":[\"*\"],\"routes\":[{{
\"match\":{{\"prefix\":\"/\"}},\"route\":{{\"cluster\":\"web\",\"retry_policy\":{{
\"retry_on\":\"5xx,reset,connect-failure,refused-stream\",\"num_retries\":2,\"per_try_timeout\":\"3s\",
\"retriable_request_headers\":[{{\"name\":\":method\",\"string_match\":{{\"exact\":\"GET\"}}}}],
\"retry_host_predicate\":[{{\"name\":\"previous\",\"typed_config\":{{
\"@type\":\"type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate\"}}}}],
\"host_selection_retry_max_attempts\":3}}}}}}]}}]}},
\"http_filters\":[{{\"name\":\"router\",\"typed_config\":{{
\"@type\":\"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router\"}}}}]}}}}]}}]}}],
\"clusters\":[{{\"name\":\"web\",\"type\":{kind},\"connect_timeout\":\"1s\",{limits}
\"outlier_detection\":{{\"interval\":\"1s\",\"base_ejection_time\":\"10s\",\"max_ejection_percent\":50}},
\"health_checks\":[{{\"timeout\":\"1s\",\"interval\":\"1s\",\"unhealthy_threshold\":2,\"healthy_threshold\":2,
\"http_health_check\":{{\"path\":\"/health\"}}}}],
\"load_assignment\":{{\"cluster_name\":\"web\",\"endpoints\":[{{\"lb_endpoints\":[{endpoints}]}}]}}}}]}}}}",
        socket(&listen.to_string()),
    )
}
