#![no_main]
//! See `phonefleet_tests::fuzz::target::byte_range`.

libfuzzer_sys::fuzz_target!(|input: &[u8]| phonefleet_tests::fuzz::target::byte_range(input));
