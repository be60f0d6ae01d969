//! Why requests were served as they were.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{LoadX, Origin, unused_address};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const TOKEN: &str = "a token of more than sixteen bytes";

/// A LoadX with a token, and a route to each of two clusters: one with a backend that refuses connections and one that answers,
/// one that only refuses.
fn start(origin: &Origin) -> LoadX {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, TOKEN).unwrap();
    let (closed, gone) = (unused_address().to_string(), unused_address().to_string());
    LoadX::of(&json!({
        "listeners": [{ "name": "front", "address": "127.0.0.1:0" }],
        "clusters": {
            "web": { "backends": [closed, origin.address().to_string()], "health": { "probe": "off" }, "resilience": { "outliers": "off" } },
            "gone": { "backends": [gone], "health": { "probe": "off" } },
        },
        "routes": [
            { "name": "gone", "path_prefix": "/gone", "cluster": "gone" },
            { "name": "posts", "path_prefix": "/", "methods": ["POST"], "cluster": "web" },
            { "name": "site", "cluster": "web" },
        ],
        "workers": 1,
        "admin": { "address": "127.0.0.1:0", "token_file": file },
    }))
}

fn asked(loadx: &LoadX, path: &str, token: &str) -> (String, Option<String>) {
    let head = format!("GET {path} HTTP/1.1\r\nHost: a.test\r\nX-LoadX-Explain: {token}\r\n\r\n");
    let response = loadx.client().send(head).response();
    let id = response.field("x-request-id").unwrap().to_owned();
    (id, response.field("x-loadx-explained").map(str::to_owned))
}

#[test]
fn a_request_that_asks_with_the_token_is_explained_in_full() {
    let origin = Origin::answering(OK);
    let loadx = start(&origin);
    // Of two requests one meets the closed backend first.
    let explained: Vec<(String, String)> = (0..2)
        .map(|_| {
            let (id, told) = asked(&loadx, "/a", TOKEN);
            (id, told.unwrap())
        })
        .collect();
    for (id, told) in &explained {
        let expected = format!("route=site; cluster=web; backend={}; loadx ctl explain {id}", origin.address());
        assert_eq!(*told, expected);
    }
    let all: Vec<Value> = explained.iter().map(|(id, _)| loadx.ctl_json(&["explain", id])).collect();
    let retried = all.iter().find(|one| one["attempts"].as_array().unwrap().len() == 2).unwrap();
    assert_eq!(
        (&retried["route"], &retried["listener"], &retried["status"]),
        (&json!("site"), &json!("front"), &json!(200))
    );
    let not_taken = retried["not_taken"].as_array().unwrap();
    assert_eq!(not_taken.iter().map(|one| one["route"].as_str().unwrap()).collect::<Vec<_>>(), ["gone", "posts"]);
    let [first, second] = &retried["attempts"].as_array().unwrap()[..] else { panic!("{retried}") };
    assert!(first["failure"].as_str().unwrap().contains("refused"), "{first}");
    assert_eq!((&first["in_rotation"], first["candidates"].as_array().unwrap().len()), (&json!(2), 2));
    assert_eq!((&second["backend"], &second["failure"]), (&json!(origin.address().to_string()), &Value::Null));
    assert_eq!(second["candidates"][0]["passed_over"], "the request has tried it");
    let text = loadx.ctl(&["explain", retried["id"].as_str().unwrap()]).stdout;
    for line in [
        "route      site",
        "           not gone: ",
        "attempt 2  ",
        "failed: LoadX could not connect",
        "answer     200 after ",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    for request in origin.requests() {
        assert!(!request.to_ascii_lowercase().contains("x-loadx-explain"), "no backend gets the token: {request}");
    }
}

#[test]
fn failures_are_explained_unasked_and_a_wrong_token_explains_nothing() {
    let origin = Origin::answering(OK);
    let loadx = start(&origin);
    let (id, told) = asked(&loadx, "/gone", "a wrong token of the same length..");
    assert_eq!(told, None);
    let failed = loadx.ctl_json(&["explain", &id]);
    assert_eq!((&failed["status"], &failed["fault"]), (&json!(502), &json!("backend")));
    assert_eq!((&failed["error_kind"], &failed["cluster"]), (&json!("connection_refused"), &json!("gone")));
    assert!(failed["attempts"][0]["failure"].as_str().unwrap().contains("refused"), "{failed}");
    assert_eq!(failed["not_taken"], json!([]), "{failed}");
    assert!(loadx.ctl(&["explain"]).stdout.contains(&id));

    (0..3).for_each(|_| drop(asked(&loadx, "/posts", "wrong")));
    let quiet = loadx.ctl_json(&["explain"]);
    assert!(
        quiet
            .as_array()
            .unwrap()
            .iter()
            .all(|one| one["status"] != 200 || one["attempts"].as_array().unwrap().len() > 1)
    );
    let unknown = loadx.ctl(&["explain", "0123456789abcdef"]);
    assert!(unknown.code == Some(1) && unknown.stderr.contains("X-LoadX-Explain"), "{unknown:?}");
    for request in origin.requests() {
        assert!(!request.to_ascii_lowercase().contains("x-loadx-explain"), "{request}");
    }
}

#[test]
fn what_loadx_answers_itself_is_explained_and_failures_push_nothing_out() {
    let origin = Origin::answering(OK);
    let loadx = start(&origin);
    let head = format!("OPTIONS /gone HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 0\r\nX-LoadX-Explain: {TOKEN}\r\n\r\n");
    let options = loadx.client().send(head).response();
    let own = options.field("x-request-id").unwrap().to_owned();
    let bad = asked(&loadx, "/%zz", TOKEN);
    let gone = asked(&loadx, "/gone", TOKEN);
    assert_eq!(options.field("x-loadx-explained"), Some(&*format!("route=-; loadx ctl explain {own}")));
    assert_eq!(bad.1, Some(format!("route=-; loadx ctl explain {}", bad.0)));
    assert_eq!(gone.1, Some(format!("route=gone; loadx ctl explain {}", gone.0)));
    (0..70).for_each(|_| drop(asked(&loadx, "/gone", "wrong")));
    for (id, status) in [(own, 200), (bad.0, 400), (gone.0, 502)] {
        assert_eq!(loadx.ctl_json(&["explain", &id])["status"], status, "{id}");
    }
}

#[test]
fn no_backend_gets_the_field_however_it_is_spelled() {
    let origin = Origin::answering(OK);
    // Without a token of the admin API, and with one.
    for loadx in [LoadX::before(&[origin.address()]), start(&origin)] {
        for name in ["X-LoadX-Explain", "x-loadx-explain", "X_LoadX_Explain"] {
            let head = format!("GET /site HTTP/1.1\r\nHost: a.test\r\n{name}: {TOKEN}\r\n\r\n");
            assert_eq!(loadx.client().send(head).response().status, 200);
        }
        let chunked = format!(
            "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-LoadX-Explain: {TOKEN}\r\n\r\n"
        );
        loadx.client().send(chunked).response();
    }
    assert!(origin.requests().len() >= 6);
    for request in origin.requests() {
        assert!(!request.contains(TOKEN), "{request}");
    }
}

#[test]
fn only_the_last_explanations_are_kept() {
    let origin = Origin::answering(OK);
    let loadx = start(&origin);
    let ids: Vec<String> = (0..70).map(|_| asked(&loadx, "/gone", "wrong").0).collect();
    let kept = loadx.ctl_json(&["explain"]);
    let kept: Vec<&str> = kept.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(kept, ids[6..]);
}
