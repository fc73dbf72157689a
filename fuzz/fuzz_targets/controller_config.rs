#![no_main]
//! See `phonefleet_tests::fuzz::target::controller_config`.

libfuzzer_sys::fuzz_target!(|input: &[u8]| phonefleet_tests::fuzz::target::controller_config(input));
