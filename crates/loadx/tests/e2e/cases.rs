//! Requests and responses in every form that RFC 9110 and RFC 9112 mention, and the expected result of each.
//!
//! `http.rs` tests LoadX with this list, docs/http.md describes it, and `tests/peers` runs it with other proxies.

/// A request, byte for byte.
pub(crate) struct RequestCase {
    pub(crate) name: &'static str,
    pub(crate) request: String,
    pub(crate) then: Then,
}

/// The expected result of a request.
pub(crate) enum Then {
    /// The client gets this status and a closed connection; no backend gets a complete request.
    Refused(u16),
    /// A backend gets exactly these bytes, without the X-Forwarded fields.
    Passed(String),
}

/// A response to a GET of HTTP/1.1, byte for byte, after which the backend closes.
pub(crate) struct ResponseCase {
    pub(crate) name: &'static str,
    pub(crate) response: String,
    pub(crate) then: Answer,
}

/// The expected response at the client.
pub(crate) enum Answer {
    /// Exactly these bytes.
    Passed(String),
    /// A 502 from LoadX.
    BadGateway,
    /// The start of the response, and then a reset connection.
    Broken,
}

const LINE: &str = "GET / HTTP/1.1\r\n";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\n";

fn refused(name: &'static str, status: u16, request: impl Into<String>) -> RequestCase {
    RequestCase { name, request: request.into(), then: Then::Refused(status) }
}

fn passed(name: &'static str, request: impl Into<String>, becomes: impl Into<String>) -> RequestCase {
    RequestCase { name, request: request.into(), then: Then::Passed(becomes.into()) }
}

/// A request that LoadX forwards unchanged.
fn same(name: &'static str, request: impl Into<String>) -> RequestCase {
    let request = request.into();
    passed(name, request.clone(), request)
}

/// All request cases.
pub(crate) fn requests() -> Vec<RequestCase> {
    let mut cases = framing();
    cases.extend(grammar());
    cases.extend(faithful_requests());
    cases
}

fn framing() -> Vec<RequestCase> {
    let body = |fields: &str, body: &str| format!("{POST}{fields}\r\n{body}");
    let chunks = |chunks: &str| body("Transfer-Encoding: chunked\r\n", chunks);
    vec![
        refused("length and chunked", 400, body("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")),
        refused("chunked and length", 400, body("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n")),
        refused("different lengths", 400, body("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!")),
        refused("a length twice", 400, body("Content-Length: 5\r\nContent-Length: 5\r\n", "hello")),
        refused("a list of lengths", 400, body("Content-Length: 5, 5\r\n", "hello")),
        refused("a length with a plus", 400, body("Content-Length: +5\r\n", "hello")),
        refused("a negative length", 400, body("Content-Length: -5\r\n", "hello")),
        refused("a length with a space within", 400, body("Content-Length: 1 0\r\n", "hello")),
        refused("a hexadecimal length", 400, body("Content-Length: 0x5\r\n", "hello")),
        refused("a length with a leading zero", 400, body("Content-Length: 05\r\n", "hello")),
        refused("a length beyond 64 bits", 400, body("Content-Length: 18446744073709551621\r\n", "hello")),
        refused("an empty length", 400, body("Content-Length: \r\n", "hello")),
        refused("an unknown coding", 501, body("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n")),
        refused("a coding that looks like chunked", 501, body("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n")),
        refused("the coding identity", 501, body("Transfer-Encoding: identity\r\nContent-Length: 5\r\n", "hello")),
        refused("chunked that is not last", 400, body("Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n")),
        refused("chunked twice", 400, body("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n")),
        refused(
            "chunked in two fields",
            400,
            body("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ),
        refused("an empty coding", 400, body("Transfer-Encoding: \r\n", "0\r\n\r\n")),
        refused("an empty member beside chunked", 400, body("Transfer-Encoding: chunked,\r\n", "0\r\n\r\n")),
        refused("a quoted coding", 501, body("Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n")),
        refused("a vertical tab before chunked", 400, body("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n")),
        refused("a space before the colon of a coding", 400, body("Transfer-Encoding : chunked\r\n", "0\r\n\r\n")),
        refused(
            "chunked from HTTP/1.0",
            400,
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        passed(
            "chunked in mixed case with white space",
            body("tRANSFER-eNCODING: \t CHUNKED \t\r\n", "5\r\nhello\r\n0\r\n\r\n"),
            chunks("5\r\nhello\r\n0\r\n\r\n"),
        ),
        refused("a chunk size beyond 60 bits", 400, chunks("10000000000000005\r\nhello\r\n0\r\n\r\n")),
        refused("a chunk size with a prefix", 400, chunks("0x5\r\nhello\r\n0\r\n\r\n")),
        refused("a chunk size with a sign", 400, chunks("+5\r\nhello\r\n0\r\n\r\n")),
        refused("a chunk size and a word", 400, chunks("5 5\r\nhello\r\n0\r\n\r\n")),
        refused("no chunk size", 400, chunks("\r\nhello\r\n0\r\n\r\n")),
        refused("a bare LF after a chunk size", 400, chunks("5\nhello\r\n0\r\n\r\n")),
        refused("a bare CR after a chunk size", 400, chunks("5\rhello\r\n0\r\n\r\n")),
        refused("a chunk longer than its size", 400, chunks("5\r\nhello!!0\r\n\r\n")),
        refused("a bare LF after a chunk", 400, chunks("5\r\nhello\n0\r\n\r\n")),
        refused("a bare LF in a chunk extension", 400, chunks("5;a\nb\r\nhello\r\n0\r\n\r\n")),
        refused(
            "a chunk extension beyond 256 bytes",
            400,
            chunks(&format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(300))),
        ),
        passed("chunk extensions", chunks("5;a=\"b\";c\r\nhello\r\n0;d\r\n\r\n"), chunks("5\r\nhello\r\n0\r\n\r\n")),
        passed(
            "white space within chunk extensions",
            chunks("005 ;\ta = \"b \\\" ; c\" ; d\r\nhello\r\n0 ; e\r\n\r\n"),
            chunks("5\r\nhello\r\n0\r\n\r\n"),
        ),
        refused("a padded chunk size", 400, chunks("5 \r\nhello\r\n0\r\n\r\n")),
        refused("a tab after a chunk size", 400, chunks("5\t\r\nhello\r\n0\r\n\r\n")),
        refused("a padded last chunk", 400, chunks("5\r\nhello\r\n0 \r\n\r\n")),
        refused("a bare semicolon after a chunk size", 400, chunks("5;\r\nhello\r\n0\r\n\r\n")),
        refused("a bare semicolon after a chunk extension", 400, chunks("5;a;\r\nhello\r\n0\r\n\r\n")),
        refused("white space after a chunk extension", 400, chunks("5;a \r\nhello\r\n0\r\n\r\n")),
        refused("a chunk extension without a name", 400, chunks("5;=a\r\nhello\r\n0\r\n\r\n")),
        refused("a chunk extension without a value", 400, chunks("5;a=\r\nhello\r\n0\r\n\r\n")),
        refused("a chunk extension with two words", 400, chunks("5;a b\r\nhello\r\n0\r\n\r\n")),
        refused("a chunk extension with an open quote", 400, chunks("5;a=\"b\r\nhello\r\n0\r\n\r\n")),
        refused("a word after a quoted chunk extension", 400, chunks("5;a=\"b\"c\r\nhello\r\n0\r\n\r\n")),
        refused("a byte beyond ASCII in a chunk extension", 400, chunks("5;\u{e4}\r\nhello\r\n0\r\n\r\n")),
        same("trailers", chunks("5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-Sum: 2\r\n\r\n")),
        passed(
            "trailers that change the message",
            chunks(
                "5\r\nhello\r\n0\r\nContent-Length: 9\r\nX-Sum: 1\r\nHost: b\r\nAuthorization: c\r\nIf-Match: d\r\nVia: 1.1 e\r\nProxy-Connection: f\r\nX_Forwarded_For: g\r\nContent_Length: 9\r\nProxy_A: i\r\nClient-Cert: :forged:\r\nClient_Cert_Chain: j\r\nX_Sum: 2\r\n\r\n",
            ),
            chunks("5\r\nhello\r\n0\r\nX-Sum: 1\r\nX_Sum: 2\r\n\r\n"),
        ),
        refused("a bare LF in trailers", 400, chunks("0\r\nX: y\n\nGET /admin HTTP/1.1\nHost: e\nA: b\r\n\r\n")),
        refused("a malformed trailer", 400, chunks("0\r\nno colon\r\n\r\n")),
        refused("trailers beyond 8 KiB", 400, chunks(&format!("0\r\nX: {}\r\n\r\n", "x".repeat(9_000)))),
        passed(
            "a length after a tab",
            body("A:\t1\r\ncontent-LENGTH:\t5 \t\r\nB: 2\r\n", "hello"),
            body("A:\t1\r\ncontent-LENGTH: 5\r\nB: 2\r\n", "hello"),
        ),
        passed(
            "a length directly after the colon",
            body("Content-Length:5\r\n", "hello"),
            body("Content-Length: 5\r\n", "hello"),
        ),
        same("a length of zero", body("Content-Length: 0\r\n", "")),
        same("a GET with content", format!("{GET}Content-Length: 5\r\n\r\nhello")),
        same("a POST without length", body("", "")),
    ]
}

fn grammar() -> Vec<RequestCase> {
    vec![
        refused("a bare LF after the start line", 400, "GET / HTTP/1.1\nHost: a\r\n\r\n"),
        refused("a bare LF after a field", 400, format!("{GET}A: b\nC: d\r\n\r\n")),
        refused("a bare LF as the empty line", 400, format!("{GET}A: b\r\n\n")),
        refused("a bare CR in a value", 400, format!("{GET}A: b\rC: d\r\n\r\n")),
        refused("a NUL in a value", 400, format!("{GET}A: b\0c\r\n\r\n")),
        refused("a control byte in a value", 400, format!("{GET}A: b\x01c\r\n\r\n")),
        refused("a DEL in a value", 400, format!("{GET}A: b\x7fc\r\n\r\n")),
        refused("obs-fold", 400, format!("{GET}A: b\r\n c\r\n\r\n")),
        refused("obs-fold on the first field", 400, format!("{LINE} Host: a\r\n\r\n")),
        refused("a space before a colon", 400, format!("{LINE}Host : a\r\n\r\n")),
        refused("a tab before a colon", 400, format!("{GET}A\t: b\r\n\r\n")),
        refused("a field without a name", 400, format!("{GET}: b\r\n\r\n")),
        refused("a field without a colon", 400, format!("{GET}nonsense\r\n\r\n")),
        refused("a space in a field name", 400, format!("{GET}A B: c\r\n\r\n")),
        refused("a control byte in a field name", 400, format!("{GET}A\x01: b\r\n\r\n")),
        refused("a byte beyond ASCII in a field name", 400, format!("{GET}\u{e4}: b\r\n\r\n")),
        refused("a NUL in the target", 400, "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n"),
        refused("a byte beyond ASCII in the target", 400, "GET /\u{e4} HTTP/1.1\r\nHost: a\r\n\r\n"),
        refused("a byte beyond ASCII in a query", 400, "GET /?\u{20ac} HTTP/1.1\r\nHost: a\r\n\r\n"),
        refused("a control byte in the target", 400, "GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n"),
        refused("a control byte in the method", 400, "G\x01T / HTTP/1.1\r\nHost: a\r\n\r\n"),
        refused("two spaces before the target", 400, "GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
        refused("two spaces after the target", 400, "GET /  HTTP/1.1\r\nHost: a\r\n\r\n"),
        refused("a space in the target", 400, "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
        refused("a tab in the start line", 400, "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        refused("white space before the start line", 400, " GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        refused("a space after the version", 400, "GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
        refused("no Host", 400, format!("{LINE}\r\n")),
        refused("Host twice", 400, format!("{GET}Host: b\r\n\r\n")),
        refused("the same Host twice", 400, format!("{GET}Host: a\r\n\r\n")),
        refused("a list of hosts", 400, format!("{LINE}Host: a, b\r\n\r\n")),
        refused("a Host with a path", 400, format!("{LINE}Host: a/b\r\n\r\n")),
        refused("a Host with userinfo", 400, format!("{LINE}Host: u@a\r\n\r\n")),
        refused("an empty Host", 400, format!("{LINE}Host:\r\n\r\n")),
        refused("a Host with two ports", 400, format!("{LINE}Host: a:80:90\r\n\r\n")),
        refused("a Host with a port that is not a number", 400, format!("{LINE}Host: a:b\r\n\r\n")),
        refused("a Host with half a bracket", 400, format!("{LINE}Host: [::1\r\n\r\n")),
        refused("a Host with percent-encoding", 400, format!("{LINE}Host: %61.example\r\n\r\n")),
        refused("a Host with an IPv6 zone", 400, format!("{LINE}Host: [fe80::1%25eth0]\r\n\r\n")),
        refused(
            "an absolute-form with percent-encoding in its host",
            400,
            "GET http://%61.example/ HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        refused("a Host with a port of six digits", 400, format!("{LINE}Host: a:100000\r\n\r\n")),
        same("a Host in mixed case with a trailing dot", format!("{LINE}Host: Www.EXAMPLE.\r\n\r\n")),
        same("a Host with port 0", format!("{LINE}Host: a:0\r\n\r\n")),
        same("a Host with a port beyond 65535", format!("{LINE}Host: a:65536\r\n\r\n")),
        same("a Host with an IPv6 address", format!("{LINE}Host: [::1]:8080\r\n\r\n")),
        refused("a # in the target", 400, "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"),
        passed(
            "OPTIONS in absolute-form without a path",
            "OPTIONS http://b HTTP/1.1\r\nHost: a\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: b\r\n\r\n",
        ),
        refused("a Host with a space", 400, format!("{LINE}Host: a b\r\n\r\n")),
        passed(
            "an absolute-form with a host other than Host",
            "GET http://b:81/x?y HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /x?y HTTP/1.1\r\nHost: b:81\r\n\r\n",
        ),
        passed(
            "an absolute-form with a query and no path",
            "GET http://b?x=1 HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /?x=1 HTTP/1.1\r\nHost: b\r\n\r\n",
        ),
        passed(
            "OPTIONS in absolute-form with a query and no path",
            "OPTIONS http://b? HTTP/1.1\r\nHost: a\r\n\r\n",
            "OPTIONS /? HTTP/1.1\r\nHost: b\r\n\r\n",
        ),
        refused("an absolute-form with a query and no host", 400, "GET http://?x HTTP/1.1\r\nHost: a\r\n\r\n"),
        refused("an absolute-form with userinfo", 400, "GET http://u@b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        refused("an absolute-form without a host", 400, "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n"),
        refused("a scheme other than http", 400, "GET ftp://b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        refused("a target that is a relative path", 400, "GET a HTTP/1.1\r\nHost: a\r\n\r\n"),
        refused("an asterisk-form with GET", 400, "GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
        same("an asterisk-form with OPTIONS", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
        refused("CONNECT", 501, "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"),
        refused("TRACE", 501, "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n"),
        refused("HTTP/0.9", 400, "GET /\r\n\r\n"),
        refused("HTTP/1.2", 505, "GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
        refused("HTTP/3.0", 505, "GET / HTTP/3.0\r\nHost: a\r\n\r\n"),
        refused("a version in lower case", 400, "GET / http/1.1\r\nHost: a\r\n\r\n"),
        refused("a version with more digits", 400, "GET / HTTP/1.10\r\nHost: a\r\n\r\n"),
        refused("HTTP/2.0", 505, "GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
        refused("a preface that is not that of HTTP/2", 505, "PRI * HTTP/2.0\r\nHost: a\r\n\r\n"),
        refused("TLS on a plain port", 400, "\x16\x03\x01\x02\0\x01\0\x01\r\n\r\n"),
        refused("a target beyond 16 KiB", 414, format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(17_000))),
        refused("a head beyond 32 KiB", 431, format!("{GET}A: {}\r\n\r\n", "x".repeat(33_000))),
        refused("more than 100 fields", 431, format!("{GET}{}\r\n", "A: b\r\n".repeat(100))),
        passed("an empty line before the request", format!("\r\n{GET}\r\n"), format!("{GET}\r\n")),
        refused("empty lines before the request", 400, format!("\r\n\r\n{GET}\r\n")),
    ]
}

fn faithful_requests() -> Vec<RequestCase> {
    vec![
        passed(
            "a target that is not in normal form",
            "GET /a//b/./../%2f%2F;%70?q=%zz&&a=\"|{}[]^`<>\\ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a//%2F%2F;p?q=%zz&&a=\"|{}[]^`<>\\ HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        same("field order and case", "GET / HTTP/1.1\r\nX-b: 1\r\nhOST: a\r\nx-B: 2\r\nA:\r\nX-b:3\r\n\r\n"),
        same("obs-text in a value", format!("{GET}A: \u{e9}\u{fc}\r\n\r\n")),
        same("an unknown method", "M-SEARCH / HTTP/1.1\r\nHost: a\r\n\r\n"),
        passed(
            "fields for this hop",
            format!(
                "{GET}Connection: close, X-A\r\nX-A: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nTE: gzip\r\nB: 2\r\n\r\n"
            ),
            format!("{GET}B: 2\r\n\r\n"),
        ),
        passed(
            "names that servers confuse with names of LoadX",
            format!(
                "{POST}X_Forwarded_For: 1\r\nx-forwarded_proto: https\r\nX.Forwarded.Host: b\r\nX_FORWARDED_PORT: 2\r\nX_Real_IP: 3\r\nX_Request_Id: 4\r\nMax_Forwards: 5\r\nKeep_Alive: 6\r\nProxy_Connection: 7\r\nProxy_Authorization: 8\r\nHTTP2_Settings: 9\r\nX~Forwarded|For: 10\r\nA_b.c: 11\r\nX_Forwarded_Fo: 12\r\n\r\n"
            ),
            format!("{POST}A_b.c: 11\r\nX_Forwarded_Fo: 12\r\n\r\n"),
        ),
        passed(
            "names that servers confuse with names that frame a message",
            format!(
                "{POST}Content_Length: 9\r\nTransfer_Encoding: chunked\r\nTransfer.Encoding: gzip\r\nContent-Length: 2\r\ncontent.length: 0\r\n\r\nok"
            ),
            format!("{POST}Content-Length: 2\r\n\r\nok"),
        ),
        passed(
            "fields that an untrusted client may not send",
            format!(
                "{POST}X-Real-IP: 203.0.113.9\r\nX-Forwarded-Port: 443\r\nProxy: evil.example:80\r\nProxies: 1\r\n\r\n"
            ),
            format!("{POST}Proxies: 1\r\n\r\n"),
        ),
        passed(
            "Connection with fields that must stay",
            format!(
                "{POST}Connection: Host, Content-Length, Cookie, Authorization, X-Forwarded-For\r\nCookie: c\r\nAuthorization: d\r\nContent-Length: 2\r\n\r\nok"
            ),
            format!("{POST}Cookie: c\r\nAuthorization: d\r\nContent-Length: 2\r\n\r\nok"),
        ),
        passed(
            "TE: trailers",
            format!("{GET}TE: trailers, deflate\r\nConnection: TE\r\n\r\n"),
            format!("{GET}Connection: TE\r\nTE: trailers\r\n\r\n"),
        ),
        passed(
            "h2c",
            format!("{GET}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"),
            format!("{GET}\r\n"),
        ),
        passed("an upgrade without Connection", format!("{GET}Upgrade: websocket\r\n\r\n"), format!("{GET}\r\n")),
        passed(
            "an upgrade",
            format!("{GET}Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\r\n"),
            format!("{GET}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
        ),
        passed(
            "HTTP/1.0",
            "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nExpect: 100-continue\r\n\r\n",
            format!("{GET}\r\n"),
        ),
        passed(
            "OPTIONS with Max-Forwards",
            "OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 7\r\n\r\n",
            "OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 6\r\n\r\n",
        ),
        refused("Max-Forwards without a number", 400, "OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: x\r\n\r\n"),
    ]
}

const OK: &str = "HTTP/1.1 200 OK\r\n";

fn reaches(name: &'static str, response: impl Into<String>, becomes: impl Into<String>) -> ResponseCase {
    ResponseCase { name, response: response.into(), then: Answer::Passed(becomes.into()) }
}

fn unchanged(name: &'static str, response: impl Into<String>) -> ResponseCase {
    let response = response.into();
    reaches(name, response.clone(), response)
}

fn bad(name: &'static str, response: impl Into<String>) -> ResponseCase {
    ResponseCase { name, response: response.into(), then: Answer::BadGateway }
}

fn broken(name: &'static str, response: impl Into<String>) -> ResponseCase {
    ResponseCase { name, response: response.into(), then: Answer::Broken }
}

/// All response cases.
pub(crate) fn responses() -> Vec<ResponseCase> {
    let chunked = |chunks: &str| format!("{OK}Transfer-Encoding: chunked\r\n\r\n{chunks}");
    vec![
        bad(
            "a response with length and chunked",
            format!("{OK}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ),
        bad("a response with different lengths", format!("{OK}Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc")),
        bad("a response with a length twice", format!("{OK}Content-Length: 2\r\nContent-Length: 2\r\n\r\nab")),
        bad("a response with a negative length", format!("{OK}Content-Length: -2\r\n\r\nab")),
        bad("a response with an unknown coding", format!("{OK}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n")),
        bad("a response with chunked twice", format!("{OK}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n")),
        bad("chunked from an HTTP/1.0 backend", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        bad("a response with bare LF", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
        bad("a response with a bare CR", format!("{OK}A: b\rc\r\nContent-Length: 2\r\n\r\nok")),
        bad("a response with a NUL", format!("{OK}A: \0\r\nContent-Length: 2\r\n\r\nok")),
        bad("a response with obs-fold", format!("{OK}A: b\r\n c\r\nContent-Length: 2\r\n\r\nok")),
        bad("a response with a space before a colon", format!("{OK}Content-Length : 2\r\n\r\nok")),
        bad("a response with a field without a name", format!("{OK}: b\r\nContent-Length: 2\r\n\r\nok")),
        bad("a status of four digits", "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok"),
        bad("a status of 099", "HTTP/1.1 099 Low\r\nContent-Length: 2\r\n\r\nok"),
        bad("a status of 600", "HTTP/1.1 600 High\r\nContent-Length: 2\r\n\r\nok"),
        bad("a response of HTTP/2", "HTTP/2 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        bad("a response of another protocol", "SSH-2.0-OpenSSH_9.2\r\n\r\n"),
        bad("a response head beyond 32 KiB", format!("{OK}A: {}\r\nContent-Length: 2\r\n\r\nok", "x".repeat(33_000))),
        bad("a response with more than 100 fields", format!("{OK}{}\r\n", "A: b\r\n".repeat(101))),
        bad("more than 100 interim responses", "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(101)),
        bad(
            "an unrequested 101",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        ),
        bad("a truncated head", "HTTP/1.1 200 OK\r\nContent-Len"),
        broken("a body shorter than its length", format!("{OK}Content-Length: 9\r\n\r\nok")),
        broken("no last chunk", chunked("2\r\nok\r\n")),
        broken("a truncated chunk", chunked("5\r\nok")),
        bad("a malformed chunk size in a response", chunked("2\r\nok\r\nzz\r\n")),
        bad("a padded chunk size in a response", chunked("2 \r\nok\r\n0\r\n\r\n")),
        bad("a bare semicolon after a chunk size in a response", chunked("2;\r\nok\r\n0\r\n\r\n")),
        bad("a malformed chunk extension in a response", chunked("2;a=\r\nok\r\n0\r\n\r\n")),
        bad("a malformed trailer in a response", chunked("2\r\nok\r\n0\r\nX: y\nZ: z\r\n\r\n")),
        unchanged("a plain response", format!("{OK}Content-Length: 2\r\n\r\nok")),
        unchanged(
            "unchanged fields",
            "HTTP/1.1 299 Odd  Reason\r\nset-cookie: a\r\nDate: x\r\nServer: y\r\nSet-Cookie: b\r\nA:\r\nX: \u{e9}\r\nContent-Length: 2\r\n\r\nok",
        ),
        reaches(
            "a response with white space around its length",
            format!("{OK}A:\t1\r\nContent-Length:\t 2 \r\nB: 2\r\n\r\nok"),
            format!("{OK}A:\t1\r\nContent-Length: 2\r\nB: 2\r\n\r\nok"),
        ),
        unchanged("no reason phrase", "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok"),
        reaches(
            "fields for the hop of the backend",
            format!(
                "{OK}Connection: X-A, close\r\nX-A: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nok"
            ),
            format!("{OK}Content-Length: 2\r\n\r\nok"),
        ),
        reaches("chunks and extensions", chunked("2;a=b\r\nok\r\n0\r\n\r\n"), chunked("2\r\nok\r\n0\r\n\r\n")),
        unchanged("trailers of a response", chunked("2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n")),
        reaches("a body that ends with the connection", format!("{OK}\r\nok"), chunked("2\r\nok\r\n0\r\n\r\n")),
        reaches("a body of an HTTP/1.0 backend", "HTTP/1.0 200 OK\r\n\r\nok", chunked("2\r\nok\r\n0\r\n\r\n")),
        unchanged("204", "HTTP/1.1 204 No Content\r\nA: b\r\n\r\n"),
        reaches(
            "204 with a length",
            "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n\r\n",
        ),
        unchanged("304 with a length", "HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\nETag: \"x\"\r\n\r\n"),
        unchanged("205", "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n"),
        unchanged(
            "interim responses",
            format!(
                "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n{OK}Content-Length: 2\r\n\r\nok"
            ),
        ),
        reaches(
            "bytes after the response",
            format!("{OK}Content-Length: 2\r\n\r\nok{OK}Content-Length: 4\r\n\r\nevil"),
            format!("{OK}Content-Length: 2\r\n\r\nok"),
        ),
    ]
}
