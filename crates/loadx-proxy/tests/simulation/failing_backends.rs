//! Three backends under a steady load, one or all of which fail in one way.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use loadx_proxy::{Listener as _, Network as _, Stream as _, start_local};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};

use crate::conditions::Conditions;
use crate::network::SimNet;
use crate::scenario::in_virtual_time;
use crate::wire::{End, Framing, Wire, send};

/// How a backend treats requests.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Answers after 5 ms.
    Good,
    /// Accepts connections and requests, and never answers.
    Silent,
    /// Resets the connection within the head of the response.
    BreaksHead,
    /// Resets the connection within the content of every third response.
    BreaksThirdBody,
    /// Answers 500 to so many of 10 requests.
    Fails(u32),
    /// Answers 500 after 100 ms.
    FailsSlowly,
    /// Answers after 100 ms.
    Slow,
    /// From the sixth second on: accepts connections and requests, and never answers.
    HangsLater,
    /// Answers one of 25 requests after 400 ms.
    Stalls,
    /// From the second second on: answers nothing, and no connection can be opened.
    Vanishes,
}

/// A run with one backend in another manner for the first 20 s, and the good manner afterwards.
pub(crate) struct Run {
    pub(crate) manners: [Manner; 3],
    pub(crate) method: &'static str,
    /// `resilience` of the config.
    pub(crate) resilience: Value,
}

/// What happened to one request.
#[derive(Clone, Debug)]
pub(crate) struct Fate {
    pub(crate) took: Duration,
    /// The status of a complete response; 0 for a broken one.
    pub(crate) status: u16,
}

/// What happened in a run.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) fates: Vec<Fate>,
    /// The requests that reached each backend: when, and the value of X-LoadX-Attempt.
    pub(crate) reached: [Vec<(Duration, Option<String>)>; 3],
}

impl Told {
    pub(crate) fn failed(&self) -> usize {
        self.fates.iter().filter(|fate| fate.status != 200).count()
    }

    /// The time that 99 % of the requests did not exceed.
    pub(crate) fn p99(&self) -> Duration {
        let mut times: Vec<Duration> = self.fates.iter().map(|fate| fate.took).collect();
        times.sort_unstable();
        times[times.len() * 99 / 100]
    }

    pub(crate) fn worst(&self) -> Duration {
        self.fates.iter().map(|fate| fate.took).max().unwrap()
    }

    /// The number of requests that reached a backend between two times.
    pub(crate) fn reached_between(&self, backend: usize, from: u64, until: u64) -> usize {
        let span = Duration::from_secs(from)..Duration::from_secs(until);
        self.reached[backend].iter().filter(|(at, _)| span.contains(at)).count()
    }

    pub(crate) fn reached_in_all(&self) -> usize {
        self.reached.iter().map(Vec::len).sum()
    }
}

/// The time of the load; its rate is 100 requests per second.
pub(crate) const LOAD: Duration = Duration::from_secs(40);

/// The requests of a run.
pub(crate) const REQUESTS: usize = 4_000;

const HANGS_AT: Duration = Duration::from_secs(5);

const VANISHES_AT: Duration = Duration::from_secs(1);

const MANNERS_LAST: Duration = Duration::from_secs(20);

fn address(backend: usize) -> SocketAddr {
    format!("10.0.1.{}:80", backend + 1).parse().unwrap()
}

impl Run {
    pub(crate) fn of(manners: [Manner; 3]) -> Self {
        Run { manners, method: "GET", resilience: json!("standard") }
    }

    pub(crate) fn told(self) -> Told {
        in_virtual_time(async {
            let net = SimNet::new(1, Conditions::good());
            let told = Rc::new(RefCell::new(Told::default()));
            let began = Instant::now();
            for (backend, manner) in self.manners.into_iter().enumerate() {
                let served = Backend { backend, manner, began, told: Rc::clone(&told) };
                tokio::task::spawn_local(served.listen(net.clone()));
                if manner == Manner::Vanishes {
                    tokio::task::spawn_local(vanish(net.clone(), address(backend), began));
                }
            }
            let backends: Vec<String> = (0..3).map(|backend| address(backend).to_string()).collect();
            let config = json!({
                "proxy_host": "10.0.0.1", "workers": 1, "enable_logging": false, "resilience": self.resilience, "connection_timeout": 1,
                "clusters": { "web": { "backends": backends, "health": { "probe": "tcp" } } },
            });
            let config = loadx_core::config::parse(&config.to_string()).unwrap();
            let proxy = start_local(&config, &net, 1, &<_>::default()).await.unwrap();
            let mut clients = Vec::new();
            for number in 0..REQUESTS {
                let at = LOAD * number as u32 / REQUESTS as u32;
                sleep_until(began + at).await;
                let from = SocketAddr::new([10, 0, 2, 1].into(), 1_024 + number as u16);
                clients.push(tokio::task::spawn_local(client(net.clone(), from, self.method)));
            }
            for client in clients {
                let fate = client.await.unwrap();
                told.borrow_mut().fates.push(fate);
            }
            proxy.stop().await;
            told.take()
        })
    }
}

async fn vanish(net: SimNet, address: SocketAddr, began: Instant) {
    sleep_until(began + VANISHES_AT).await;
    net.set_vanished(address, true);
    sleep_until(began + MANNERS_LAST).await;
    net.set_vanished(address, false);
}

async fn client(net: SimNet, from: SocketAddr, method: &str) -> Fate {
    let began = Instant::now();
    let stream = net.connect_from(from, "10.0.0.1:8080".parse().unwrap()).await.unwrap();
    let mut wire = Wire::new(stream);
    let request = format!("{method} / HTTP/1.1\r\nHost: sim\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    send(&wire.stream, request.as_bytes()).await.unwrap();
    let status = match wire.head().await {
        Ok(head) => {
            let body = wire.body(head.framing().unwrap_or(Framing::Length(0))).await;
            if body.cut.is_none() { head.status() } else { 0 }
        }
        Err(_) => 0,
    };
    Fate { took: began.elapsed(), status }
}

#[derive(Clone)]
struct Backend {
    backend: usize,
    manner: Manner,
    began: Instant,
    told: Rc<RefCell<Told>>,
}

impl Backend {
    async fn listen(self, net: SimNet) {
        let socket = net.listen(address(self.backend), 1).unwrap().remove(0);
        let listener = net.adopt(socket).unwrap();
        loop {
            let Ok((stream, _)) = poll_fn(|cx| listener.poll_accept(cx)).await else { continue };
            tokio::task::spawn_local(self.clone().serve(Wire::new(stream)));
        }
    }

    async fn serve(self, mut wire: Wire) -> Result<(), End> {
        loop {
            let head = wire.head().await?;
            let at = self.began.elapsed();
            let number = {
                let reached = &mut self.told.borrow_mut().reached[self.backend];
                reached.push((at, head.field("x-loadx-attempt").map(str::to_owned)));
                reached.len() as u32
            };
            let manner = match self.manner {
                Manner::Vanishes if at < VANISHES_AT => Manner::Good,
                Manner::HangsLater if at < HANGS_AT => Manner::Good,
                _ if at >= MANNERS_LAST => Manner::Good,
                manner => manner,
            };
            let fails =
                matches!(manner, Manner::Fails(of_ten) if number % 10 < of_ten) || manner == Manner::FailsSlowly;
            match manner {
                Manner::Silent | Manner::Vanishes | Manner::HangsLater => {
                    sleep(Duration::from_secs(600)).await;
                    return Ok(());
                }
                Manner::Stalls if number.is_multiple_of(25) => sleep(Duration::from_millis(400)).await,
                Manner::Slow | Manner::FailsSlowly => sleep(Duration::from_millis(100)).await,
                _ => sleep(Duration::from_millis(5)).await,
            }
            let head = if fails { "HTTP/1.1 500 Broken\r\n" } else { "HTTP/1.1 200 OK\r\n" };
            let breaks_body = manner == Manner::BreaksThirdBody && number.is_multiple_of(3);
            let text = match manner {
                Manner::BreaksHead => head.to_owned(),
                _ if breaks_body => format!("{head}Content-Length: 10\r\n\r\nhello"),
                _ => format!("{head}Content-Length: 10\r\n\r\nhello, you"),
            };
            send(&wire.stream, text.as_bytes()).await.map_err(|()| End::Broken)?;
            if manner == Manner::BreaksHead || breaks_body {
                sleep(Duration::from_millis(1)).await;
                wire.stream.break_off();
                return Ok(());
            }
        }
    }
}
