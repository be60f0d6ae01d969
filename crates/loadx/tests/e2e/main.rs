//! Tests of the public interfaces of LoadX: bytes on a socket, and the command line. One binary, so that it links once.
//! Every test has its own processes and ports; no test waits for a fixed time.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod aborts;
mod acme;
mod admin_api;
mod backend_h2;
mod backend_h2_ends;
mod backend_tls;
mod bad_input;
mod balancing;
mod bench;
mod binary_upgrade;
mod bodies;
mod bounds;
mod cases;
mod certs;
mod client_certificates;
mod crash_steps;
mod ctl;
mod demo;
mod docs;
mod drains;
mod endpoints;
mod explain;
mod failover;
mod forwarding;
mod grpc;
mod grpc_judges;
mod h2;
mod h2_backend_cases;
mod h2_cases;
mod h2_ends;
mod h2_judges;
mod help;
mod http;
mod lifecycle;
mod logs;
mod one_meaning;
mod options;
mod own_responses;
mod plan;
mod proxy_protocol;
mod reload;
mod routing;
mod scenarios;
mod signals;
mod simulator;
mod support;
mod systemd;
mod terminal;
mod tls;
mod tls_judges;
mod traps;
mod trials;
mod upgrade;
