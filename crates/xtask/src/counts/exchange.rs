//! A whole exchange, from the request of a client to its response, through the real proxy on a network in memory.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;

use loadx_core::config::Config;
use loadx_proxy::{Listener as _, Network as _, start_local};
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::spawn_local;

use super::h2::{self, ClientH2};
use super::memory::{Memory, MemoryStream};
use super::tls::ClientTls;

const PROXY: &str = "10.0.0.1:8080";
const BACKENDS: [&str; 3] = ["10.0.1.1:80", "10.0.1.2:80", "10.0.1.3:80"];

const REQUEST: &[u8] =
    b"GET /orders?page=3 HTTP/1.1\r\nHost: app.example.com\r\nUser-Agent: counts/1.0\r\nAccept: */*\r\n\r\n";
const LAST_REQUEST: &[u8] =
    b"GET /orders?page=3 HTTP/1.1\r\nHost: app.example.com\r\nUser-Agent: counts/1.0\r\nAccept: */*\r\nConnection: close\r\n\r\n";
const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 13\r\n\r\nHello, World!";

/// A client, a proxy and three backends, all in this thread.
pub(super) struct Scene {
    net: Memory,
    to: SocketAddr,
    client: MemoryStream,
    tls: Option<ClientTls>,
    h2: Option<ClientH2>,
    buffer: Vec<u8>,
}

/// The proxy between the client and the backends.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Between {
    /// No proxy: the cost of the scene itself.
    Nothing,
    Proxy,
    /// The proxy, with its access log as JSON.
    LoggingProxy,
    /// The proxy, with TLS between client and proxy. The cost of the client's TLS is included.
    TlsProxy,
    /// The proxy, with HTTP/2 between client and proxy, and so many requests at the same time. The cost of the client's HTTP/2 is
    /// included.
    H2Proxy(u32),
    /// The same with HTTP/2 between proxy and backends too. The cost of the backends' HTTP/2 is included.
    H2Both(u32),
}

impl Between {
    /// How many requests a client of HTTP/2 sends at the same time; `None` for HTTP/1.1.
    fn streams(self) -> Option<u32> {
        match self {
            Between::H2Proxy(streams) | Between::H2Both(streams) => Some(streams),
            _ => None,
        }
    }

    fn has_h2_backends(self) -> bool {
        matches!(self, Between::H2Both(_))
    }
}

impl Scene {
    /// Sends a request and reads its response.
    pub(super) async fn exchange(&mut self) {
        if let Some(h2) = &mut self.h2 {
            return h2.exchange(&self.client, &mut self.buffer).await;
        }
        let count = match &mut self.tls {
            None => {
                self.client.send(REQUEST);
                self.client.receive(&mut self.buffer).await
            }
            Some(tls) => tls.exchange(&self.client, REQUEST, &mut self.buffer).await,
        };
        assert!(self.buffer[..count].ends_with(b"Hello, World!"), "the answer is whole");
    }
}

/// Runs `play` on a warm scene: connections are open, buffers have been used.
pub(super) fn on_stage<T>(between: Between, play: impl AsyncFnOnce(Scene) -> T) -> T {
    let mut builder = Builder::new_current_thread();
    // In a test the clock is paused, so that no timer fires.
    #[cfg(test)]
    builder.start_paused(true);
    let runtime =
        builder.enable_time().build_local(LocalOptions::default()).expect("the system has room for a runtime");
    runtime.block_on(async {
        let net = Memory::default();
        for backend in BACKENDS {
            let socket = net.listen(address(backend), 1).and_then(|mut sockets| net.adopt(sockets.remove(0)));
            spawn_local(serve(socket.expect("there is no other listener"), between.has_h2_backends()));
        }
        let mut scene = match between {
            Between::Nothing => Scene::new(&net, BACKENDS[0]).await,
            _ => {
                let (keyring, tls) = match between {
                    Between::TlsProxy => {
                        ClientTls::new().map(|(keyring, tls)| (keyring, Some(tls))).unwrap_or_default()
                    }
                    _ => (Arc::default(), None),
                };
                let proxy = start_local(&config(between), &net, 1, &keyring).await.expect("nothing is in the way");
                // The proxy runs as long as the runtime.
                std::mem::forget(proxy);
                let h2 = between.streams().map(ClientH2::new);
                Scene { tls, h2, ..Scene::new(&net, PROXY).await }
            }
        };
        for _ in 0..100 {
            scene.exchange().await;
        }
        play(scene).await
    })
}

impl Scene {
    /// Sends a request on a new connection, and closes the connection.
    pub(super) async fn visit(&mut self) {
        self.client = self.net.connect(self.to).await.expect("connecting never fails");
        self.client.send(LAST_REQUEST);
        let count = self.client.receive(&mut self.buffer).await;
        assert!(self.buffer[..count].ends_with(b"Hello, World!"), "the answer is whole");
        assert_eq!(self.client.receive(&mut self.buffer).await, 0, "the connection ends");
    }

    async fn new(net: &Memory, to: &str) -> Scene {
        let to = address(to);
        let client = net.connect(to).await.expect("connecting never fails");
        Scene { net: net.clone(), to, client, tls: None, h2: None, buffer: vec![0; 64 * 1024] }
    }
}

async fn serve(listener: <Memory as loadx_proxy::Network>::Listener, is_h2: bool) {
    loop {
        let Ok((stream, _)) = poll_fn(|cx| listener.poll_accept(cx)).await else { return };
        spawn_local(async move {
            let mut buffer = vec![0; 64 * 1024];
            if is_h2 {
                return h2::serve(&stream, &mut buffer).await;
            }
            while stream.receive(&mut buffer).await > 0 {
                stream.send(RESPONSE);
            }
        });
    }
}

fn config(between: Between) -> Config {
    let log = match between {
        Between::LoggingProxy => "\"log_format\":\"json\",\"log_file\":\"/dev/null\"",
        _ => "\"enable_logging\":false",
    };
    let backends: Vec<_> = BACKENDS
        .iter()
        .map(|backend| {
            let at = address(backend);
            format!("{{\"host\":\"{}\",\"port\":{}}}", at.ip(), at.port())
        })
        .collect();
    let proxy = address(PROXY);
    let tls = if between == Between::TlsProxy { "\"tls\":{\"auto\":[\"app.example.com\"]}," } else { "" };
    let protocol = if between.has_h2_backends() { "h2" } else { "http/1.1" };
    let text = format!(
        "{{{tls}\"backend_protocol\":\"{protocol}\",\"proxy_host\":\"{}\",\"proxy_port\":{},\"workers\":1,\"max_requests_per_connection\":1000000000,{log},\"backend_servers\":[{}]}}",
        proxy.ip(),
        proxy.port(),
        backends.join(",")
    );
    loadx_core::config::parse(&text).expect("the config is sound")
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("it is an address")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The allocations of `times` exchanges on a warm connection, including those of the scene.
    fn allocations(between: Between, times: usize) -> u64 {
        let counted = allocation_counter::measure(|| {
            on_stage(between, async |mut scene| {
                for _ in 0..times {
                    scene.exchange().await;
                }
            });
        });
        counted.count_total
    }

    #[test]
    fn a_warm_exchange_allocates_nothing() {
        // Excludes what a thread allocates once.
        for between in
            [Between::Proxy, Between::H2Proxy(1), Between::H2Proxy(50), Between::H2Both(1), Between::H2Both(50)]
        {
            allocations(between, 1);
            assert_eq!(allocations(between, 1_100) - allocations(between, 100), 0, "{between:?}");
        }
    }
}
