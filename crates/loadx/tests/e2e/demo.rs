//! The demo: a failed backend costs no request, and the demo ends on request.

use crate::support::{Demo, eventually, loadx, unused_ports};

/// The share of `backend` in a line of the demo, in percent.
fn share(line: &str, backend: &str) -> Option<u32> {
    let after = line.split_once(&format!("{backend} "))?.1;
    after.split_once('%')?.0.trim().parse().ok()
}

#[test]
fn a_backend_dies_and_returns_and_no_request_fails() {
    let output = loadx(&["demo", "--once", "--port", "0", "--backend-port", &unused_ports(3).to_string()]);
    assert_eq!(output.code, Some(0), "{output:?}");
    let (healthy, rest) = output.stdout.split_once("The demo kills backend-2").unwrap();
    let (dead, rest) = rest.split_once("The demo starts backend-2 again").unwrap();
    let (back, ending) = rest.split_once("backend-2 died and came back").unwrap();
    let shares = |scene: &str| scene.lines().filter_map(|line| share(line, "backend-2")).collect::<Vec<_>>();
    assert!(shares(healthy).iter().any(|share| *share > 0), "{output:?}");
    assert!(shares(dead).contains(&0), "{output:?}");
    assert!(shares(back).iter().any(|share| *share > 0), "{output:?}");
    let lines: Vec<&str> = output.stdout.lines().filter(|line| line.contains("requests/s")).collect();
    assert!(lines.iter().all(|line| line.ends_with("  0 failed")), "{output:?}");
    for told in ["requests sent, 0 failed: backend-1 answered ", "/__status__", "/health/fail", "have stopped\n"] {
        assert!(ending.contains(told), "{told}: {output:?}");
    }
    for event in ["backend backend-2 is down: ", "backend backend-2 is up: "] {
        assert!(output.stderr.contains(event), "{event}: {output:?}");
    }
    assert!(!output.stdout.contains('\x1b'), "only a terminal gets lines in place of others: {output:?}");
}

#[test]
fn the_option_for_ends_the_demo() {
    let output = loadx(&["demo", "--for", "0.1", "--port", "0", "--backend-port", &unused_ports(3).to_string()]);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.stdout.contains(" requests/s ") && output.stdout.ends_with("have stopped\n"), "{output:?}");
}

#[test]
fn ctrl_c_ends_the_demo() {
    let mut demo = Demo::start();
    eventually("the demo shows traffic", || demo.stdout().contains(" requests/s ").then_some(()));
    let status = demo.interrupt();
    assert!(status.success() && demo.stdout().ends_with("have stopped\n"), "{status}: {}", demo.stdout());
}
