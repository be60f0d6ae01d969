//! A server of names (DNS) that can stop to answer.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The name of the second backend.
pub(super) const NAME: &str = "b.faults.test";

/// The address of the name.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// For how long an answer holds, in seconds.
const TIME_TO_LIVE: u32 = 1;

const SERVER: (Ipv4Addr, u16) = (Ipv4Addr::new(127, 0, 0, 53), 53);

/// A running server.
pub(super) struct Names {
    is_gone: Arc<AtomicBool>,
    has_ended: Arc<AtomicBool>,
    serving: Option<JoinHandle<()>>,
    /// The file that names the server, in place of /etc/resolv.conf.
    resolv: PathBuf,
}

impl Names {
    pub(super) fn start(folder: &Path) -> io::Result<Names> {
        let socket = UdpSocket::bind(SERVER)?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let resolv = folder.join("resolv.conf");
        fs::write(&resolv, format!("nameserver {}\noptions timeout:1 attempts:1\n", SERVER.0))?;
        let mut names = Names { is_gone: Arc::default(), has_ended: Arc::default(), serving: None, resolv };
        let (is_gone, has_ended) = (Arc::clone(&names.is_gone), Arc::clone(&names.has_ended));
        names.serving = Some(std::thread::spawn(move || {
            let mut question = [0; 512];
            while !has_ended.load(Ordering::SeqCst) {
                let Ok((length, from)) = socket.recv_from(&mut question) else { continue };
                if !is_gone.load(Ordering::SeqCst)
                    && let Some(answer) = answer(&question[..length])
                {
                    let _ = socket.send_to(&answer, from);
                }
            }
        }));
        Ok(names)
    }

    pub(super) fn set_gone(&self, is_gone: bool) {
        self.is_gone.store(is_gone, Ordering::SeqCst);
    }

    /// The command, such that the program asks this server.
    pub(super) fn within(&self, command: &Command) -> Command {
        let mut within = Command::new("unshare");
        let mount = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
        within.args(["--mount", "sh", "-c", mount]).arg(&self.resolv);
        within.arg(command.get_program()).args(command.get_args());
        within
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.has_ended.store(true, Ordering::SeqCst);
        // The next measurement needs the address.
        let _ = self.serving.take().map(JoinHandle::join);
    }
}

/// The answer to a question (RFC 1035, section 4.1): the address for an A question about the name, and nothing for others.
fn answer(question: &[u8]) -> Option<Vec<u8>> {
    let id = question.get(..2)?;
    let mut end = 12;
    let mut name = String::new();
    while let length @ 1.. = usize::from(*question.get(end)?) {
        name += std::str::from_utf8(question.get(end + 1..=end + length)?).ok()?;
        name.push('.');
        end += length + 1;
    }
    let asked = question.get(12..end + 5)?;
    let is_known = name.trim_end_matches('.').eq_ignore_ascii_case(NAME);
    let is_address = question.get(end + 1..end + 3)? == [0, 1];
    let has_answer = is_known && is_address;
    // A response, with recursion; no error, or no such name.
    let flags = if is_known { [0x81, 0x80] } else { [0x81, 0x83] };
    let mut answer = [id, &flags, &[0, 1, 0, u8::from(has_answer), 0, 0, 0, 0], asked].concat();
    if has_answer {
        // The name of the question, an address of the Internet.
        answer.extend([0xc0, 12, 0, 1, 0, 1]);
        answer.extend(TIME_TO_LIVE.to_be_bytes());
        answer.extend([0, 4]);
        answer.extend(ADDRESS.octets());
    }
    Some(answer)
}
