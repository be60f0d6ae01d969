//! The whole proxy, its backends and its clients in one thread, on virtual time and a network that follows
//! from a seed. Whatever goes wrong on the way, every response reaches the client that asked for it, whole
//! and unchanged or visibly broken; nothing is sent twice that must not be; and when all is over, nothing
//! is left.
//!
//! A failure tells its seed; `LOADX_SEED=n cargo test -p loadx-proxy --test simulation` runs that one again,
//! and `LOADX_SEEDS=n` as many as one likes.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod client;
mod network;
mod origin;
mod plan;
mod stream;
mod weather;
mod wire;
mod world;

use std::panic::catch_unwind;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

#[test]
fn whatever_the_network_does() {
    if let Some(seed) = number("LOADX_SEED") {
        println!("seed {seed}: {:?}", world::run(seed));
        return;
    }
    let mut all = std::collections::BTreeMap::new();
    for seed in 0..number("LOADX_SEEDS").unwrap_or(100) {
        match catch_unwind(|| world::run(seed)) {
            Ok(outcome) => {
                for (verdict, count) in outcome.verdicts {
                    *all.entry(verdict).or_insert(0) += count;
                }
            }
            Err(_) => panic!(
                "seed {seed} failed; to see it again: LOADX_SEED={seed} cargo test -p loadx-proxy --test simulation"
            ),
        }
    }
    println!("{all:?}");
}

#[test]
fn a_backend_that_speaks_before_it_is_asked_is_not_believed() {
    let stray = "HTTP/1.1 200 OK\r\nX-Id: stray\r\nContent-Length: 0\r\n\r\n";
    // Seeds of which the clients must all be answered well.
    for seed in (0..80).step_by(4) {
        world::run_with(seed, |net| net.greet(world::BACKEND.parse().unwrap(), stray));
    }
}

#[test]
fn a_seed_tells_all_that_happens() {
    for seed in [1, 2, 3, 7] {
        assert_eq!(world::run(seed), world::run(seed), "seed {seed}");
    }
}
