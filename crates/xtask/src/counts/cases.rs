//! The counted operations.

use std::hint::black_box;
use std::time::Duration;

use loadx_core::{Algorithm, BackendSpec, Cluster, Ended, HealthPolicy, Ids, KeyPrefixes, Outcome, Query, Time};
use loadx_http::{
    Answering, BodyDecoder, Changes, FieldSlots, Forwarding, Framing, LAST_CHUNK, Parsed, RequestHead, Version,
    parse_request, parse_response,
};

use super::exchange::{Between, on_stage};
use super::routes;

/// An operation, with its name in the table.
#[derive(Copy, Clone, Debug)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// Runs the operation this many times.
    pub(super) run: fn(u32),
    /// The number of runs in the shorter of the two counts.
    pub(super) times: u32,
}

/// Every case, in the order of the table.
pub(super) const ALL: [Case; 21] = [
    Case { name: "parse-request", about: "a request head of 4 fields", run: |n| parse(REQUEST, n), times: 1_000 },
    Case { name: "parse-browser", about: "a request head of 20 fields", run: |n| parse(BROWSER, n), times: 1_000 },
    Case {
        name: "encode-request",
        about: "a request head of 4 fields for a backend",
        run: |n| encode(REQUEST, n),
        times: 1_000,
    },
    Case {
        name: "encode-browser",
        about: "a request head of 20 fields for a backend",
        run: |n| encode(BROWSER, n),
        times: 1_000,
    },
    Case { name: "response", about: "a response head of 5 fields, read and written", run: response, times: 1_000 },
    Case { name: "chunked-64k", about: "64 KiB in chunks of 4 KiB, decoded", run: chunked, times: 100 },
    Case {
        name: "pick-round-robin",
        about: "of 10,000 backends",
        run: |n| pick(Algorithm::RoundRobin, n),
        times: 1_000,
    },
    Case {
        name: "pick-least-connections",
        about: "of 10,000 backends, all of them busy",
        run: |n| pick(Algorithm::LeastConnections, n),
        times: 1_000,
    },
    Case { name: "pick-ip-hash", about: "of 10,000 backends", run: |n| pick(IP_HASH, n), times: 1_000 },
    Case {
        name: "ip-hash-table",
        about: "a cluster of 10,000 backends with its first view",
        run: ip_hash_table,
        times: 5,
    },
    Case { name: "route-few", about: "of 1 host with 10 prefixes", run: |n| routes::find(1, n), times: 10_000 },
    Case {
        name: "route-many",
        about: "of 10,000 hosts with 10 prefixes each",
        run: |n| routes::find(10_000, n),
        times: 100_000,
    },
    Case {
        name: "scene",
        about: "client and backend in memory, without a proxy",
        run: |n| exchange(Between::Nothing, n),
        times: 1_000,
    },
    Case {
        name: "exchange",
        about: "the same through the proxy: a whole exchange",
        run: |n| exchange(Between::Proxy, n),
        times: 1_000,
    },
    Case {
        name: "connection",
        about: "a whole exchange on a connection of its own",
        run: |n| {
            on_stage(Between::Proxy, async |mut scene| {
                for _ in 0..n {
                    scene.visit().await;
                }
            });
        },
        times: 1_000,
    },
    Case {
        name: "exchange-logged",
        about: "the same with the access log as JSON",
        run: |n| exchange(Between::LoggingProxy, n),
        times: 1_000,
    },
    Case {
        name: "exchange-tls",
        about: "a whole exchange over TLS, with the client's TLS: four records",
        run: |n| exchange(Between::TlsProxy, n),
        // The keys and the handshake of a run take some millions of instructions more or less, by their random numbers.
        times: 8_000,
    },
    Case {
        name: "exchange-h2",
        about: "a whole exchange over HTTP/2, with the client's HTTP/2",
        run: |n| exchange(Between::H2Proxy(1), n),
        times: 1_000,
    },
    Case {
        name: "exchange-h2-50",
        about: "50 of them at the same time on one connection",
        run: |n| exchange(Between::H2Proxy(50), n),
        times: 100,
    },
    Case {
        name: "exchange-h2-both",
        about: "a whole exchange over HTTP/2 on both sides, with the HTTP/2 of client and backend",
        run: |n| exchange(Between::H2Both(1), n),
        times: 1_000,
    },
    Case {
        name: "exchange-h2-both-50",
        about: "50 of them at the same time on one connection",
        run: |n| exchange(Between::H2Both(50), n),
        times: 100,
    },
];

const REQUEST: &[u8] =
    b"GET /orders?page=3 HTTP/1.1\r\nHost: app.example.com\r\nUser-Agent: counts/1.0\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n\r\n";

const BROWSER: &[u8] = b"GET /orders?page=3&sort=date HTTP/1.1\r\n\
    Host: app.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8\r\n\
    Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Connection: keep-alive\r\n\
    Referer: https://app.example.com/orders?page=2&sort=date\r\n\
    Cookie: session=4f9c2b7e1d8a4c3fb6e5a0d9c8b7a6f5; theme=dark; consent=a1b2c3; _ga=GA1.2.1234567890.1700000000\r\n\
    Sec-Ch-Ua: \"Chromium\";v=\"126\", \"Not/A)Brand\";v=\"8\"\r\n\
    Sec-Ch-Ua-Mobile: ?0\r\n\
    Sec-Ch-Ua-Platform: \"Linux\"\r\n\
    Sec-Fetch-Dest: document\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    Sec-Fetch-User: ?1\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    Cache-Control: max-age=0\r\n\
    If-None-Match: W/\"5f3a-18c2b1d7e40\"\r\n\
    Priority: u=0, i\r\n\
    Dnt: 1\r\n\r\n";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: app\r\nContent-Type: text/html; charset=utf-8\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nCache-Control: no-cache\r\nContent-Length: 13\r\n\r\n";

fn parse(head: &[u8], times: u32) {
    let mut request = RequestHead::default();
    for _ in 0..times {
        let parsed = parse_request(black_box(head), &mut request);
        assert!(matches!(parsed, Ok(Parsed::Complete(_, _))), "the head is sound");
        let _ = black_box(parsed);
    }
}

fn encode(head: &[u8], times: u32) {
    let Ok(Parsed::Complete(request, _)) = RequestHead::read(head) else { panic!("the head is sound") };
    let mut out = Vec::with_capacity(4_096);
    for _ in 0..times {
        out.clear();
        let forwarding = Forwarding {
            peer: [192, 0, 2, 77].into(),
            trusted: false,
            scheme: "http",
            via: None,
            forwarded: false,
            client_certificate: None,
            request_id_line: None,
            trace: None,
            begins_trace: false,
            attempt: None,
        };
        black_box(&request).encode(&forwarding, &Changes::default(), &mut out);
        black_box(&out);
    }
}

fn response(times: u32) {
    let mut out = Vec::with_capacity(4_096);
    let mut slots = FieldSlots::new();
    for _ in 0..times {
        out.clear();
        let parsed = parse_response(black_box(RESPONSE), false, &mut slots);
        let Ok(Parsed::Complete(response, _)) = parsed else { panic!("the head is sound") };
        let framing = Some(Framing::Length(13));
        let answering = Answering {
            version: Version::Http11,
            framing,
            persistent: true,
            via: None,
            date: None,
            request_id_line: None,
            removed: &[],
            replaced: None,
            added: b"",
        };
        response.encode(&answering, &mut out);
        black_box(&out);
    }
}

fn chunked(times: u32) {
    let mut body = Vec::new();
    for _ in 0..16 {
        body.extend_from_slice(b"1000\r\n");
        body.resize(body.len() + 4_096, b'x');
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(LAST_CHUNK);
    for _ in 0..times {
        let mut input = body.clone();
        let mut decoder = BodyDecoder::new(Framing::Chunked);
        let decoded = decoder.decode(black_box(&mut input)).map(|decoded| decoded.content);
        assert_eq!(decoded, Ok(65_536));
    }
}

const IP_HASH: Algorithm = Algorithm::IpHash(KeyPrefixes { ipv4: 32, ipv6: 64 });

/// A cluster of 10,000 backends.
fn large_cluster(algorithm: Algorithm) -> Cluster {
    let specs = (0..10_000u32).map(|number| {
        let [_, a, b, c] = number.to_be_bytes();
        BackendSpec::new(&format!("10.{a}.{b}.{c}"), 80)
    });
    let mut cluster = Cluster::new(algorithm, HealthPolicy::default());
    cluster.update(Time::ZERO, specs.collect(), &mut Ids::default());
    cluster
}

fn ip_hash_table(times: u32) {
    for _ in 0..times {
        black_box(large_cluster(black_box(IP_HASH)).view());
    }
}

fn pick(algorithm: Algorithm, times: u32) {
    let mut cluster = large_cluster(algorithm);
    let view = cluster.view();
    let query = Query { now: Time::ZERO, entropy: 1, key: view.key([192, 0, 2, 77].into()), tried: &[] };
    let took = Duration::from_millis(1);
    // No backend is idle, so that `least_connections` must compare backends.
    let held: Vec<_> = (0..20_000).map(|_| view.pick(&query)).collect();
    for _ in 0..times {
        let pick = view.pick(black_box(&query)).picked().expect("all are in rotation");
        black_box(pick.backend().id());
        pick.finish(Ended { outcome: Outcome::Answered, status: 200, first_byte: took, took });
    }
    drop(held);
}

fn exchange(between: Between, times: u32) {
    on_stage(between, async |mut scene| {
        for _ in 0..times {
            scene.exchange().await;
        }
    });
}
