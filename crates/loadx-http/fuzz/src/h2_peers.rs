//! HTTP/2 beside the library h2 as the other side: what one side sends, the other receives unchanged, in both roles.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use loadx_http::h2::hpack::put_field;
use loadx_http::h2::{Answer, Client, Connection, Event, Purpose, Role, Scratch, Server, Told};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

/// One exchange: the server echoes the content.
#[derive(Clone, Debug)]
struct Plan {
    length: usize,
    /// The size of the pieces in which the content is sent.
    piece: usize,
    has_trailers: bool,
    /// Whether the client cancels the exchange once it has sent its request.
    is_cancelled: bool,
}

/// The exchanges of a connection, and its conditions.
struct Setting {
    plans: Vec<Plan>,
    /// The window of the library for each stream.
    window: u32,
    /// The bytes that fit between the two sides.
    between: usize,
}

impl Setting {
    fn of(data: &[u8]) -> Option<Self> {
        let (first, rest) = data.split_first_chunk::<3>()?;
        let plan = |bytes: &[u8]| Plan {
            length: usize::from(bytes[0]) * if bytes[1] & 1 == 0 { 1 } else { 37 },
            piece: 1 + usize::from(bytes[1]) * 37,
            has_trailers: bytes[2] & 1 == 1,
            is_cancelled: bytes[2] & 14 == 14,
        };
        let plans: Vec<Plan> = rest.chunks_exact(3).take(24).map(plan).collect();
        // A window of a few bytes for much content would take most of the time of a search.
        let window = 40 + u32::from(first[0]) * 257;
        Some(Setting { plans, window, between: 64 + usize::from(first[1]) * 64 })
    }

    fn content(&self, number: usize) -> Vec<u8> {
        let length = self.plans.get(number).map_or(0, |plan| plan.length);
        (0..length).map(|at| (at * 7 + number) as u8).collect()
    }
}

fn run(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("there is room for a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, work);
}

/// A side of a connection that is LoadX's, and the exchanges on it.
struct Own<R> {
    connection: Connection<R>,
    stream: DuplexStream,
    out: Vec<u8>,
    received: Vec<u8>,
    scratch: Scratch,
    exchanges: BTreeMap<u32, Exchange>,
}

#[derive(Default)]
struct Exchange {
    number: usize,
    content: Vec<u8>,
    is_received: bool,
    has_trailers: bool,
    /// What is left to send; `None` when all is sent, or nothing is to be sent yet.
    to_send: Option<Vec<u8>>,
    sends_trailers: bool,
    is_reset: bool,
}

impl<R: Role> Own<R> {
    /// Puts what windows allow.
    fn send_content(&mut self) {
        for (stream, exchange) in &mut self.exchanges {
            let Some(rest) = &mut exchange.to_send else { continue };
            let Some(most) = self.connection.sendable(*stream) else {
                exchange.to_send = None;
                continue;
            };
            let count = most.min(rest.len());
            let is_all = count == rest.len();
            if count > 0 || (is_all && !exchange.sends_trailers) {
                let ends = is_all && !exchange.sends_trailers;
                self.connection.put_content(*stream, &rest[..count], ends, &mut self.out);
            }
            rest.drain(..count);
            if is_all {
                if exchange.sends_trailers {
                    self.connection.put_section(*stream, true, &mut self.out, |out| put_field(b"x-sum", b"1", out));
                }
                exchange.to_send = None;
            }
        }
    }

    /// Writes and reads once. Returns false at the end of the connection.
    async fn step(
        &mut self,
        mut told: impl FnMut(&mut Connection<R>, R::Told<'_>, &mut BTreeMap<u32, Exchange>, &mut Vec<u8>),
    ) -> bool {
        let mut buffer = [0; 4096];
        let (mut reader, mut writer) = tokio::io::split(&mut self.stream);
        let count = if self.out.is_empty() {
            reader.read(&mut buffer).await
        } else {
            tokio::select! {
                biased;
                count = reader.read(&mut buffer) => count,
                written = writer.write(&self.out) => {
                    let Ok(written) = written else { return false };
                    self.out.drain(..written);
                    return true;
                }
            }
        };
        let Ok(count @ 1..) = count else { return false };
        self.received.extend_from_slice(&buffer[..count]);
        let mut start = 0;
        loop {
            let bytes = &self.received[start..];
            let received = self.connection.receive(bytes, &mut self.scratch, Duration::ZERO, &mut self.out);
            let (length, event) = received.unwrap_or_else(|fault| panic!("the library breaks a rule: {fault}"));
            match event {
                Event::Told(event) => told(&mut self.connection, event, &mut self.exchanges, &mut self.out),
                Event::Content { stream, content, ends } => {
                    if let Some(exchange) = self.exchanges.get_mut(&stream) {
                        exchange.content.extend_from_slice(content);
                        exchange.is_received |= ends;
                    }
                    self.connection.pass(stream, content.len(), &mut self.out);
                }
                Event::Trailers { stream, lines } => {
                    if let Some(exchange) = self.exchanges.get_mut(&stream) {
                        assert_eq!(lines, b"x-sum: 1\r\n");
                        (exchange.is_received, exchange.has_trailers) = (true, true);
                    }
                }
                Event::Reset { stream, fault, .. } => {
                    assert_eq!(fault, None);
                    if let Some(exchange) = self.exchanges.get_mut(&stream) {
                        exchange.is_reset = true;
                    }
                }
                Event::Goaway { .. } | Event::Nothing => {}
            }
            if length == 0 {
                break;
            }
            start += length;
        }
        self.received.drain(..start);
        true
    }
}

/// LoadX is the server, and the library the client.
pub fn as_server(data: &[u8]) {
    let Some(setting) = Setting::of(data) else { return };
    run(async move {
        let (near, far) = tokio::io::duplex(setting.between);
        let mut out = Vec::new();
        let connection = Connection::new(&mut out);
        let scratch = Scratch::default();
        let mut own: Own<Server> =
            Own { connection, stream: far, out, received: Vec::new(), scratch, exchanges: BTreeMap::new() };
        let client = library_client(&setting, near);
        let server = async {
            loop {
                let finished: Vec<u32> = own
                    .exchanges
                    .iter()
                    .filter(|(_, exchange)| {
                        exchange.is_reset || (exchange.is_received && exchange.number > 0 && exchange.to_send.is_none())
                    })
                    .map(|(stream, _)| *stream)
                    .collect();
                for stream in finished {
                    own.exchanges.remove(&stream);
                    own.connection.finished(stream, 0, &mut own.out);
                }
                for (stream, exchange) in &mut own.exchanges {
                    if exchange.is_received && exchange.number == 0 {
                        // Counts that the response has begun.
                        exchange.number = 1;
                        let length = exchange.content.len().to_string();
                        own.connection.put_section(*stream, false, &mut own.out, |out| {
                            put_field(b":status", b"200", out);
                            put_field(b"x-length", length.as_bytes(), out);
                        });
                        exchange.sends_trailers = exchange.has_trailers;
                        exchange.to_send = Some(std::mem::take(&mut exchange.content));
                    }
                }
                own.send_content();
                let told = |_: &mut Connection<Server>,
                            told: Told<'_>,
                            exchanges: &mut BTreeMap<u32, Exchange>,
                            _: &mut Vec<u8>| {
                    match told {
                        Told::Request { stream, ends, .. } => {
                            let exchange = Exchange { is_received: ends, ..Exchange::default() };
                            exchanges.insert(stream, exchange);
                        }
                        Told::Priority { .. } | Told::Refused => {}
                        other => panic!("{other:?}"),
                    }
                };
                if !own.step(told).await {
                    return;
                }
            }
        };
        tokio::join!(client, server);
    });
}

async fn library_client(setting: &Setting, near: DuplexStream) {
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(setting.window).enable_push(false);
    let (mut send, connection) = builder.handshake::<_, Bytes>(near).await.expect("LoadX begins HTTP/2");
    let driver = tokio::task::spawn_local(async move { connection.await.expect("LoadX breaks no rule") });
    let mut waiting = Vec::new();
    for (number, plan) in setting.plans.iter().enumerate() {
        send = send.ready().await.expect("LoadX takes streams");
        let request = Request::post(format!("http://x.test/{number}")).body(()).expect("a valid request");
        let (response, mut body) = send.send_request(request, false).expect("a stream opens");
        let content = setting.content(number);
        for piece in content.chunks(plan.piece) {
            body.send_data(Bytes::copy_from_slice(piece), false).expect("the stream is open");
        }
        match plan.has_trailers {
            true => body.send_trailers(HeaderMap::from_iter([(
                "x-sum".parse().expect("a name"),
                "1".parse().expect("a value"),
            )])),
            false => body.send_data(Bytes::new(), true),
        }
        .expect("the stream is open");
        if plan.is_cancelled {
            body.send_reset(h2::Reason::CANCEL);
            continue;
        }
        let has_trailers = plan.has_trailers;
        waiting.push(tokio::task::spawn_local(async move {
            let response = response.await.expect("a response");
            assert_eq!(response.headers()["x-length"], content.len().to_string().as_str());
            let mut body = response.into_body();
            let mut received = Vec::new();
            while let Some(piece) = body.data().await {
                let piece = piece.expect("content");
                received.extend_from_slice(&piece);
                body.flow_control().release_capacity(piece.len()).expect("the window grows");
            }
            assert!(received == content, "the content was changed");
            assert_eq!(body.trailers().await.expect("trailers").is_some(), has_trailers);
        }));
    }
    for task in waiting {
        task.await.expect("no exchange fails");
    }
    drop(send);
    driver.await.expect("the driver ends");
}

/// LoadX is the client, and the library the server.
pub fn as_client(data: &[u8]) {
    let Some(setting) = Setting::of(data) else { return };
    run(async move {
        let (near, far) = tokio::io::duplex(setting.between);
        let window = setting.window;
        let server = tokio::task::spawn_local(library_server(window, near));
        let mut out = Vec::new();
        let connection = Connection::to_server(&mut out);
        let scratch = Scratch::default();
        let mut own: Own<Client> =
            Own { connection, stream: far, out, received: Vec::new(), scratch, exchanges: BTreeMap::new() };
        let (mut next, mut done) = (0, 0);
        while done < setting.plans.len() {
            while next < setting.plans.len() && own.connection.is_established() {
                let plan = &setting.plans[next];
                let Some(stream) = own.connection.open(Purpose::Other) else { break };
                let path = format!("/{next}");
                own.connection.put_section(stream, false, &mut own.out, |out| {
                    put_field(b":method", b"POST", out);
                    put_field(b":scheme", b"http", out);
                    put_field(b":authority", b"x.test", out);
                    put_field(b":path", path.as_bytes(), out);
                });
                let exchange = Exchange {
                    number: next,
                    to_send: Some(setting.content(next)),
                    sends_trailers: plan.has_trailers,
                    ..Exchange::default()
                };
                own.exchanges.insert(stream, exchange);
                next += 1;
            }
            own.send_content();
            let ended: Vec<u32> = own
                .exchanges
                .iter()
                .filter(|(_, exchange)| {
                    exchange.to_send.is_none() && (exchange.is_received || setting.plans[exchange.number].is_cancelled)
                })
                .map(|(stream, _)| *stream)
                .collect();
            for stream in ended {
                let Some(exchange) = own.exchanges.remove(&stream) else { continue };
                own.connection.finished(stream, 0, &mut own.out);
                done += 1;
                if exchange.is_received {
                    assert!(exchange.content == setting.content(exchange.number), "the content was changed");
                    assert_eq!(exchange.has_trailers, setting.plans[exchange.number].has_trailers);
                }
            }
            if done == setting.plans.len() {
                break;
            }
            let told = |_: &mut Connection<Client>,
                        answer: Answer<'_>,
                        exchanges: &mut BTreeMap<u32, Exchange>,
                        _: &mut Vec<u8>| {
                assert_eq!(answer.status, 200);
                if let Some(exchange) = exchanges.get_mut(&answer.stream) {
                    exchange.is_received |= answer.ends;
                }
            };
            assert!(own.step(told).await, "the library ended the connection");
        }
        own.connection.end(&mut own.out);
        // The library may be gone already.
        let _ = own.stream.write_all(&own.out).await;
        drop(own);
        server.await.expect("the server ends");
    });
}

async fn library_server(window: u32, near: DuplexStream) {
    let mut builder = h2::server::Builder::new();
    builder.initial_window_size(window);
    let mut connection = match builder.handshake::<_, Bytes>(near).await {
        Ok(connection) => connection,
        // LoadX has cancelled every exchange, and has gone before the library answered.
        Err(error) if error.is_io() => return,
        Err(error) => panic!("LoadX does not begin HTTP/2: {error}"),
    };
    while let Some(accepted) = connection.accept().await {
        // The end of LoadX's side may come as an error.
        let Ok((request, mut respond)) = accepted else { return };
        tokio::task::spawn_local(async move {
            let mut body = request.into_body();
            let mut received = Vec::new();
            while let Some(piece) = body.data().await {
                // LoadX has cancelled the exchange.
                let Ok(piece) = piece else { return };
                received.extend_from_slice(&piece);
                let _ = body.flow_control().release_capacity(piece.len());
            }
            let Ok(trailers) = body.trailers().await else { return };
            let Ok(mut send) = respond.send_response(Response::new(()), false) else { return };
            if send.send_data(received.into(), trailers.is_none()).is_ok()
                && let Some(trailers) = trailers
            {
                let _ = send.send_trailers(trailers);
            }
        });
    }
}
