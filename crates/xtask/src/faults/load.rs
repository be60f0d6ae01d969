//! The load: GETs of the load generator on kept connections, and POSTs with a number of their own, each on a new connection.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use loadx_load::{Plan, Request, Target, drive};

use crate::Trouble;

/// GETs per second.
pub(super) const GETS: f64 = 200.0;

/// The time between two POSTs.
const POST_EVERY: Duration = Duration::from_millis(50);

/// The most GETs at the same time.
const CONNECTIONS_MAX: usize = 4_096;

/// The longest time of a request.
const PATIENCE: Duration = Duration::from_secs(15);

/// What became of one GET.
#[derive(Copy, Clone, Debug)]
pub(super) struct Fate {
    /// When the request was due, from the begin of the load.
    pub(super) at: Duration,
    pub(super) took: Duration,
    /// The status of a complete response; 0 without one.
    pub(super) status: u16,
}

impl Fate {
    pub(super) fn is_good(&self) -> bool {
        self.status == 200
    }
}

/// A load under way.
pub(super) struct Load {
    gets: JoinHandle<Result<Vec<Fate>, String>>,
    posts: JoinHandle<Vec<bool>>,
}

/// What became of all requests.
pub(super) struct Fates {
    pub(super) gets: Vec<Fate>,
    /// The POSTs without a good response.
    pub(super) posts_failed: usize,
}

impl Load {
    /// Starts a load that ends after `lasts`.
    pub(super) fn start(to: SocketAddr, lasts: Duration, began: Instant) -> Load {
        let gets = std::thread::spawn(move || gets(to, GETS, lasts).map_err(|trouble| trouble.to_string()));
        let posts = std::thread::spawn(move || posts(to, lasts, began));
        Load { gets, posts }
    }

    pub(super) fn finish(self) -> Result<Fates, Trouble> {
        let gets = self.gets.join().map_err(|_| "the load panicked")??;
        let posts = self.posts.join().map_err(|_| "the load panicked")?;
        Ok(Fates { gets, posts_failed: posts.iter().filter(|is_good| !**is_good).count() })
    }
}

/// Sends GETs at a rate, in requests per second, without waiting for the responses to earlier ones.
pub(super) fn gets(to: SocketAddr, rate: f64, lasts: Duration) -> Result<Vec<Fate>, Trouble> {
    let target = Target::parse(&format!("http://{to}/"))?;
    let request = Request::get(&target);
    let plan = Plan {
        duration: Some(lasts),
        rate: Some(rate),
        timeout: PATIENCE,
        ..Plan::endless(target.origin, request, CONNECTIONS_MAX)
    };
    let fates = Arc::new(Mutex::new(Vec::new()));
    let (told, began) = (Arc::clone(&fates), Instant::now());
    let observe = move |outcome: &loadx_load::Outcome<'_>| {
        let at = began.elapsed().saturating_sub(outcome.took);
        let status = outcome.result.as_ref().map_or(0, |answer| answer.status);
        told.lock().unwrap_or_else(PoisonError::into_inner).push(Fate { at, took: outcome.took, status });
    };
    drive(&plan, observe, std::future::pending())?;
    let fates = std::mem::take(&mut *fates.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(fates)
}

fn posts(to: SocketAddr, lasts: Duration, began: Instant) -> Vec<bool> {
    let mut under_way = Vec::new();
    let mut number = 0;
    while began.elapsed() < lasts {
        under_way.push(std::thread::spawn(move || post(to, number).unwrap_or(false)));
        number += 1;
        std::thread::sleep((POST_EVERY * number).saturating_sub(began.elapsed()));
    }
    under_way.into_iter().map(|post| post.join().unwrap_or(false)).collect()
}

/// Whether the response is complete and good.
fn post(to: SocketAddr, number: u32) -> io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let head = format!(
        "POST /once HTTP/1.1\r\nHost: faults\r\nX-Id: {number}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response)?;
    let is_whole =
        response.windows(4).position(|end| end == b"\r\n\r\n").is_some_and(|end| response.len() == end + 1_004);
    Ok(response.starts_with(b"HTTP/1.1 200") && is_whole)
}
