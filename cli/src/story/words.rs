//! What the API's names mean, for people. A name that is not known here is shown as it is:
//! a newer controller may have more.

/// What a saga does, as a verb before the device's name.
pub fn saga_verb(kind: &str) -> &str {
    match kind {
        "DEVICE_CREATION" => "creates",
        "DEVICE_START" => "starts",
        "DEVICE_STOP" => "stops",
        "DEVICE_REBOOT" => "reboots",
        "DEVICE_RESET" => "resets",
        "DEVICE_DELETION" => "deletes",
        _ => "works on",
    }
}

/// Whether a saga can be undone; of kinds that are not known, it may be.
pub fn has_way_back(kind: &str) -> bool {
    !matches!(kind, "DEVICE_STOP" | "DEVICE_REBOOT" | "DEVICE_RESET" | "DEVICE_DELETION")
}

/// What a step does.
pub fn step(name: &str) -> Option<&'static str> {
    Some(match name {
        "ALLOCATE_PORTS" => "the host leases an ADB and a WebRTC port",
        "CREATE_PROVIDER_DEVICE" => "the host creates the container",
        "CREATE_DATABASE_RECORD" => "the device is announced",
        "REPORT_QUOTA_USAGE" => "the reserved quota becomes usage",
        "START_DEVICE" => "the phone starts, until ADB answers and Android has booted",
        "CHECK_CONCURRENCY" => "the right to run is taken from the quota",
        "FINALIZE_RECORDINGS" => "running recordings are ended and made whole",
        "STOP_DEVICE" => "the phone shuts down",
        "REBOOT_DEVICE" => "the phone stops and starts",
        "RESET_DATA" => "the phone's data is erased",
        "CANCEL_ACTIVE_SAGA" => "whatever was being done with the device is undone first",
        "REMOVE_DEVICE" => "the host removes container, data and ports",
        "RELEASE" => "quota and row are given back",
        _ => return None,
    })
}

/// What taking a step back does, where there is anything to do.
pub fn step_back(name: &str) -> Option<&'static str> {
    Some(match name {
        "ALLOCATE_PORTS" => "the host confirms that nothing is left",
        "CREATE_PROVIDER_DEVICE" => "the container and its data are removed",
        "CREATE_DATABASE_RECORD" => "the device is announced as going",
        "REPORT_QUOTA_USAGE" => "the usage is a reservation again, until the end",
        "START_DEVICE" => "the phone stops",
        "CHECK_CONCURRENCY" => "the right to run is given back",
        _ => return None,
    })
}

/// What something waits for.
pub fn wait(reason: &str) -> &str {
    match reason {
        "HOST_ANSWER" => "its host's answer",
        "HOST_UNREACHABLE" => "its host to be reachable again",
        "RETRY_PAUSE" => "the end of a pause before another try",
        "ACTIVE_SAGA" => "the saga that was active before it to end",
        "RECORDINGS" => "the device's recordings to be made whole",
        "OPERATOR" => "an operator's decision",
        other => other,
    }
}

/// What an operator can do about a wait.
pub fn wait_advice(reason: &str, host: &str) -> Option<String> {
    Some(match reason {
        "HOST_UNREACHABLE" => format!(
            "see whether host {host} and its agent run (phonefleet host get {host}); it goes on by itself when the \
             host is heard; if the host never comes back: phonefleet host forget {host}"
        ),
        "HOST_ANSWER" => {
            format!("usually nothing; what the host does shows phonefleet-agent status on {host}")
        }
        _ => return None,
    })
}

/// What an operator can do about a reason; `code` is that of the host or the controller.
pub fn advice(code: &str) -> Option<&'static str> {
    Some(match code {
        "BOOT_TIMEOUT" | "BOOT_FAILED" => {
            "look at the container's log on the host (docker logs), at the host's load and memory, and whether the \
             kernel has binder; then start the device again"
        }
        "CRASH_LOOP" => {
            "it died again and again and was left stopped: look at the container's log on the host, give it more \
             memory, or reset it"
        }
        "DIED" => {
            "look at the container's log on the host; more --memory helps where the memory limit was met"
        }
        "CONTAINER_REMOVED" => {
            "somebody removed the container on the host; delete the device, or start it to have it made again"
        }
        "ENGINE_UNAVAILABLE" => {
            "the container engine of the host does not answer: see whether Docker runs there (systemctl status \
             docker); everything goes on by itself when it does"
        }
        "ADB_UNRESPONSIVE" | "ADB_UNAVAILABLE" => {
            "the phone runs, and adb on its host does not reach it: see phonefleet-agent status there; a reboot of \
             the device often helps"
        }
        "NO_PORTS" => "the host's port ranges are used up: widen [ports] in agent.toml, or delete devices",
        "IMAGE_MISSING" => "pull the image on the host (docker pull), or order another one",
        "IMAGE_NOT_ALLOWED" => {
            "add the image to [runtime] allowed_images in agent.toml, or order another one"
        }
        "DATA_UNAVAILABLE" => {
            "the agent cannot use the folder of the phone's data: check disk space and rights"
        }
        "DATABASE_UNAVAILABLE" => {
            "the agent's database cannot be used: check the disk of state_dir on the host"
        }
        "DISK_FULL" => "free some disk space on the host",
        "NAME_TAKEN" => "a container of another owner has the name: remove or rename it on the host",
        "CREATE_REFUSED" | "START_REFUSED" => {
            "the container engine refused: its words are in the detail; mend that on the host, then try again"
        }
        "QUOTA_EXCEEDED" => "raise the limit (phonefleet quota set), or stop or delete another device",
        "HOST_FORGOTTEN" => "its host was given up by an operator; order the device anew",
        "INVALID_SPEC" => "the host refused the order itself: correct it and order again",
        "PARKED" => {
            "the host keeps it and nobody asked for it; if it is not wanted, remove its container on the host by hand"
        }
        "LOST" => "its host does not have it any more: delete it, or start it to have it made again",
        _ => return None,
    })
}

/// What a status of a device means.
pub fn device_status(status: &str) -> &'static str {
    match status {
        "CREATING" => "it is being made",
        "RUNNING" => "it has booted and answers",
        "STARTING" => "it is on its way up",
        "STOPPING" => "it is on its way down",
        "STOPPED" => "it does not run; container, data and ports are kept",
        "DELETING" => "it is being removed",
        "ERROR" => "its host gave up on it; container and ports are kept",
        "LOST" => "its host says that it does not have it",
        "PARKED" => "its host has it, and nobody asked for it",
        "DELETED" => "it is gone; only its history is left",
        _ => "this program does not know that status",
    }
}

/// What a status of a host means.
pub fn host_status(status: &str) -> &'static str {
    match status {
        "ONLINE" => "it was heard lately",
        "UNREACHABLE" => "it has been silent; its phones run on, and orders for it wait",
        "LOST" => "it has been silent for very long, or was given up",
        "CONFLICT" => "two agents use its id: give one of them another host_id",
        _ => "this program does not know that status",
    }
}

/// The code of an error that was written as `CODE: text`.
pub fn code(error: &str) -> Option<&str> {
    let (code, _) = error.split_once(": ")?;
    let upper = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    (!code.is_empty() && code.bytes().all(upper)).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_told_from_sentences() {
        assert_eq!(code("BOOT_TIMEOUT: no boot within 120 s"), Some("BOOT_TIMEOUT"));
        assert_eq!(code("the deadline passed: really"), None);
        assert_eq!(code("nothing"), None);
        assert!(advice("BOOT_TIMEOUT").is_some() && advice("NEW_CODE").is_none());
        assert_eq!(wait("NEW_WAIT"), "NEW_WAIT");
    }
}
