//! Fuzz targets: functions from bytes, one for each thing that reads bytes of others. None of
//! them may panic, whatever the bytes; most also hold what they read against a property.
//!
//! | module | what lives there |
//! |---|---|
//! | [`target`] | the targets |
//! | [`mutation`] | changes inputs at random, from a seed: for machines without a fuzzer |
//! | [`corpus`] | the committed inputs |
//!
//! `fuzz/` has a program for each target, for cargo-fuzz, which needs a nightly compiler. The
//! test `fuzz_corpora` replays the committed inputs on stable, and mutates them for a while.

pub mod corpus;
pub mod mutation;
pub mod target;

/// One target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: that of its program, and of its folder of inputs.
    pub name: &'static str,
    /// Reads one input; panics if something is wrong.
    pub run: fn(&[u8]),
    /// Words of its language, for the mutator.
    pub words: &'static [&'static str],
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "frame", run: target::frame, words: JSON },
    Target { name: "command", run: target::command, words: JSON },
    Target { name: "event", run: target::event, words: JSON },
    Target { name: "api_body", run: target::api_body, words: JSON },
    Target {
        name: "byte_range",
        run: target::byte_range,
        words: &["bytes", "=", "-", ",", "18446744073709551615"],
    },
    Target { name: "agent_config", run: target::agent_config, words: TOML },
    Target { name: "controller_config", run: target::controller_config, words: TOML },
    Target { name: "mp4", run: target::mp4, words: &["ftyp", "moov", "mvhd", "mdat", "free", "\0\0\0\x01"] },
    Target { name: "adb_answer", run: target::adb_answer, words: ADB },
    Target { name: "phone_answer", run: target::phone_answer, words: PHONE },
];

const JSON: &[&str] = &[
    "null",
    "true",
    "[]",
    "{}",
    "\"\"",
    "-1",
    "0",
    "1e999",
    "18446744073709551615",
    "18446744073709551616",
    "0.1",
    "\"kind\":",
    "\"data\":",
    "\"items\":[",
    "\\u0000",
    "\\ud800",
    "9223372036854775807",
    "\"2026-01-01T00:00:00Z\"",
    "\"018f3b2a-0000-7000-8000-000000000001\"",
];
const TOML: &[&str] = &[
    "[",
    "]",
    "=",
    "\"",
    "\n",
    "true",
    "-1",
    "1e400",
    "99999999999999999999",
    "inf",
    "nan",
    "0s",
    "1h",
    "20000-20099",
    "65535-1",
    "[[",
    "''",
    "{}",
    "mqtt",
    "host_id",
    "[ports]",
];
const ADB: &[&str] = &[
    "OKAY",
    "FAIL",
    "ffff",
    "0000",
    "DATA",
    "DONE",
    "\x01\0\0\0\0",
    "\x03\x01\0\0\0\0",
    "device",
    "\t",
    "+001",
];
const PHONE: &[&str] = &[
    "runs ",
    "boot ",
    "init ",
    "size ",
    "uptime ",
    "left ",
    "launched",
    "refused",
    "end",
    "18446744073709551615",
    "184467440737095516.99",
    "4294967295",
    "-1",
    "\n",
    " ",
    ".",
    "\u{e9}",
];
