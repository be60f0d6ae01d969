//! Routes over sockets: a table of requests and the expected result of each.

use std::collections::BTreeMap;

use serde_json::json;

use crate::support::{LoadX, Origin};

/// The clusters of the config; a backend answers with its cluster and its request line.
const CLUSTERS: [&str; 8] = ["exact", "wild", "deep", "any", "v1", "users", "regex", "canary"];

/// `METHOD HOST TARGET [FIELD…] => CLUSTER REQUEST-LINE-OF-THE-BACKEND` or `=> STATUS [LOCATION]`.
/// `-` means a request without Host.
const TABLE: &str = "
# hosts: exact, then the longest wildcard, then any
GET a.example / => exact GET /
GET A.EXAMPLE / => exact GET /
GET a.example. / => exact GET /
GET a.example:8080 / => exact GET /
GET a.example.:8080 / => exact GET /
GET x.a.example / => wild GET /
GET x.y.a.example / => wild GET /
GET X.A.Example:1 / => wild GET /
GET b.a.example / => wild GET /
GET x.b.a.example / => deep GET /
GET x.y.b.a.example / => deep GET /
GET aa.example / => any GET /
GET example / => any GET /
GET .a.example / => any GET /
GET [::1] / => any GET /
GET [2001:db8::1]:80 / => exact GET /
GET [2001:DB8::1] / => exact GET /
GET [2001:db8:0:0::0001]:80 / => exact GET /
GET 192.0.2.1 / => any GET /
GET b.example http://a.example/ => exact GET /
GET b.example http://A.example:80/x?y => exact GET /x?y
GET b.example http://a.example?x=1 => exact GET /?x=1
GET a.example http://b.example/ => any GET /
GET a.example https://x.a.example/ => wild GET /
# from the exact host on to wider ones
GET only.example /only => exact GET /only
GET only.example /other => any GET /other
GET only.a.example /only => exact GET /only
GET only.a.example /else => wild GET /else
# paths: exact, then the longest prefix by whole segments, then expressions, then any
GET api /v1 => v1 GET /
GET api /v1/ => v1 GET /
GET api /v1/a => v1 GET /a
GET api /v1/a/b => v1 GET /a/b
GET api /v1/a?q=1 => v1 GET /a?q=1
GET api /v1?q=1 => v1 GET /?q=1
GET api /v10 => any GET /v10
GET api /v1a => any GET /v1a
GET api /V1 => any GET /V1
GET api /v1/users => users GET /list
GET api /v1/users/ => users GET /people/
GET api /v1/users/7 => users GET /people/7
GET api /v1/usersx => v1 GET /usersx
GET api /v1/user => v1 GET /user
GET api /item/7 => regex GET /item/7
GET api /item/77 => regex GET /item/77
GET api /item/7a => any GET /item/7a
GET api /item/ => any GET /item/
GET api /item/7/ => any GET /item/7/
GET api /x/item/7 => any GET /x/item/7
GET api / => any GET /
GET api /. => any GET /
GET api /robots.txt => 200
HEAD api /robots.txt => 200
GET api /robots.txt?x => 200
GET api /robots.txt/ => any GET /robots.txt/
# methods, fields, query
POST api /m => canary POST /m
PUT api /m => canary PUT /m
GET api /m => any GET /m
PATCH api /m => any PATCH /m
GET api /f x-canary:yes => canary GET /f
GET api /f X-Canary:yes => canary GET /f
GET api /f x-canary:no => any GET /f
GET api /f x-canary:Yes => any GET /f
GET api /f x-canary:yes x-canary:yes => any GET /f
GET api /f => any GET /f
GET api /q?debug=1 => canary GET /q?debug=1
GET api /q?a=b&debug=1 => canary GET /q?a=b&debug=1
GET api /q?debug=%31 => canary GET /q?debug=%31
GET api /q?deb%75g=1 => canary GET /q?deb%75g=1
GET api /q?debug=1&debug=2 => canary GET /q?debug=1&debug=2
GET api /q?debug=2&debug=1 => any GET /q?debug=2&debug=1
GET api /q?debug=11 => any GET /q?debug=11
GET api /q?debug => any GET /q?debug
GET api /q?xdebug=1 => any GET /q?xdebug=1
GET api /q => any GET /q
GET api /fq?debug=1 x-canary:yes => users GET /fq?debug=1
GET api /fq x-canary:yes => canary GET /fq
GET api /fq?debug=1 => any GET /fq?debug=1
# one meaning: what every reader does
GET api /%76%31/a => v1 GET /a
GET api /v1/%61%7E%2D => v1 GET /a~-
GET api /v1/%3a%c3%a9 => v1 GET /%3A%C3%A9
GET api /v1/%20 => v1 GET /%20
GET api /v1/%25 => v1 GET /%25
GET api /v1/%252e%252e/x => v1 GET /%252e%252e/x
GET api /./v1/a => v1 GET /a
GET api /x/../v1/a => v1 GET /a
GET api /x/y/../../v1/a => v1 GET /a
GET api /%2e/v1/a => v1 GET /a
GET api /x/%2e%2E/v1/a => v1 GET /a
GET api /x/.%2e/v1/a => v1 GET /a
GET api /../../v1/a => v1 GET /a
GET api /v1/../x => any GET /x
GET api /v1/%2e%2e/x => any GET /x
GET api /v1/users/.. => v1 GET /
GET api /v1/. => v1 GET /
GET api /v1/.. => any GET /
GET api /v1/... => v1 GET /...
GET api /v1/.hidden => v1 GET /.hidden
GET api /item/%37 => regex GET /item/7
GET api /robots%2etxt => 200
# one meaning: what servers read differently
GET api //v1/a => 400
GET api ///v1 => 400
GET api /v1//a => v1 GET /a
GET api /x//y => any GET /x//y
GET api /v1/users//7 => users GET /people/7
GET api /v1//users => 400
GET api /v1%2Fa => 400
GET api /v1%2fusers => 400
GET api /%2Fv1/a => 400
GET api /v1/a%2Fb => v1 GET /a%2Fb
GET api /v1/a%2fb => v1 GET /a%2Fb
GET api /v1/..%2Fx => 400
GET api /v1/%2e%2e%2fx => 400
GET api /x/..%2Fv1/a => 400
GET api /v1%5Ca => 400
GET api /v1/a%5cb => v1 GET /a%5Cb
GET api /v1;p=1/a => 400
GET api /v1/a;p=1 => v1 GET /a;p=1
GET api /v1/..;/x => 400
GET api /v1/users;x/7 => 400
GET api /x%5Cy%2F..%2Fv1/a => 400
GET api /x;%2Fp/..%2Fv1/a => 400
GET api /x/..%2Fy => 400
GET api /x/..;/y => 400
GET api /x;y/z => any GET /x;y/z
GET api /x%2Fy => any GET /x%2Fy
GET api /robots.txt;x => 400
# refused
GET api /%00 => 400
GET api /v1/%00 => 400
GET api /v1/%0a => 400
GET api /v1/%0D%0Ax => 400
GET api /v1/%7f => 400
GET api /v1/%1F => 400
GET api /% => 400
GET api /%2 => 400
GET api /%zz => 400
GET api /v1/%g1 => 400
GET api /v1\\a => 400
GET api /v1/a#b => 400
GET api /v1/é => 400
GET api v1/a => 400
GET u@a.example / => 400
GET a.example/x / => 400
GET a.example,b.example / => 400
GET a.example:x / => 400
GET a.example:123456 / => 400
GET %zz / => 400
# redirects
GET old.example / => 308 http://new.example/
GET old.example /a/b?c=d => 308 http://new.example/a/b?c=d
GET old.example:8080 /a => 308 http://new.example/a
GET old.example /a/../b => 308 http://new.example/b
GET secure.example /a => 301 https://secure.example/a
GET secure.example:8080 /a => 301 https://secure.example/a
GET moved.example:81 /from/a => 302 http://moved.example:81/to/a
GET moved.example /from => 302 http://moved.example/to
GET moved.example /from/?q => 302 http://moved.example/to/?q
POST moved.example /home => 303 http://moved.example/welcome
# access, responses, and what matches nothing
GET closed.example / => 403
GET denied.example / => 403
GET gone.example /x => 410
GET empty.example / => 204
OPTIONS a.example * => exact OPTIONS *
OPTIONS api * => any OPTIONS *
OPTIONS b.example http://a.example => exact OPTIONS *
GET nowhere.example /there => v1 GET /there
GET nowhere.example / => 404
GET nowhere.example /there/ => 404
";

fn config(origins: &BTreeMap<&str, Origin>) -> serde_json::Value {
    let clusters: serde_json::Map<_, _> = origins
        .iter()
        .map(|(name, origin)| ((*name).to_owned(), json!({ "backends": [origin.address().to_string()] })))
        .collect();
    let api = |route: serde_json::Value| {
        let mut route = route;
        route["hosts"] = json!(["api"]);
        route
    };
    json!({
        "listeners": [{ "address": "127.0.0.1:0" }],
        "enable_logging": false,
        "workers": 1,
        "clusters": clusters,
        "routes": [
            { "hosts": ["a.example", "[2001:db8:0::1]"], "cluster": "exact" },
            { "hosts": ["*.a.example"], "cluster": "wild" },
            { "hosts": ["*.b.a.example"], "cluster": "deep" },
            { "hosts": ["only.example", "only.a.example"], "path": "/only", "cluster": "exact" },
            api(json!({ "path_regex": "/item/[0-9]+", "cluster": "regex" })),
            api(json!({ "cluster": "any" })),
            api(json!({ "path_prefix": "/v1", "cluster": "v1", "rewrite": { "path_prefix": "/" } })),
            api(json!({ "path_prefix": "/v1/users", "cluster": "users", "rewrite": { "path_prefix": "/people" } })),
            api(json!({ "path": "/v1/users", "cluster": "users", "rewrite": { "path": "/list" } })),
            api(json!({ "path": "/robots.txt", "respond": { "body": "User-agent: *\n" } })),
            api(json!({ "path": "/m", "methods": ["POST", "PUT"], "cluster": "canary" })),
            api(json!({ "path": "/m", "cluster": "any" })),
            api(json!({ "path": "/f", "headers": { "x-canary": "yes" }, "cluster": "canary" })),
            api(json!({ "path": "/q", "query": { "debug": "1" }, "cluster": "canary" })),
            api(json!({ "path": "/fq", "headers": { "x-canary": "yes" }, "cluster": "canary" })),
            api(json!({ "path": "/fq", "headers": { "x-canary": "yes" }, "query": { "debug": "1" }, "cluster": "users" })),
            { "hosts": ["old.example"], "redirect": { "host": "new.example" } },
            { "hosts": ["secure.example"], "redirect": { "scheme": "https", "status": 301 } },
            { "hosts": ["moved.example"], "path_prefix": "/from", "redirect": { "path_prefix": "/to", "status": 302 } },
            { "hosts": ["moved.example"], "path": "/home", "redirect": { "path": "/welcome", "status": 303 } },
            { "hosts": ["closed.example"], "cluster": "any", "allow": ["192.0.2.0/24"] },
            { "hosts": ["denied.example"], "cluster": "any", "deny": ["127.0.0.0/8"] },
            { "hosts": ["gone.example"], "respond": { "status": 410, "body": "gone\n" } },
            { "hosts": ["empty.example"], "respond": { "status": 204 } },
            { "hosts": ["nowhere.example"], "path": "/there", "cluster": "v1" },
            { "hosts": ["nowhere.example"], "path_prefix": "/", "respond": { "status": 404, "body": "nothing\n" } },
            { "cluster": "any" },
        ],
    })
}

#[test]
fn each_request_goes_where_the_table_says() {
    let origins: BTreeMap<&str, Origin> = CLUSTERS
        .into_iter()
        .map(|cluster| {
            let origin = Origin::start(move |connection| {
                while let Some(request) = connection.request() {
                    let line = request.split(" HTTP/1.1\r\n").next().unwrap().to_owned();
                    let body = format!("{cluster} {line}");
                    connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
                }
            });
            (cluster, origin)
        })
        .collect();
    let loadx = LoadX::of(&config(&origins));
    let rows: Vec<&str> = TABLE.lines().filter(|row| !row.is_empty() && !row.starts_with('#')).collect();
    assert!(rows.len() >= 150, "{}", rows.len());
    for row in rows {
        let (request, expected) = row.split_once(" => ").unwrap();
        let mut words = request.split(' ');
        let (method, host, target) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        let fields: String = words.map(|field| format!("{field}\r\n")).collect();
        let target = target.replace("\\\\", "\\");
        let mut client = loadx.client();
        client.send(format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n"));
        let response = if method == "HEAD" { client.response_to_head() } else { client.response() };
        let got = match (response.status, response.field("location")) {
            (200, _) if response.field("content-type").is_none() => response.text(),
            (status, Some(location)) => format!("{status} {location}"),
            (status, None) => status.to_string(),
        };
        assert_eq!(got, expected, "{row}");
    }
}

#[test]
fn a_request_that_no_route_matches_is_told_so() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let loadx = LoadX::of(&json!({
        "listeners": [{ "name": "web", "address": "127.0.0.1:0" }],
        // Lines are in order within a worker only.
        "workers": 1, "log_file": "LOG", "log_format": "json",
        "clusters": { "app": { "backends": [origin.address().to_string()] } },
        "routes": [{ "name": "app", "hosts": ["a"], "cluster": "app" }],
    }));
    let refused = loadx.client().send("GET / HTTP/1.1\r\nHost: b\r\n\r\n").response();
    assert_eq!((refused.status, refused.json()["error"].as_str()), (404, Some("destination_not_found")));
    assert_eq!(refused.field("connection"), None, "the connection may go on");
    assert_eq!(loadx.client().send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").response().text(), "ok");
    let log = crate::support::eventually("both requests have their line", || {
        let log = loadx.access_log();
        (log.lines().count() == 2).then_some(log)
    });
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines[0]["route"].is_null() && lines[0]["status"] == 404, "{log}");
    assert_eq!((&lines[1]["route"], &lines[1]["cluster"]), (&json!("app"), &json!("app")));
    let metrics = loadx.metrics();
    let counted = &metrics["clusters"]["app"];
    assert_eq!((&counted["requests"], &counted["errors"]), (&json!(1), &json!(0)));
    let times = &counted["response_times"];
    assert!(times["average"].as_f64().unwrap() > 0.0, "{times}");
    assert_eq!((&times["p50"], &times["p99"]), (&times["maximum"], &times["maximum"]), "of one request");
    let cluster = &loadx.status()["clusters"]["app"];
    assert_eq!((&cluster["healthy_backends"], &cluster["total_requests"]), (&json!(1), &json!(1)));
    assert_eq!(&cluster["response_times"], times);
}

#[test]
fn fields_and_hosts_are_changed_as_the_route_says() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nServer: app\r\nX-Old: 1\r\nContent-Length: 2\r\n\r\nok");
    let loadx = LoadX::of(&json!({
        "listeners": [{ "address": "127.0.0.1:0" }],
        "clusters": { "app": { "backends": [origin.address().to_string()] } },
        "routes": [{
            "name": "edge", "cluster": "app", "rewrite": { "host": "Inner.example:8080" },
            "request_headers": {
                "set": { "X-Env": "prod", "x-forwarded-proto": "https", "x-from": "{client_ip} {host}{path}" },
                "add": { "x-tag": "b" }, "remove": ["X-Debug"]
            },
            "response_headers": { "set": { "server": "edge", "x-route": "{route}" }, "remove": ["x-old"] }
        }],
    }));
    let response = loadx
        .client()
        .send("GET /a?b HTTP/1.1\r\nHost: Outer.example:1\r\nx-env: dev\r\nX-DEBUG: 1\r\nx-tag: a\r\nX-Request-Id: mine\r\n\r\n")
        .response();
    let request = origin.requests()[0].clone();
    let lines: Vec<&str> = request.split("\r\n").collect();
    let id = response.field("x-request-id").unwrap();
    for wanted in [
        "Host: inner.example:8080",
        "X-Env: prod",
        "x-forwarded-proto: https",
        "x-from: 127.0.0.1 outer.example/a",
        "x-tag: a",
        "x-tag: b",
        "X-Forwarded-Host: Outer.example:1",
        &format!("X-Request-Id: {id}"),
    ] {
        assert_eq!(lines.iter().filter(|line| **line == wanted).count(), 1, "{wanted}: {request}");
    }
    let lower = request.to_ascii_lowercase();
    for (field, count) in [
        ("\r\nhost:", 1),
        ("\r\nx-env:", 1),
        ("\r\nx-debug:", 0),
        ("\r\nx-forwarded-proto:", 1),
        ("\r\nx-request-id:", 1),
    ] {
        assert_eq!(lower.matches(field).count(), count, "{field} {request}");
    }
    assert_eq!((response.field("server"), response.field("x-route")), (Some("edge"), Some("edge")));
    assert_eq!((response.field("x-old"), response.text().as_str()), (None, "ok"));
    assert_eq!((id.len(), id == "mine"), (16, false), "a stranger does not name requests");
}

#[test]
fn a_mirror_gets_a_copy_and_never_fails_the_request() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let mirror = Origin::start(|connection| {
        // The origin reads every copy and answers none.
        while connection.request().is_some() {}
    });
    let loadx = LoadX::of(&json!({
        "listeners": [{ "address": "127.0.0.1:0" }], "workers": 1,
        "clusters": {
            "app": { "backends": [origin.address().to_string()] },
            "copy": { "backends": [mirror.address().to_string()], "health": { "probe": "off" } }
        },
        "routes": [{ "cluster": "app", "mirror": "copy" }],
    }));
    let mut client = loadx.client();
    assert_eq!(client.get("/plain").response().text(), "ok");
    client.send("POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(client.response().text(), "ok");
    let copies = crate::support::eventually("both copies came", || {
        let copies = mirror.requests();
        (copies.len() == 2).then_some(copies)
    });
    let whole = |start: &str| copies.iter().any(|copy| copy.starts_with(start));
    assert!(copies.iter().all(|copy| copy.contains("\r\nConnection: close\r\n")), "{copies:?}");
    assert!(
        whole("GET /plain HTTP/1.1\r\n") && copies.iter().any(|copy| copy.ends_with("\r\n\r\nhello")),
        "{copies:?}"
    );
    assert_eq!(origin.requests().len(), 2);
    assert_eq!(loadx.metrics()["mirrored"], 2);
}

#[test]
fn copies_count_in_the_figures_of_their_cluster_and_fail_visibly() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let answers = Origin::start(|connection| {
        connection.request();
        connection.send("HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        connection.end();
    });
    let closes = Origin::start(|connection| {
        connection.request();
        connection.end();
    });
    let loadx = LoadX::of(&json!({
        "listeners": [{ "address": "127.0.0.1:0" }], "workers": 1,
        "clusters": {
            "app": { "backends": [origin.address().to_string()] },
            "answers": { "backends": [answers.address().to_string()], "health": { "probe": "off" } },
            "closes": { "backends": [closes.address().to_string()], "health": { "probe": "off" } }
        },
        "routes": [
            { "path": "/a", "cluster": "app", "mirror": "answers" },
            { "path": "/c", "cluster": "app", "mirror": "closes" },
        ],
    }));
    let mut client = loadx.client();
    for path in ["/a", "/c", "/c"] {
        assert_eq!(client.get(path).response().text(), "ok");
    }
    let metrics = crate::support::eventually("all copies ended", || {
        let metrics = loadx.metrics();
        let ended = |cluster: &str| metrics["clusters"][cluster]["requests"].as_u64().unwrap();
        (ended("answers") == 1 && ended("closes") == 2).then_some(metrics)
    });
    assert_eq!((&metrics["mirrored"], &metrics["mirrors_failed"]), (&json!(3), &json!(2)));
    assert_eq!(metrics["clusters"]["answers"]["errors"], 1);
    assert_eq!(metrics["backends"][closes.address().to_string()]["errors"], 2);
    assert_eq!((&metrics["total_requests"], &metrics["total_errors"]), (&json!(3), &json!(0)));
}

#[test]
fn listeners_have_routes_and_endpoints_of_their_own() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let loadx = LoadX::of(&json!({
        "listeners": [
            { "name": "web", "address": "127.0.0.1:0" },
            { "name": "inner", "address": "127.0.0.2:0", "endpoints": true }
        ],
        "clusters": { "app": { "backends": [origin.address().to_string()] } },
        "routes": [
            { "listeners": ["inner"], "path_prefix": "/admin", "cluster": "app" },
            { "listeners": ["web"], "path": "/", "cluster": "app" }
        ],
    }));
    let [web, inner] = loadx.addresses()[..] else { panic!("two addresses") };
    let get = |at, path: &str| crate::support::Client::connect(at).get(path).response().status;
    assert_eq!((get(web, "/"), get(web, "/admin"), get(web, "/__health__")), (200, 404, 404));
    assert_eq!((get(inner, "/"), get(inner, "/admin"), get(inner, "/__health__")), (404, 200, 200));
}
