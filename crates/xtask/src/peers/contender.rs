//! The measured programs: LoadX, other proxies with the configs that their documentation advises, and bare relays.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use super::floor::Means;

/// A measured program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Contender {
    /// LoadX: its name in the table, and its binary.
    LoadX(String, PathBuf),
    Nginx,
    /// HAProxy, with the size of its buffers in KiB.
    Haproxy(u32),
    /// HAProxy with all options for splice.
    HaproxySplice,
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
    /// Whether the contender will reload its config.
    pub(super) reloads: bool,
    /// A folder for the config and the log.
    pub(super) folder: &'s Path,
}

impl Contender {
    pub(super) fn name(&self) -> String {
        match self {
            Contender::LoadX(name, _) => name.clone(),
            Contender::Nginx => "nginx".to_owned(),
            Contender::Haproxy(16) => "HAProxy".to_owned(),
            Contender::Haproxy(kib) => format!("HAProxy, {kib} KiB buffers"),
            Contender::HaproxySplice => "HAProxy, splice".to_owned(),
            Contender::Floor(Means::Copy) => "bare copying relay".to_owned(),
            Contender::Floor(Means::Splice) => "bare splicing relay".to_owned(),
        }
    }

    /// The signal that makes the contender read its config again.
    pub(super) fn reload_signal(&self) -> Signal {
        match self {
            Contender::Haproxy(_) | Contender::HaproxySplice => Signal::USR2,
            Contender::LoadX(..) | Contender::Nginx | Contender::Floor(_) => Signal::HUP,
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
                command
            }
            Contender::Nginx => {
                let mut command = Command::new("nginx");
                command.arg("-p").arg(folder).arg("-c").arg(write("nginx.conf", nginx_config(setup))?);
                command
            }
            Contender::Haproxy(kib) => {
                let mut command = Command::new("haproxy");
                // Only a master process can reload.
                command.args(setup.reloads.then_some("-W"));
                command.arg("-db").arg("-f").arg(write("haproxy.cfg", haproxy_config(setup, *kib, false))?);
                command
            }
            Contender::HaproxySplice => {
                let mut command = Command::new("haproxy");
                command.arg("-db").arg("-f").arg(write("haproxy.cfg", haproxy_config(setup, 64, true))?);
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

/// The defaults, except the limit of connections.
fn loadx_config(setup: &Setup<'_>) -> String {
    let backend = |address: &SocketAddr| format!("{{\"host\":\"{}\",\"port\":{}}}", address.ip(), address.port());
    let backends = setup.backends.iter().map(backend).collect::<Vec<_>>().join(",\n");
    let log = match setup.log {
        true => format!("\"log_format\":\"json\",\"log_file\":\"{}\"", setup.folder.join("access.log").display()),
        false => "\"enable_logging\":false".to_owned(),
    };
    format!(
        "{{\"proxy_host\":\"{}\",\"proxy_port\":{},\"workers\":{},\"max_connections\":100000,{log},\n\"backend_servers\":[{backends}]}}",
        setup.listen.ip(),
        setup.listen.port(),
        setup.workers,
    )
}

/// The config that nginx's documentation advises for a proxy that keeps connections to its backends; the log is
/// buffered.
fn nginx_config(setup: &Setup<'_>) -> String {
    let mut servers = String::new();
    for backend in setup.backends {
        let _ = writeln!(servers, "    server {backend};");
    }
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
  server {{
    listen {listen} backlog=4096;
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
        listen = setup.listen,
    )
}

fn haproxy_config(setup: &Setup<'_>, buffer_kib: u32, splice: bool) -> String {
    let mut servers = String::new();
    for (index, backend) in setup.backends.iter().enumerate() {
        let check = if setup.log { " check inter 30s" } else { "" };
        let _ = writeln!(servers, "  server s{index} {backend}{check}");
    }
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
frontend f
  bind {listen} backlog 4096
  http-request set-header X-Forwarded-Proto http
  default_backend b
backend b
  balance roundrobin
  option httpchk GET /health
{servers}",
        workers = setup.workers,
        buffer = buffer_kib * 1_024,
        listen = setup.listen,
    )
}
