//! Why a device is where and how it is: placement, status, reason, active saga, host, ports
//! and what happened last.

use super::saga::{heard, outcome, sentences, upper_first};
use super::words;
use crate::models::{Device, Host, Saga, SagaEvent};
use crate::output::page::{Cell, Page, Style};
use crate::output::time::{count, span};
use phonefleet_protocol::time::Timestamp;

/// Lines of the newest saga that are told.
const LAST: usize = 8;

/// Everything that is known around a device.
#[derive(Clone, Debug, Default)]
pub struct Around {
    /// The device.
    pub device: Device,
    /// Its host; `None` where the controller does not know it any more.
    pub host: Option<Host>,
    /// Its newest saga; `None` where that is no longer kept.
    pub saga: Option<Saga>,
    /// That saga's story.
    pub events: Vec<SagaEvent>,
}

/// The whole story.
pub fn explain(around: &Around, now: Timestamp) -> Page {
    let Around { device, host, saga, events } = around;
    let mut page = Page::default();
    page.add_line(format!(
        "Device {} ({}) of {} is {} on host {}: {}.",
        device.name,
        device.id,
        device.user_id,
        device.status,
        device.host_id,
        words::device_status(&device.status)
    ));
    if let Some(created) = device.created_at {
        let gone = device.deleted_at.map(|at| format!(", gone since {at}")).unwrap_or_default();
        let times =
            device.starts.map(|starts| format!(", started {}", count(starts, "time"))).unwrap_or_default();
        page.add_line(format!("Ordered at {created}, {} ago{times}{gone}.", span(now.since(created))));
    }

    page.add_heading("Why it is where it is");
    for line in place(device, host.as_ref(), now) {
        page.add_line(format!("  {line}"));
    }

    page.add_heading("Why it is how it is");
    for line in condition(around) {
        page.add_line(format!("  {line}"));
    }

    if let Some(saga) = saga {
        page.add_heading("What happened last");
        let told = sentences(saga, events);
        let skipped = told.len().saturating_sub(LAST);
        page.add_line(format!("  saga {} ({}), begun {}", saga.id, saga.kind, saga.started_at));
        if skipped > 0 {
            page.add(Cell::new(
                format!("  ({skipped} earlier lines: phonefleet saga events {})", saga.id),
                Style::Faint,
            ));
        }
        let last = &told[skipped..];
        let width = last.iter().map(|(when, _)| when.len()).max().unwrap_or(0);
        for (when, what) in last {
            page.add_line(format!("  {when:>width$}  {what}"));
        }
    }

    page.add_heading("What you can do");
    for line in options(around) {
        page.add_line(format!("  {line}"));
    }
    page
}

fn place(device: &Device, host: Option<&Host>, now: Timestamp) -> Vec<String> {
    let id = &device.host_id;
    if device.deleted_at.is_some() {
        return vec![format!("It was on host {id}, and nothing of it is left there.")];
    }
    let mut lines = vec![format!(
        "Host {id} was named by the order, or had the fewest devices among the hosts with room for it when it was \
         ordered. A device never moves."
    )];
    let Some(host) = host else {
        lines.push(format!("The controller does not know host {id} any more."));
        return lines;
    };
    lines.push(heard(host, now));
    let most = host.capacity.max_devices.map_or_else(|| "any number".to_owned(), |most| most.to_string());
    let cordoned = if host.cordoned { " It is cordoned: it takes no new devices." } else { "" };
    lines.push(format!("It holds {} and takes {most}.{cordoned}", count(host.devices, "device")));
    match (device.ports, &device.adb_address) {
        (Some(ports), Some(address)) => lines.push(format!(
            "Its ports there are {} (adb connect {address}) and {} (WebRTC).",
            ports.adb, ports.webrtc
        )),
        (Some(ports), None) => {
            lines.push(format!("Its ports there are {} (ADB) and {} (WebRTC).", ports.adb, ports.webrtc));
        }
        (None, _) => lines.push("It has no ports there.".to_owned()),
    }
    match &device.container_id {
        Some(container) => {
            lines.push(format!("Its container there is {}.", container.get(..12).unwrap_or(container)));
        }
        None => lines.push("It has no container there.".to_owned()),
    }
    lines
}

fn condition(around: &Around) -> Vec<String> {
    let Around { device, host, saga, .. } = around;
    let mut lines = Vec::new();
    if let Some(reason) = &device.reason {
        lines.push(format!("Its host says {reason}."));
    }
    if let Some(saga) = saga {
        let verb = words::saga_verb(&saga.kind);
        if saga.ended_at.is_none() {
            lines.push(format!("Saga {} {verb} it, and is {}: {}.", saga.id, saga.status, outcome(saga)));
            if let Some(wait) = &saga.wait_reason {
                lines.push(format!("At {} it waits for {}.", saga.current_step, words::wait(wait)));
            }
        } else {
            lines.push(format!(
                "Its newest saga, {} ({}), is {}: {}.",
                saga.id,
                saga.kind,
                saga.status,
                outcome(saga)
            ));
        }
    } else if device.saga_id.is_some() {
        lines.push("Its newest saga is no longer kept.".to_owned());
    }
    let silent = host.as_ref().is_some_and(|host| host.status != "ONLINE");
    if silent && device.deleted_at.is_none() {
        lines.push("What its host last said may be old: the host is not heard now.".to_owned());
    }
    if lines.is_empty() {
        lines.push(format!("{}.", upper_first(words::device_status(&device.status))));
    }
    lines
}

fn options(around: &Around) -> Vec<String> {
    let Around { device, host, saga, .. } = around;
    let mut lines = Vec::new();
    if let Some((reason, advice)) =
        device.reason.as_ref().and_then(|reason| words::advice(&reason.code).map(|advice| (reason, advice)))
    {
        lines.push(format!("{}: {advice}.", reason.code));
    }
    let active = saga.as_ref().filter(|saga| saga.ended_at.is_none());
    if let Some(saga) = active {
        let wait = saga.wait_reason.as_deref().and_then(|reason| words::wait_advice(reason, &device.host_id));
        lines.extend(wait.map(|advice| format!("{}.", upper_first(&advice))));
        lines.push(format!("The whole story, and how to steer it: phonefleet saga explain {}", saga.id));
    } else if host.as_ref().is_some_and(|host| host.status == "CONFLICT") {
        lines.push(format!("{}.", upper_first(words::host_status("CONFLICT"))));
    }
    let name = &device.id;
    match device.status.as_str() {
        "RUNNING" => {
            if let Some(address) = &device.adb_address {
                lines.push(format!("Use it: adb connect {address}"));
            }
        }
        "STOPPED" | "ERROR" | "LOST" if active.is_none() => {
            lines.push(format!("Start it: phonefleet device start {name} --wait"));
            lines.push(format!("Remove it: phonefleet device delete {name} --wait"));
        }
        _ => {}
    }
    if lines.is_empty() {
        lines.push("Nothing needs to be done.".to_owned());
    }
    lines
}

#[cfg(test)]
#[path = "device_tests.rs"]
mod tests;
