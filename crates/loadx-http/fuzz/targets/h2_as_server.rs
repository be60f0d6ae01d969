#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| loadx_http_fuzz::h2_peers::as_server(data));
