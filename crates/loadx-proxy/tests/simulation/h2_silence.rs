//! A backend of HTTP/2 whose connection is dead without a sign.

use std::future::poll_fn;
use std::time::Duration;

use loadx_proxy::{Listener as _, Network as _, start_local};
use serde_json::json;
use tokio::time::Instant;

use crate::conditions::Conditions;
use crate::h2_wire::{Frame, H2Wire, PREFACE};
use crate::network::SimNet;
use crate::scenario::{BACKEND, count_panics};
use crate::wire::{Framing, Wire, send};

/// Two requests, `pause` apart, to a backend whose first connection is dead after its first response. How long the second takes.
pub(crate) fn second_request_after(pause: Duration) -> Duration {
    count_panics();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build_local(tokio::runtime::LocalOptions::default())
        .unwrap();
    runtime.block_on(async {
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
