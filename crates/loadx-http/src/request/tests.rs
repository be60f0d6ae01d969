use std::net::IpAddr;

use super::*;
use crate::limits::{HEAD_BYTES_MAX, TARGET_BYTES_MAX};

const FORWARDING: Forwarding<'static> = Forwarding {
    peer: IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 9)),
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

fn encoded(text: &str, forwarding: &Forwarding<'_>) -> String {
    match RequestHead::read(text.as_bytes()).unwrap() {
        Parsed::Complete(request, length) => {
            assert_eq!(length, text.len());
            let mut out = Vec::new();
            request.encode(forwarding, &Changes::default(), &mut out);
            String::from_utf8(out).unwrap()
        }
        Parsed::Partial => panic!("the head is complete"),
    }
}

fn fault(bytes: &[u8]) -> Fault {
    RequestHead::read(bytes).expect_err("the request is faulty")
}

fn framing(fields: &str) -> Result<Framing, Fault> {
    let text = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    RequestHead::read(text.as_bytes()).map(|parsed| match parsed {
        Parsed::Complete(request, _) => request.framing(),
        Parsed::Partial => panic!("the head is complete"),
    })
}

#[test]
fn fields_are_forwarded_unchanged() {
    let text = "GET /a//b/..%2f?q=%zz|\"x HTTP/1.1\r\nhOsT: Example.com:80\r\nX-B:  two  spaces \r\nx-a: 1\r\nX-B: again\r\n\r\n";
    assert_eq!(
        encoded(text, &FORWARDING),
        "GET /a//b/..%2f?q=%zz|\"x HTTP/1.1\r\nhOsT: Example.com:80\r\nX-B:  two  spaces \r\nx-a: 1\r\nX-B: again\r\n\
         X-Forwarded-For: 192.0.2.9\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: Example.com:80\r\n\r\n"
    );
}

#[test]
fn hop_by_hop_fields_are_removed() {
    let text = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Secret, Host, cookie\r\nKeep-Alive: 5\r\nx-secret: 1\r\n\
                Cookie: c\r\nTE: gzip\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\nProxy-Connection: x\r\nAccept: */*\r\n\r\n";
    assert_eq!(
        encoded(text, &FORWARDING),
        "GET / HTTP/1.1\r\nHost: a\r\nCookie: c\r\nAccept: */*\r\n\
         X-Forwarded-For: 192.0.2.9\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\n\r\n"
    );
}

#[test]
fn forwarded_fields_of_untrusted_peers_are_replaced_and_of_trusted_peers_extended() {
    let text = "GET / HTTP/1.1\r\nX-Forwarded-For: 1.1.1.1, 2.2.2.2\r\nHost: a\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\nForwarded: for=1.1.1.1\r\n\r\n";
    assert_eq!(
        encoded(text, &FORWARDING),
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.9\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\n\r\n"
    );
    assert_eq!(
        encoded(text, &Forwarding { trusted: true, ..FORWARDING }),
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\nForwarded: for=1.1.1.1\r\n\
         X-Forwarded-For: 1.1.1.1, 2.2.2.2, 192.0.2.9\r\n\r\n"
    );
}

/// The fields that a backend gets for a GET with these fields, without Host and the X-Forwarded fields.
fn fields_after(fields: &str) -> String {
    let text = encoded(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"), &FORWARDING);
    let kept = text.split_inclusive("\r\n").skip(2).filter(|line| !line.starts_with("X-Forwarded-"));
    kept.collect::<String>().trim_end_matches("\r\n").to_owned()
}

#[test]
fn an_upgrade_goes_through_unless_it_hides_further_requests() {
    assert_eq!(
        fields_after("Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nA: b\r\n"),
        "A: b\r\nConnection: Upgrade\r\nUpgrade: WebSocket"
    );
    assert_eq!(
        fields_after(
            "Connection: Upgrade, TE, HTTP2-Settings\r\nUpgrade: h2c, foo/2\r\nupgrade: bar\r\nTE: gzip, trailers\r\nHTTP2-Settings: x\r\n"
        ),
        "Connection: TE, Upgrade\r\nTE: trailers\r\nUpgrade: foo/2, bar"
    );
    for not_passed_on in [
        "Upgrade: websocket\r\n",
        "Connection: upgrade\r\n",
        "Connection: upgrade\r\nUpgrade:\r\n",
        "Connection: upgrade\r\nUpgrade: h2c\r\n",
        "Connection: upgrade\r\nUpgrade: H2C-14, HTTP/2.0, http/3, TLS/1.0\r\n",
    ] {
        assert_eq!(fields_after(not_passed_on), "", "{not_passed_on}");
    }
    let old = encoded("GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", &FORWARDING);
    assert!(!old.contains("pgrade"), "{old}");
}

#[test]
fn lookalike_names_are_dropped() {
    for name in crate::fields::TRUSTED {
        for other in ["_", ".", "~"] {
            for spelling in [name.replace('-', other), name.replacen('-', other, 1).to_ascii_uppercase()] {
                assert_eq!(fields_after(&format!("{spelling}: 1\r\nA: b\r\n")), "A: b", "{spelling}");
                let trusted = Forwarding { trusted: true, ..FORWARDING };
                let text = encoded(&format!("GET / HTTP/1.1\r\nHost: a\r\n{spelling}: 1\r\n\r\n"), &trusted);
                assert!(!text.contains(&spelling), "{text}");
            }
        }
    }
    for kept in ["X-Request-Id", "Proxy-Authorization", "Proxys", "Proxyx_a", "X_Forwarded_Fo"] {
        let field = format!("{kept}: 1\r\n");
        assert!(encoded(&format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n"), &FORWARDING).contains(&field), "{kept}");
    }
}

#[test]
fn fields_that_a_stranger_may_not_send_are_dropped() {
    let fields = "X-Real-IP: 1\r\nx-forwarded-port: 2\r\nPROXY: 3\r\nA: b\r\nProxies: c\r\n";
    assert_eq!(fields_after(fields), "A: b\r\nProxies: c");
    let text = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Real-IP, X-Forwarded-Port\r\n{fields}\r\n");
    let out = encoded(&text, &Forwarding { trusted: true, ..FORWARDING });
    assert!(out.contains("\r\nX-Real-IP: 1\r\nx-forwarded-port: 2\r\nA: b\r\n"), "a trusted peer's: {out}");
    assert!(!out.contains("PROXY"), "{out}");
    for (field, claims) in
        [("X-Real-IP: 1", true), ("X-Forwarded-Port: 1", true), ("Forwarded: for=a", true), ("Proxy: a", false)]
    {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
        let Ok(Parsed::Complete(request, _)) = RequestHead::read(text.as_bytes()) else { panic!("{field}") };
        assert_eq!(request.claims_forwarded(), claims, "{field}");
    }
}

#[test]
fn an_expectation_of_http_1_0_is_ignored() {
    assert_eq!(fields_after("Expect: 100-continue\r\n"), "Expect: 100-continue");
    let old = encoded("PUT / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\n\r\n", &FORWARDING);
    assert!(!old.contains("Expect"), "{old}");
}

#[test]
fn options_decrement_max_forwards() {
    let options = |fields: &str| format!("OPTIONS * HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    assert!(encoded(&options("Max-Forwards: 3\r\n"), &FORWARDING).contains("\r\nMax-Forwards: 2\r\n"));
    assert_eq!(fields_after("Max-Forwards: 3\r\n"), "Max-Forwards: 3", "other methods carry it along");
    for bad in ["Max-Forwards: -1\r\n", "Max-Forwards:\r\n", "Max-Forwards: 1\r\nMax-Forwards: 1\r\n"] {
        assert_eq!(fault(options(bad).as_bytes()).status(), 400, "{bad}");
    }
    let text = options("Max-Forwards: 0\r\n");
    let Ok(Parsed::Complete(request, _)) = RequestHead::read(text.as_bytes()) else { panic!("it is complete") };
    assert_eq!(request.max_forwards(), Some(0));
}

#[test]
fn via_and_forwarded_are_written_when_asked_for() {
    let asked = Forwarding { via: Some("edge-1"), forwarded: true, ..FORWARDING };
    let text = "GET / HTTP/1.0\r\nHost: b:81\r\nVia: 1.1 x\r\nForwarded: for=1.1.1.1\r\n\r\n";
    let lines = |text: &str, name: &str| {
        text.lines().filter(|line| line.starts_with(name)).map(str::to_owned).collect::<Vec<_>>()
    };
    let out = encoded(text, &asked);
    assert_eq!(lines(&out, "Via"), ["Via: 1.1 x", "Via: 1.0 edge-1"]);
    assert_eq!(lines(&out, "Forwarded"), ["Forwarded: for=192.0.2.9;host=\"b:81\";proto=http"]);
    let six = Forwarding { trusted: true, peer: "2001:db8::1".parse().unwrap(), ..asked };
    assert_eq!(
        lines(&encoded(text, &six), "Forwarded"),
        ["Forwarded: for=1.1.1.1", "Forwarded: for=\"[2001:db8::1]\";host=\"b:81\";proto=http"]
    );
}

#[test]
fn other_forms_and_versions_become_plain_http_1_1() {
    assert!(
        encoded("GET http://b:81/x?y HTTP/1.1\r\nHost: a\r\nA: 1\r\n\r\n", &FORWARDING)
            .starts_with("GET /x?y HTTP/1.1\r\nHost: b:81\r\nA: 1\r\n")
    );
    assert!(
        encoded("OPTIONS http://b HTTP/1.1\r\nHost: a\r\n\r\n", &FORWARDING)
            .starts_with("OPTIONS * HTTP/1.1\r\nHost: b\r\n")
    );
    assert!(
        encoded("GET http://b:81?x=/1 HTTP/1.1\r\nHost: a\r\n\r\n", &FORWARDING)
            .starts_with("GET /?x=/1 HTTP/1.1\r\nHost: b:81\r\n")
    );
    assert!(
        encoded("OPTIONS http://b?x HTTP/1.1\r\nHost: a\r\n\r\n", &FORWARDING)
            .starts_with("OPTIONS /?x HTTP/1.1\r\nHost: b\r\n")
    );
    assert!(encoded("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", &FORWARDING).starts_with("OPTIONS * HTTP/1.1\r\n"));
}

#[test]
fn a_request_without_a_host_has_the_assumed_authority() {
    let Ok(Parsed::Complete(mut request, _)) = RequestHead::read(b"GET / HTTP/1.0\r\nA: 1\r\n\r\n") else {
        panic!("the head is complete and sound")
    };
    assert_eq!(request.authority(), b"");
    request.assume_authority(b"127.0.0.1:8080");
    assert_eq!(request.authority(), b"127.0.0.1:8080");
    let mut out = Vec::new();
    request.encode(&FORWARDING, &Changes::default(), &mut out);
    let head = String::from_utf8(out).unwrap();
    assert!(head.starts_with("GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nA: 1\r\n"), "{head}");
    assert!(!head.contains("X-Forwarded-Host"), "the client named no host: {head}");
}

#[test]
fn a_body_has_one_length_or_chunks_and_nothing_else() {
    assert_eq!(framing(""), Ok(Framing::Length(0)));
    assert_eq!(framing("Content-Length: 42\r\n"), Ok(Framing::Length(42)));
    assert_eq!(framing("Transfer-Encoding: \tChunked \r\n"), Ok(Framing::Chunked));
    for bad in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 05\r\n",
        "Content-Length:\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding: chunked,\r\n",
        "Transfer-Encoding: , chunked\r\n",
    ] {
        assert!(matches!(framing(bad), Err(Fault::Framing(_))), "{bad:?} {:?}", framing(bad));
    }
    assert_eq!(framing("Transfer-Encoding: gzip, chunked\r\n"), Err(Fault::TransferCoding));
    assert_eq!(framing("Transfer-Encoding: xchunked\r\n"), Err(Fault::TransferCoding));
    assert_eq!(fault(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").status(), 400);
}

#[test]
fn malformed_heads_are_refused() {
    for bad in [
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nA: b\rc\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nA: b\0c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\n: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nA b: c\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a:80:90\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a:port\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a:999999\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: :80\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a]b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: %zz\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: %61\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a%2eb:80\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [fe80::1%25eth0]\r\n\r\n",
        "GET http://%61/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://:80/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\u{e4} HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /?\u{20ac} HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://a/\u{e4} HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://?x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://u@b?x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET\r\n\r\n",
        "GET /\r\n\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "G\x01T / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        assert_eq!(fault(bad.as_bytes()).status(), 400, "{bad:?}");
    }
    for byte in 0x80..=0xff {
        let target = [b"GET /".as_slice(), &[byte], b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        assert_eq!(fault(&target).status(), 400, "{byte}");
    }
    assert_eq!(fault(b"GET / HTTP/1.2\r\nHost: a\r\n\r\n").status(), 505);
    assert_eq!(fault(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").status(), 505);
    assert_eq!(fault(b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n").status(), 501);
    assert_eq!(fault(b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n").status(), 501);
}

#[test]
fn heads_have_bounds() {
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(TARGET_BYTES_MAX));
    assert_eq!(fault(long.as_bytes()), Fault::TargetTooLong);
    assert_eq!(fault(&long.as_bytes()[..TARGET_BYTES_MAX + 10]), Fault::TargetTooLong);
    let longest = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(TARGET_BYTES_MAX - 1));
    for end in [TARGET_BYTES_MAX + 4, TARGET_BYTES_MAX + 16, longest.len() - 1] {
        assert!(matches!(RequestHead::read(&longest.as_bytes()[..end]), Ok(Parsed::Partial)), "{end}");
    }
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "x".repeat(HEAD_BYTES_MAX));
    assert_eq!(fault(large.as_bytes()), Fault::HeadTooLarge);
    assert_eq!(fault(&large.as_bytes()[..HEAD_BYTES_MAX]), Fault::HeadTooLarge);
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(100));
    assert_eq!(fault(many.as_bytes()), Fault::HeadTooLarge);
}

#[test]
fn one_empty_line_before_a_request_is_tolerated() {
    let parsed = RequestHead::read(b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(matches!(parsed, Parsed::Complete(_, 29)));
}

#[test]
fn the_last_address_of_x_forwarded_for_comes_first() {
    let text = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1, 2.2.2.2\r\nX-Forwarded-For: 3.3.3.3\r\n\r\n";
    let Ok(Parsed::Complete(request, _)) = RequestHead::read(text) else { panic!("the head is complete") };
    let addresses: Vec<_> = request.forwarded_for().collect();
    assert_eq!(addresses, [b"3.3.3.3", b"2.2.2.2", b"1.1.1.1"]);
}
