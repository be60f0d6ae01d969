//! Connections of HTTP/2 that are dead without a sign.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use loadx_proxy::{Listener as _, Network as _, start_local};
use serde_json::json;
use tokio::time::Instant;

use crate::conditions::Conditions;
use crate::h2_wire::{Frame, H2Wire, PREFACE};
use crate::network::SimNet;
use crate::scenario::{BACKEND, in_virtual_time};
use crate::wire::{Framing, Wire, send};

/// Two requests, `pause` apart, to a backend whose first connection is dead after its first response. How long the second takes.
pub(crate) fn second_request_after(pause: Duration) -> Duration {
    in_virtual_time(async {
        let net = SimNet::new(1, Conditions::good());
        tokio::task::spawn_local(backend(net.clone()));
        let config = json!({
            "proxy_host": "10.0.0.1", "workers": 1, "enable_logging": false,
            "clusters": { "web": { "backends": [BACKEND], "protocol": "h2", "health": { "probe": "off" } } },
        });
        let config = loadx_core::config::parse(&config.to_string()).unwrap();
        let proxy = start_local(&config, &net, 1, &<_>::default()).await.unwrap();
        let stream = net.connect_from("10.0.2.1:1".parse().unwrap(), "10.0.0.1:8080".parse().unwrap()).await.unwrap();
        let mut client = Wire::new(stream);
        let mut took = Duration::ZERO;
        for _ in 0..2 {
            let began = Instant::now();
            send(&client.stream, b"GET / HTTP/1.1\r\nHost: sim\r\n\r\n").await.unwrap();
            let head = client.head().await.unwrap();
            assert_eq!(head.status(), 200);
            client.body(head.framing().unwrap_or(Framing::Length(0))).await;
            took = began.elapsed();
            tokio::time::sleep(pause).await;
        }
        drop(client);
        proxy.stop().await;
        took
    })
}

/// How long LoadX holds the exchange of a client of HTTP/2 that is gone without a sign, and how often it asks a client that is
/// there, before an origin that does not answer for three minutes.
pub(crate) fn exchange_of_a_silent_client(is_there: bool) -> (Duration, usize) {
    in_virtual_time(async {
        let net = SimNet::new(1, Conditions::good());
        let ended = Rc::new(Cell::new(None));
        tokio::task::spawn_local(slow_backend(net.clone(), Rc::clone(&ended)));
        let config = json!({
            "proxy_host": "10.0.0.1", "workers": 1, "enable_logging": false, "request_timeout": 600,
            "clusters": { "web": { "backends": [BACKEND], "health": { "probe": "off" } } },
        });
        let config = loadx_core::config::parse(&config.to_string()).unwrap();
        let proxy = start_local(&config, &net, 1, &<_>::default()).await.unwrap();
        let stream = net.connect_from("10.0.2.1:1".parse().unwrap(), "10.0.0.1:8080".parse().unwrap()).await.unwrap();
        let mut client = H2Wire::new(stream);
        client.out.extend_from_slice(PREFACE);
        client.put_settings(&[]);
        let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "sim"), (":path", "/")];
        client.put_section(1, true, &fields);
        let (began, mut pings) = (Instant::now(), 0);
        while ended.get().is_none() && began.elapsed() < Duration::from_secs(300) {
            let soon = Instant::now() + Duration::from_secs(1);
            let reads = is_there || began.elapsed() < Duration::from_secs(1);
            if !client.step(reads, Some(soon)).await {
                break;
            }
            while let Some(frame) = client.frame() {
                pings += usize::from(matches!(frame, Frame::Ping));
            }
        }
        proxy.stop().await;
        (ended.get().expect("the exchange has ended"), pings)
    })
}

/// An origin that answers after three minutes. Notes how long its connection lasted.
async fn slow_backend(net: SimNet, ended: Rc<Cell<Option<Duration>>>) {
    let socket = net.listen(BACKEND.parse().unwrap(), 1).unwrap().remove(0);
    let listener = net.adopt(socket).unwrap();
    let Ok((stream, _)) = poll_fn(|cx| listener.poll_accept(cx)).await else { return };
    let mut wire = Wire::new(stream);
    wire.head().await.unwrap();
    let began = Instant::now();
    let minutes = Duration::from_secs(180);
    if tokio::time::timeout(minutes, wire.more()).await.is_err() {
        send(&wire.stream, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await.unwrap();
    }
    ended.set(Some(began.elapsed()));
}

async fn backend(net: SimNet) {
    let socket = net.listen(BACKEND.parse().unwrap(), 1).unwrap().remove(0);
    let listener = net.adopt(socket).unwrap();
    let mut is_first = true;
    loop {
        let Ok((stream, _)) = poll_fn(|cx| listener.poll_accept(cx)).await else { continue };
        let dies = std::mem::replace(&mut is_first, false);
        tokio::task::spawn_local(async move {
            let mut wire = H2Wire::new(stream);
            wire.put_settings(&[]);
            while wire.take_bytes(PREFACE.len()).is_none() {
                wire.step(true, None).await;
            }
            while wire.step(true, None).await {
                while let Some(frame) = wire.frame() {
                    if let Frame::Section { stream, .. } = frame {
                        wire.put_section(stream, true, &[(":status", "200")]);
                        while !wire.out.is_empty() {
                            wire.step(false, None).await;
                        }
                        if dies {
                            // Neither reads nor closes.
                            std::future::pending::<()>().await;
                        }
                    }
                }
            }
        });
    }
}
