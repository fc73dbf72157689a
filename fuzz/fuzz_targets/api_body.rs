#![no_main]
//! See `phonefleet_tests::fuzz::target::api_body`.

libfuzzer_sys::fuzz_target!(|input: &[u8]| phonefleet_tests::fuzz::target::api_body(input));
