//! The machine of a measurement: what it is, and a network of its own.

use std::path::Path;
use std::process::Command;

use crate::Trouble;

/// The machine and the programs of the measurement.
pub(crate) fn machine() -> String {
    let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let first_line = |program: &str, argument: &str| {
        let output = Command::new(program).arg(argument).output();
        let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().next().unwrap_or("?").to_owned()
    };
    let processor = file("/proc/cpuinfo");
    let model = processor.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    format!(
        "{}, {} processors, Linux {}, TCP {}; {}; {}\n",
        model.trim_start_matches(['\t', ' ', ':']),
        std::thread::available_parallelism().map_or(1, usize::from),
        file("/proc/sys/kernel/osrelease"),
        file("/proc/sys/net/ipv4/tcp_congestion_control"),
        first_line("nginx", "-v").trim_start_matches("nginx version: "),
        first_line("haproxy", "-v").split(" - ").next().unwrap_or_default(),
    )
}

/// Runs this command again in a network namespace with its own loopback interface.
pub(crate) fn enter_own_network() -> Result<(), Trouble> {
    let build = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
        .args(["build", "--release", "--package", "loadx"])
        .status()?;
    if !build.success() {
        return Err("LoadX does not build".into());
    }
    missing_packages()?;
    let mut again = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        again.args(["--user", "--map-root-user"]);
    }
    // Allows files and ports for thousands of connections; sets a congestion control that does not pace its packets.
    let set_up = "cc=/proc/sys/net/ipv4/tcp_congestion_control
        ulimit -n \"$(ulimit -Hn)\" && ip link set lo up || exit 2
        echo 1024 65535 >/proc/sys/net/ipv4/ip_local_port_range
        { echo cubic >$cc || echo reno >$cc; } 2>/dev/null
        exec \"$@\"";
    again.args(["--net", "sh", "-c", set_up, "sh"]).arg(std::env::current_exe()?);
    let status = again.args(std::env::args_os().skip(1)).arg("--inside").status()?;
    if status.success() { Ok(()) } else { Err("the measurement failed".into()) }
}

/// Names the missing packages. Installs nothing.
fn missing_packages() -> Result<(), Trouble> {
    let wanted = [
        ("nginx", "nginx"),
        ("haproxy", "haproxy"),
        ("strace", "strace"),
        ("wrk", "wrk"),
        ("h2load", "nghttp2-client"),
        ("taskset", "util-linux"),
        ("unshare", "util-linux"),
        ("ip", "iproute2"),
    ];
    let folders = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let is_there = |program: &str| folders.split(':').any(|folder| Path::new(folder).join(program).exists());
    let missing: Vec<_> =
        wanted.iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(format!("install these Debian packages first: {}", missing.join(" ")).into())
    }
}
