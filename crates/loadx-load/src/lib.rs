//! The load tester: keeps a number of requests under way, and tells what came of all of them.
//!
//! It is a closed loop: each of the connections sends its next request when the answer to the last is
//! there. Nothing is hidden: a request that got no whole answer is an error of a named kind, and
//! connections that had to be opened again are counted.

mod client;
mod compare;
mod report;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, LocalOptions};
use tokio::task::spawn_local;

use client::Client;
pub use compare::Comparison;
use report::Tally;
pub use report::{Latency, Report};

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where to send requests.
    pub target: Target,
    /// How many, at least 1.
    pub requests: u64,
    /// How many at the same time, at least 1.
    pub concurrency: usize,
    /// How long a request may take, connecting included.
    pub timeout: Duration,
}

/// An `http://` URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Path and query.
    pub path: String,
}

impl Target {
    /// Reads `http://host:port/path` or the same without the scheme.
    ///
    /// # Errors
    /// What is wrong with it, and what it should look like.
    pub fn parse(url: &str) -> Result<Target, String> {
        let bad = |what: &str| format!("\"{url}\" {what}; write something like http://localhost:8080/");
        let rest = match url.split_once("://") {
            Some(("http", rest)) => rest,
            Some((scheme, _)) => return Err(bad(&format!("is {scheme}, and only http can be tested"))),
            None => url,
        };
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') && !port.ends_with(']') => {
                (host, port.parse().map_err(|_| bad("has no valid port"))?)
            }
            _ => (authority, 80),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || path.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err(bad("is not a URL"));
        }
        Ok(Target { host: host.to_owned(), port, path: path.to_owned() })
    }

    /// The value of Host.
    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority(), self.path)
    }
}

/// Carries out `plan`; `progress` is told how many requests are done, now and then.
///
/// # Errors
/// When the system lacks what it takes to begin.
pub fn run(plan: &Plan, progress: impl Fn(u64) + 'static) -> std::io::Result<Report> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    Ok(runtime.block_on(drive(plan, progress)))
}

async fn drive(plan: &Plan, progress: impl Fn(u64) + 'static) -> Report {
    let tally = Rc::new(RefCell::new(Tally::new()));
    let left = Rc::new(Cell::new(plan.requests));
    let progress = Rc::new(progress);
    let began = Instant::now();
    let connections = (plan.concurrency as u64).min(plan.requests);
    let tasks: Vec<_> = (0..connections)
        .map(|_| {
            let (tally, left, progress) = (Rc::clone(&tally), Rc::clone(&left), Rc::clone(&progress));
            let mut client = Client::new(plan.target.clone(), plan.timeout);
            spawn_local(async move {
                while left.get() > 0 {
                    left.set(left.get() - 1);
                    let outcome = client.exchange().await;
                    let mut tally = tally.borrow_mut();
                    tally.record(outcome);
                    if tally.done() % 64 == 0 {
                        progress(tally.done());
                    }
                }
                tally.borrow_mut().reconnects += client.reconnects();
            })
        })
        .collect();
    for task in tasks {
        if let Err(error) = task.await {
            // A panic is a bug here, and must not look like a quiet success.
            tally.borrow_mut().record_error(format!("bench failed: {error}"));
        }
    }
    progress(tally.borrow().done());
    tally.borrow().report(plan, began.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_or_explained() {
        let target = |host: &str, port, path: &str| Target { host: host.into(), port, path: path.into() };
        assert_eq!(Target::parse("http://localhost:8080"), Ok(target("localhost", 8080, "/")));
        assert_eq!(Target::parse("http://a/b?c"), Ok(target("a", 80, "/b?c")));
        assert_eq!(Target::parse("[::1]:81/x"), Ok(target("::1", 81, "/x")));
        assert_eq!(Target::parse("[::1]"), Ok(target("::1", 80, "/")));
        assert!(Target::parse("https://a").unwrap_err().contains("only http"));
        assert!(Target::parse("http://a:x/").unwrap_err().contains("port"));
        assert!(Target::parse("").is_err());
        assert!(Target::parse("http://a/b c").is_err());
        assert_eq!(target("::1", 81, "/x").to_string(), "http://[::1]:81/x");
    }
}
