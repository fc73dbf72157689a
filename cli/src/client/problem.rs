//! Refusals of the controller (`application/problem+json`, RFC 9457), and what they mean here.

use crate::failure::Exit;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::fmt;

/// A refusal as it was sent. Members that are missing are empty.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// The same for every refusal of a code.
    pub title: String,
    /// What is wrong, and what to do.
    pub detail: String,
    /// Stable name, such as `QUOTA_EXCEEDED`.
    pub code: String,
    /// Every bad field.
    pub errors: Vec<FieldFault>,
    /// Further members, such as `sagaId`.
    #[serde(flatten)]
    pub members: Map<String, Value>,
}

/// One bad field.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct FieldFault {
    /// Its JSON pointer, such as `/memoryMB`.
    pub pointer: String,
    /// What is wrong with it.
    pub detail: String,
}

impl Refusal {
    /// What a script learns of it.
    pub fn exit(&self) -> Exit {
        match self.code.as_str() {
            "QUOTA_EXCEEDED" | "NO_CAPACITY" => Exit::NoRoom,
            // Whether it took effect is unknown to the controller itself.
            "TIMEOUT" => Exit::TimedOut,
            "NOT_READY" => Exit::Failed,
            _ => match self.status {
                400 | 413 | 415 => Exit::Usage,
                404 | 410 => Exit::NotFound,
                409 | 422 => Exit::Conflict,
                502..=504 => Exit::Unreachable,
                _ => Exit::Failed,
            },
        }
    }

    /// A member of text.
    pub fn member(&self, name: &str) -> Option<&str> {
        self.members.get(name).and_then(Value::as_str)
    }

    /// What to do next, where the refusal itself cannot say it in terms of this program.
    fn hint(&self) -> Option<String> {
        Some(match self.code.as_str() {
            "QUOTA_EXCEEDED" => {
                let limit = self.member("limit").unwrap_or("the limit");
                format!("delete or stop a device, or raise {limit}: phonefleet quota set")
            }
            "NO_CAPACITY" => "look at the hosts: phonefleet host list".to_owned(),
            "CONFLICT" => {
                if let Some(saga) = self.member("sagaId") {
                    format!("follow it: phonefleet saga events {saga} --watch")
                } else if let Some(recording) = self.member("recordingId") {
                    format!("end it: phonefleet recording stop {recording}")
                } else {
                    return None;
                }
            }
            "IDEMPOTENCY_KEY_REUSED" => {
                "repeat the same command with this key, or leave the key out".to_owned()
            }
            "ORIGIN_NOT_ALLOWED" => {
                "the controller answers to 127.0.0.1, [::1] and localhost only: use one of them, through an \
                 SSH tunnel from elsewhere"
                    .to_owned()
            }
            "INTERNAL" => "this is a fault of the controller: its log says more".to_owned(),
            "HOST_UNREACHABLE" => {
                format!(
                    "see how the host is: phonefleet host get {}",
                    self.member("hostId").unwrap_or("HOST")
                )
            }
            "BUSY" | "STORE_UNAVAILABLE" => "try again in a moment".to_owned(),
            _ => return None,
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = if self.code.is_empty() { format!("HTTP {}", self.status) } else { self.code.clone() };
        let told = if self.detail.is_empty() { &self.title } else { &self.detail };
        let fields: Vec<_> = self.errors.iter().filter(|fault| !fault.pointer.is_empty()).collect();
        if fields.is_empty() {
            write!(out, "{told} ({code})")?;
        } else {
            // The details of the fields are what the detail is made of.
            write!(out, "{} ({code})", self.title)?;
            for fault in fields {
                write!(out, "\n  {}: {}", fault.pointer, fault.detail)?;
                if let Some(flag) = flag(&fault.pointer) {
                    write!(out, " [{flag}]")?;
                }
            }
        }
        match self.hint() {
            Some(hint) => write!(out, "\n  {hint}"),
            None => Ok(()),
        }
    }
}

/// The argument that fills a field.
fn flag(pointer: &str) -> Option<&'static str> {
    Some(match pointer.split('/').nth(1)? {
        "name" => "NAME",
        "userId" => "--user",
        "image" => "--image",
        "cpuCores" => "--cpu",
        "memoryMB" => "--memory",
        "storageMB" => "--storage",
        "width" => "--width",
        "height" => "--height",
        "dpi" => "--dpi",
        "fps" => "--fps",
        "gpuMode" => "--gpu",
        "hostId" => "--host",
        "bootArgs" => "--boot-arg",
        "labels" => "--label",
        "maxDurationSeconds" => "--duration",
        "bitRate" => "--bit-rate",
        "size" => "--size",
        "maxDevices" => "--max-devices",
        "maxConcurrentDevices" => "--max-concurrent-devices",
        "deviceCpuCores" => "--device-cpu",
        "deviceMemoryMB" => "--device-memory",
        "deviceStorageMB" => "--device-storage",
        "totalCpuCores" => "--total-cpu",
        "totalMemoryMB" => "--total-memory",
        "totalStorageMB" => "--total-storage",
        "recordingBytes" => "--recording-bytes",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(value: Value) -> (String, Exit) {
        let refusal: Refusal = serde_json::from_value(value).unwrap();
        (refusal.to_string(), refusal.exit())
    }

    #[test]
    fn a_bad_field_is_named_with_its_argument() {
        let (text, exit) = told(json!({
            "type": "urn:phonefleet:problem:invalid-spec", "title": "The order of a device cannot be built",
            "status": 400, "detail": "memoryMB must be at least 64", "success": false, "code": "INVALID_SPEC",
            "pointer": "/memoryMB", "errors": [{"pointer": "/memoryMB", "detail": "memoryMB must be at least 64"}]
        }));
        assert_eq!(
            text,
            "The order of a device cannot be built (INVALID_SPEC)\n  \
             /memoryMB: memoryMB must be at least 64 [--memory]"
        );
        assert_eq!(exit, Exit::Usage);
    }

    #[test]
    fn a_conflict_names_what_to_wait_for() {
        let (text, exit) = told(json!({
            "title": "It does not fit what is there now", "status": 409, "code": "CONFLICT",
            "detail": "DEVICE_STOP is working on this device", "sagaId": "saga_1_a"
        }));
        assert_eq!(
            text,
            "DEVICE_STOP is working on this device (CONFLICT)\n  \
             follow it: phonefleet saga events saga_1_a --watch"
        );
        assert_eq!(exit, Exit::Conflict);
    }

    #[test]
    fn every_code_has_its_exit() {
        for (status, code, exit) in [
            (403, "QUOTA_EXCEEDED", Exit::NoRoom),
            (503, "NO_CAPACITY", Exit::NoRoom),
            (503, "TIMEOUT", Exit::TimedOut),
            (503, "BUSY", Exit::Unreachable),
            (503, "NOT_READY", Exit::Failed),
            (404, "SAGA_NOT_FOUND", Exit::NotFound),
            (410, "GONE", Exit::NotFound),
            (422, "IDEMPOTENCY_KEY_REUSED", Exit::Conflict),
            (403, "ORIGIN_NOT_ALLOWED", Exit::Failed),
            (500, "INTERNAL", Exit::Failed),
            (418, "", Exit::Failed),
        ] {
            assert_eq!(told(json!({"status": status, "code": code})).1, exit, "{code}");
        }
    }
}
