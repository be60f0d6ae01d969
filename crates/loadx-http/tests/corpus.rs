//! The fuzz properties hold for the initial inputs of the fuzz targets and for inputs that once failed.

use std::path::Path;

#[path = "../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "there it is a library, of which the fuzz targets use one check each")]
mod checks;

fn run(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut inputs = 0;
    for entry in std::fs::read_dir(&folder).expect("the corpus is there") {
        let path = entry.expect("the corpus can be read").path();
        check(&std::fs::read(&path).expect("an input can be read"));
        inputs += 1;
    }
    assert!(inputs > 0, "no inputs in {}", folder.display());
}

#[test]
fn request_heads() {
    run("request_head", checks::request_head);
}

#[test]
fn response_heads() {
    run("response_head", checks::response_head);
}

#[test]
fn chunked_bodies() {
    run("chunked_body", checks::chunked_body);
}

#[test]
fn forwarding() {
    run("forwarding", checks::forwarding);
}

#[test]
fn routing() {
    run("routing", checks::routing);
}

#[test]
fn hpack() {
    run("hpack", checks::h2::hpack);
}

#[test]
fn h2_frames() {
    run("h2_frames", checks::h2::frames);
}

#[test]
fn h2_answers() {
    run("h2_answers", checks::h2::answers);
}

#[test]
fn h2_as_server() {
    run("h2_as_server", checks::h2_peers::as_server);
}

#[test]
fn h2_as_client() {
    run("h2_as_client", checks::h2_peers::as_client);
}

#[test]
fn h2_connections() {
    run("h2_connections", checks::h2::connections);
}

#[test]
fn h2_messages() {
    run("h2_messages", checks::h2::messages);
}
