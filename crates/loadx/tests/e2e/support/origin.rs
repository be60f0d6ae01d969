//! An origin that runs a script, and records the exact bytes of every request.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

use super::PATIENCE;

/// A scripted origin. It answers health probes with 200 and does not record them.
pub(crate) struct Origin {
    address: SocketAddr,
    record: Arc<Record>,
}

#[derive(Default)]
struct Record {
    requests: Mutex<Vec<String>>,
    connections: AtomicUsize,
    ends: AtomicUsize,
}

/// One connection to the origin, for the script.
pub(crate) struct Connection {
    stream: TcpStream,
    unread: Vec<u8>,
    record: Arc<Record>,
    /// The number of the connection, from 0; connections of health probes do not count.
    pub(crate) number: usize,
}

impl Origin {
    /// Starts an origin that runs `script` on each connection, in a separate thread.
    pub(crate) fn start(script: impl Fn(&mut Connection) + Send + Sync + 'static) -> Self {
        Self::listen("127.0.0.1:0", script)
    }

    /// Starts an origin that listens on `address`.
    pub(crate) fn listen(address: &str, script: impl Fn(&mut Connection) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let record = Arc::<Record>::default();
        let script = Arc::new(script);
        let shared = Arc::clone(&record);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (record, script) = (Arc::clone(&shared), Arc::clone(&script));
                std::thread::spawn(move || serve(stream, record, &*script));
            }
        });
        Origin { address, record }
    }

    /// An origin that answers `ok`. Each request for `/slow` waits until the sender sends once.
    pub(crate) fn with_slow_path() -> (Self, Sender<()>) {
        let (answer, wait) = channel::<()>();
        let wait = Mutex::new(wait);
        let origin = Self::start(move |connection| {
            if connection.request().is_some_and(|request| request.starts_with("GET /slow ")) {
                wait.lock().unwrap().recv().unwrap();
            }
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        });
        (origin, answer)
    }

    /// An origin that answers every request with these bytes.
    pub(crate) fn answering(response: &'static str) -> Self {
        Self::start(move |connection| {
            while connection.request().is_some() {
                connection.send(response);
            }
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The recorded requests, byte for byte.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.record.requests.lock().unwrap().clone()
    }

    /// The number of calls of [`Connection::note_end`].
    pub(crate) fn ends(&self) -> usize {
        self.record.ends.load(Ordering::SeqCst)
    }

    /// The number of connections, without those of health probes.
    pub(crate) fn connections(&self) -> usize {
        self.record.connections.load(Ordering::SeqCst)
    }
}

fn serve(stream: TcpStream, record: Arc<Record>, script: &dyn Fn(&mut Connection)) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut connection = Connection { stream, unread: Vec::new(), record, number: 0 };
    if !connection.more() {
        return;
    }
    if connection.unread.starts_with(b"GET /health ") {
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        return;
    }
    connection.number = connection.record.connections.fetch_add(1, Ordering::SeqCst);
    script(&mut connection);
}

impl Connection {
    /// Reads and records the next request, with its body if the request has Content-Length or is chunked.
    pub(crate) fn request(&mut self) -> Option<String> {
        let head = self.head()?;
        let lower = head.to_ascii_lowercase();
        let body = if lower.contains("\r\ntransfer-encoding: chunked\r\n") {
            let mut body = self.until(b"0\r\n")?;
            body.extend(self.until(b"\r\n")?);
            while !body.ends_with(b"\n\r\n") {
                body.extend(self.until(b"\r\n")?);
            }
            body
        } else {
            let length = lower.split("\r\ncontent-length: ").nth(1).and_then(|rest| rest.split('\r').next());
            self.take(length.map_or(0, |length| length.parse().unwrap()))?
        };
        let request = head + &String::from_utf8_lossy(&body);
        self.record.requests.lock().unwrap().push(request.clone());
        Some(request)
    }

    /// Reads the next request head and records nothing.
    pub(crate) fn head(&mut self) -> Option<String> {
        Some(String::from_utf8_lossy(&self.until(b"\r\n\r\n")?).into_owned())
    }

    /// Reads the next line, with its line end.
    pub(crate) fn line(&mut self) -> Option<String> {
        Some(String::from_utf8_lossy(&self.until(b"\r\n")?).into_owned())
    }

    fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.unread.windows(end.len()).position(|window| window == end) {
                return self.take(at + end.len());
            }
            if !self.more() {
                return None;
            }
        }
    }

    /// Reads `count` bytes.
    pub(crate) fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.unread.len() < count {
            if !self.more() {
                return None;
            }
        }
        let rest = self.unread.split_off(count);
        Some(std::mem::replace(&mut self.unread, rest))
    }

    fn more(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(count) => {
                self.unread.extend_from_slice(&buffer[..count]);
                count > 0
            }
            Err(_) => false,
        }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // LoadX may have closed the connection; a test that checks this does so elsewhere.
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Reads the next bytes; `None` at the end of the connection.
    pub(crate) fn some(&mut self) -> Option<Vec<u8>> {
        let here = !self.unread.is_empty() || self.more();
        here.then(|| std::mem::take(&mut self.unread))
    }

    /// Sends bytes. Returns whether the connection accepted them.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Keeps the connection open and idle for longer than any test takes.
    pub(crate) fn hold(&self) {
        std::thread::sleep(PATIENCE);
    }

    /// Counts that the script has reached this point.
    pub(crate) fn note_end(&self) {
        self.record.ends.fetch_add(1, Ordering::SeqCst);
    }

    /// Resets the connection.
    pub(crate) fn reset(&self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }

    pub(crate) fn end(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}
