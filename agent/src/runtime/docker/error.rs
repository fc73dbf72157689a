//! What the engine's errors mean to the caller.
//!
//! The engine's status codes say little: a start that can never work and an engine that is
//! going down are both 500. Its words decide; they were read in releases 20.10 to 28 and
//! provoked on 20.10 and 26.1. What is not recognised is [`EngineError::Unavailable`], because
//! looking again and retrying is right for the unknown.

use crate::runtime::{ContainerSpec, EngineError};
use bollard::errors::Error;
use std::error::Error as _;
use std::time::Duration;

/// The status code, if the engine answered at all.
pub(super) fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

pub(super) fn words(error: &Error) -> String {
    if let Error::DockerResponseServerError { message, .. } = error {
        return message.trim().to_owned();
    }
    // The outermost text is only "client error (Connect)".
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text
}

pub(super) fn unavailable(error: &Error) -> EngineError {
    EngineError::Unavailable(words(error))
}

pub(super) fn silent(deadline: Duration) -> EngineError {
    EngineError::Unavailable(format!(
        "no answer within {} s; it, or its containerd, hangs or is overloaded",
        deadline.as_secs()
    ))
}

/// A call that only looks: whatever fails, the engine cannot be asked now.
pub(super) fn of_look(error: &Error) -> EngineError {
    match error {
        Error::DockerResponseServerError { status_code: 400..=499, message } => {
            EngineError::Refused(message.clone())
        }
        other => unavailable(other),
    }
}

pub(super) fn of_create(error: &Error, spec: &ContainerSpec) -> EngineError {
    let text = words(error);
    match status(error) {
        Some(404) if text.contains("No such image") || text.contains("not found: manifest") => {
            EngineError::ImageMissing(spec.image.clone())
        }
        Some(409) if text.contains("already in use by container") => {
            EngineError::NameTaken(spec.name.clone())
        }
        Some(code) => by_words(code, text),
        None => EngineError::Unavailable(text),
    }
}

pub(super) fn of_start(error: &Error, id: &str) -> EngineError {
    let text = words(error);
    match status(error) {
        Some(404) if text.contains("No such container") => EngineError::NotFound(id.to_owned()),
        Some(code) => by_words(code, text),
        None => EngineError::Unavailable(text),
    }
}

pub(super) fn of_remove(error: &Error) -> EngineError {
    match status(error) {
        // "could not kill", "device or resource busy": true now, often not a moment later.
        Some(409 | 500..=599) | None => unavailable(error),
        Some(_) => EngineError::Refused(words(error)),
    }
}

pub(super) fn is_paused(error: &Error) -> bool {
    status(error) == Some(409) && words(error).contains("paused")
}

/// The engine, killed in mid-start, stumbles over what is left of that start, and would for
/// good: an endpoint of the container's name, or containerd's idea of the container's id.
pub(super) fn is_leftover(error: &Error) -> bool {
    let text = words(error);
    let endpoint = text.contains("endpoint with name") && text.contains("already exists in network");
    let task = text.contains("task ") && text.ends_with(": already exists");
    endpoint || task || text.ends_with("id already in use")
}

pub(super) fn is_not_running(error: &Error) -> bool {
    match status(error) {
        Some(404) => true,
        // 20.10 says it with 409, some older ones with 500.
        Some(409 | 500) => words(error).contains("is not running"),
        _ => false,
    }
}

pub(super) fn is_gone_or_going(error: &Error) -> bool {
    match status(error) {
        Some(404) => true,
        Some(409) => words(error).contains("already in progress"),
        _ => false,
    }
}

/// The engine or its containerd is on its way down or up, whatever else the text says.
const PASSING: &[&str] = &[
    "context canceled",
    "context deadline exceeded",
    "connection refused",
    "transport is closing",
    "connection closed",
    "ttrpc: closed",
    "shutting down",
    "error reading from server",
    "containerd.sock",
];

/// Words of refusals that come with 5xx and would come again.
const LASTING: &[&str] = &[
    "OCI runtime",
    "runc create failed",
    "unable to apply caps",
    "operation not permitted",
    "can't get final child's PID",
    "error setting rlimit",
    "invalid argument",
    "exec format error",
    "invalid mount config",
    "no available IPv4 addresses",
    "no such file or directory",
    "failed to create shim",
];

fn by_words(code: u16, text: String) -> EngineError {
    if text.contains("port is already allocated") || text.contains("address already in use") {
        return EngineError::PortTaken { port: port_in(&text), detail: text };
    }
    // Not the fault of this container, and over as soon as somebody restarts the engine.
    if bridge_is_gone(&text) {
        return EngineError::Unavailable(format!(
            "the engine's own network is gone, so it cannot start any container: restart the engine \
             (a second engine in one network namespace deletes the first one's bridge): {text}"
        ));
    }
    if PASSING.iter().any(|words| text.contains(words)) {
        return EngineError::Unavailable(text);
    }
    if (400..500).contains(&code) || LASTING.iter().any(|words| text.contains(words)) {
        return EngineError::Refused(text);
    }
    EngineError::Unavailable(text)
}

/// The first in words of 20.10, the second in those of 26.1.
fn bridge_is_gone(text: &str) -> bool {
    text.contains("could not find bridge")
        || (text.contains("adding interface")
            && text.contains("to bridge")
            && text.contains("Device does not exist"))
}

/// The first port that follows an address, as in `127.0.0.1:20000`; 0 without one.
fn port_in(text: &str) -> u16 {
    let bytes = text.as_bytes();
    for (at, _) in text.match_indices(':') {
        let after_address =
            at > 0 && (bytes[at - 1].is_ascii_digit() || matches!(bytes[at - 1], b']' | b':' | b'*'));
        let digits: String = text[at + 1..].chars().take_while(char::is_ascii_digit).take(6).collect();
        let next = bytes.get(at + 1 + digits.len());
        if after_address
            && !matches!(next, Some(b'.' | b']'))
            && let Ok(port @ 1..) = digits.parse()
        {
            return port;
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Privilege;

    fn answer(status_code: u16, message: &str) -> Error {
        Error::DockerResponseServerError { status_code, message: message.to_owned() }
    }

    fn spec() -> ContainerSpec {
        ContainerSpec {
            name: "phonefleet-x".into(),
            image: "a:b".into(),
            command: vec![],
            labels: [].into(),
            memory_bytes: 0,
            nano_cpus: 0,
            pids_limit: 0,
            shm_bytes: 0,
            open_files: (0, 0),
            bind: "127.0.0.1".parse().unwrap(),
            adb_port: 1,
            data_dir: "/".into(),
            privilege: Privilege::None,
        }
    }

    #[test]
    fn creation() {
        let of = |code, text: &str| of_create(&answer(code, text), &spec());
        assert_eq!(of(404, "No such image: a:b"), EngineError::ImageMissing("a:b".into()));
        assert_eq!(
            of(409, "Conflict. The container name \"/phonefleet-x\" is already in use by container \"1f\"."),
            EngineError::NameTaken("phonefleet-x".into())
        );
        assert!(matches!(
            of(400, "invalid mount config for type \"bind\": bind source path does not exist: /x"),
            EngineError::Refused(_)
        ));
        assert!(matches!(of(400, "Range of CPUs is from 0.01 to 2.00"), EngineError::Refused(_)));
        assert!(matches!(of(503, "what"), EngineError::Unavailable(_)));
        assert!(matches!(of(500, "write /x: no space left on device"), EngineError::Unavailable(_)));
    }

    #[test]
    fn starts() {
        let of = |code, text: &str| of_start(&answer(code, text), "id");
        for (text, port) in [
            (
                "driver failed programming external connectivity on endpoint phonefleet-01 (0aef): \
                 Bind for 127.0.0.1:20000 failed: port is already allocated",
                20_000,
            ),
            (
                "driver failed programming external connectivity on endpoint x (16): Error starting \
                 userland proxy: listen tcp4 0.0.0.0:20011: bind: address already in use",
                20_011,
            ),
            (
                "failed to set up container networking: driver failed programming external \
                 connectivity on endpoint x (16): failed to bind host port for \
                 127.0.0.1:20012:172.17.0.2:5555/tcp: address already in use",
                20_012,
            ),
            ("Bind for [::1]:20013 failed: port is already allocated", 20_013),
            ("Bind for :::20014 failed: port is already allocated", 20_014),
            ("port is already allocated", 0),
            ("1:99999999 port is already allocated", 0),
        ] {
            let expected = EngineError::PortTaken { port, detail: text.to_owned() };
            assert_eq!(of(500, text), expected);
        }
        for text in [
            "OCI runtime create failed: container_linux.go:380: starting container process caused: apply \
             caps: operation not permitted: unknown",
            "OCI runtime create failed: error setting rlimits for ready process: error setting rlimit type 7",
            "container_linux.go:380: can't get final child's PID from pipe: EOF",
        ] {
            assert!(matches!(of(500, text), EngineError::Refused(_)), "{text}");
        }
        for text in [
            "could not find bridge docker0: no such network interface",
            "failed to create endpoint x on network bridge: adding interface veth1 to bridge docker0 \
             failed: Device does not exist",
        ] {
            let EngineError::Unavailable(text) = of(404, text) else { panic!("not a passing fault") };
            assert!(text.contains("restart the engine"), "{text}");
        }
        assert_eq!(of(404, "No such container: id"), EngineError::NotFound("id".into()));
        for text in [
            "endpoint with name x already exists in network bridge",
            "task 19206f8c706d: already exists",
            "failed to create task for container: id already in use",
            "id already in use",
        ] {
            assert!(is_leftover(&answer(500, text)), "{text}");
        }
        assert!(!is_leftover(&answer(500, "Bind for 127.0.0.1:20000 failed: port is already allocated")));
        assert!(matches!(
            of(500, "OCI runtime create failed: context canceled: unknown"),
            EngineError::Unavailable(_)
        ));
        assert!(matches!(of(500, ""), EngineError::Unavailable(_)));
    }
}
