//! The story of a saga: what was done, what failed and why, what it waits for, and what an
//! operator can do.

use super::words;
use crate::models::{Device, Host, Saga, SagaEvent};
use crate::output::page::{Cell, Page, Style};
use crate::output::time::span;
use phonefleet_protocol::time::Timestamp;

/// One line of a story as a sentence. `back`: the saga was on its way back by then.
pub fn sentence(event: &SagaEvent, back: bool) -> String {
    let step = &event.step;
    let detail = event.detail.as_deref().unwrap_or_default();
    let meaning = if back { words::step_back(step) } else { words::step(step) };
    let about = meaning.map_or_else(|| step.clone(), |meaning| format!("{step} ({meaning})"));
    match event.kind.as_str() {
        "started" => format!("it begins with {about}"),
        "done" => format!("{step} is done"),
        "waits" if detail == "HOST_ANSWER" => format!("the host is told: {about}"),
        "waits" => format!("{about} waits for {}", words::wait(detail)),
        "retry" => format!("{step} could not be done now, and is tried again after a pause: {detail}"),
        "turned" => {
            let (cause, why) = detail.split_once(": ").unwrap_or(("", detail));
            match cause {
                "TIMEOUT" => format!("{step} took too long ({why}): everything is undone"),
                "CANCELLED" => format!("it is called off ({why}): everything is undone"),
                _ => format!("{step} failed ({why}): everything is undone"),
            }
        }
        "compensated" => match words::step_back(step) {
            Some(meaning) => format!("{step} is undone: {meaning}"),
            None => format!("{step} is undone"),
        },
        "failed" => format!("{step} failed, and there is nothing to undo: {detail}"),
        "attention" => format!("{step} cannot go on, and waits for an operator: {detail}"),
        "resumed" => format!("an operator let it go on with {step}"),
        "ended" => match detail.split_once(": ") {
            Some((status, why)) => format!("it ends {status}: {why}"),
            None => format!("it ends {detail}"),
        },
        other => format!("{step}: {other} {detail}").trim_end().to_owned(),
    }
}

/// Sentences of a whole story, each with the time since the start.
pub fn sentences(saga: &Saga, events: &[SagaEvent]) -> Vec<(String, String)> {
    let mut narrator = Narrator::new(saga.started_at);
    events.iter().map(|event| narrator.tell(event)).collect()
}

/// Tells a story as it goes on.
#[derive(Clone, Debug)]
pub struct Narrator {
    began: Timestamp,
    back: bool,
}

impl Narrator {
    /// A story from its beginning.
    pub fn new(began: Timestamp) -> Self {
        Self { began, back: false }
    }

    /// When, since the start, and what.
    pub fn tell(&mut self, event: &SagaEvent) -> (String, String) {
        let told = sentence(event, self.back);
        self.back |= event.kind == "turned";
        (format!("+{}", span(event.at.since(self.began))), told)
    }
}

/// What a saga does now, for one line that changes.
pub fn at_work(saga: &Saga, now: Timestamp) -> String {
    let what = match saga.wait_reason.as_deref() {
        Some(reason) => format!("waits for {}", words::wait(reason)),
        None => "goes on".to_owned(),
    };
    let direction = if saga.status == "COMPENSATING" { "undoing " } else { "" };
    format!("{direction}{}: {what}, {}", saga.current_step, span(now.since(saga.started_at)))
}

/// One sentence about how a saga ended, or that it has not.
pub fn outcome(saga: &Saga) -> String {
    let error = saga.error_message.as_deref().unwrap_or("no reason is known");
    let step = saga.failed_step.as_deref().unwrap_or(&saga.current_step);
    match (saga.status.as_str(), saga.cause.as_deref()) {
        ("COMPLETED", _) => "it has done what was asked for".to_owned(),
        ("COMPENSATED", Some("CANCELLED")) => format!("it was called off, and everything is undone: {error}"),
        ("COMPENSATED", _) => format!("{step} failed, and everything is undone: {error}"),
        ("FAILED", _) => format!("{step} failed: {error}"),
        ("TIMEOUT", _) => format!("{step} took too long: {error}"),
        ("ABANDONED", _) => format!("it was given up: {error}"),
        ("NEEDS_ATTENTION", _) => {
            format!("it stands still at {} until an operator decides: {error}", saga.current_step)
        }
        ("COMPENSATING", _) => format!("it undoes what it did: {error}"),
        _ => "it goes on".to_owned(),
    }
}

/// The whole story. `device` is what it is about and `host` where that is, as far as known.
pub fn explain(
    saga: &Saga,
    events: &[SagaEvent],
    device: Option<&Device>,
    host: Option<&Host>,
    now: Timestamp,
) -> Page {
    let mut page = Page::default();
    let about = match (device, &saga.device_id) {
        (Some(device), _) => {
            format!("device {} of {} on host {}", device.name, device.user_id, device.host_id)
        }
        (None, Some(id)) => format!("device {id}"),
        (None, None) => "no device".to_owned(),
    };
    page.add_line(format!("Saga {} ({}) {} {about}.", saga.id, saga.kind, words::saga_verb(&saga.kind)));
    page.add_line(standing(saga, now));

    page.add_heading("What happened");
    let told = sentences(saga, events);
    let width = told.iter().map(|(when, _)| when.len()).max().unwrap_or(0);
    for (when, what) in &told {
        page.add_line(format!("  {when:>width$}  {what}"));
    }
    if told.is_empty() {
        page.add(Cell::new("  nothing is on record", Style::Faint));
    }

    page.add_heading("How it stands");
    for line in present(saga, now) {
        page.add_line(format!("  {line}"));
    }
    if let Some(host) = host.filter(|_| !saga.rests()) {
        page.add_line(format!("  {}", heard(host, now)));
    }
    page.add_heading("What you can do");
    for line in options(saga, device) {
        page.add_line(format!("  {line}"));
    }
    page
}

/// Whether a host is there.
pub fn heard(host: &Host, now: Timestamp) -> String {
    let heard = host.last_seen_at.map(|at| format!(", last heard {} ago", span(now.since(at))));
    let heard = heard.unwrap_or_default();
    format!("Host {} is {}{heard}: {}.", host.id, host.status, words::host_status(&host.status))
}

fn standing(saga: &Saga, now: Timestamp) -> String {
    let began = saga.started_at;
    match saga.ended_at {
        Some(ended) => {
            format!("It began at {began}, and ended {} after {}.", saga.status, span(ended.since(began)))
        }
        None => format!("It began at {began}, {} ago, and is {}.", span(now.since(began)), saga.status),
    }
}

fn present(saga: &Saga, now: Timestamp) -> Vec<String> {
    let mut lines = vec![format!("{}.", upper_first(&outcome(saga)))];
    if saga.ended_at.is_some() || saga.status == "NEEDS_ATTENTION" {
        return lines;
    }
    let (meaning, direction) = if saga.status == "COMPENSATING" {
        (words::step_back(&saga.current_step), "Being undone")
    } else {
        (words::step(&saga.current_step), "At work")
    };
    let meaning = meaning.map(|meaning| format!(": {meaning}")).unwrap_or_default();
    lines.push(format!("{direction} is step {}, {}{meaning}.", saga.step_index + 1, saga.current_step));
    if let Some(reason) = &saga.wait_reason {
        lines.push(format!("It waits for {} ({reason}).", words::wait(reason)));
    }
    if let Some(at) = saga.retry_at {
        let tries = saga.retry_count;
        lines.push(format!("Try {} follows in {}.", tries + 1, span(at.since(now))));
    }
    match saga.timeout_at.filter(|_| saga.status == "RUNNING") {
        Some(at) => lines.push(format!(
            "Its deadline is in {}; it then ends or is undone by itself.",
            span(at.since(now))
        )),
        None => lines.push("It has no deadline: it goes on until it is done.".to_owned()),
    }
    lines
}

fn options(saga: &Saga, device: Option<&Device>) -> Vec<String> {
    let id = &saga.id;
    let mut lines = Vec::new();
    let host = device.map_or("HOST", |device| &device.host_id);
    let code = saga.error_message.as_deref().and_then(words::code);
    let troubled = !matches!(saga.status.as_str(), "COMPLETED" | "ABANDONED");
    if let Some(advice) = code.and_then(words::advice).filter(|_| troubled) {
        lines.push(format!("{}: {advice}.", code.unwrap_or_default()));
    }
    match saga.status.as_str() {
        "RUNNING" | "COMPENSATING" => {
            if let Some(advice) =
                saga.wait_reason.as_deref().and_then(|reason| words::wait_advice(reason, host))
            {
                lines.push(format!("{}.", upper_first(&advice)));
            }
            if saga.retry_at.is_some() {
                lines.push(format!("Try again at once: phonefleet saga resume {id}"));
            }
            if saga.status == "RUNNING" && words::has_way_back(&saga.kind) {
                lines.push(format!("Call it off and undo it: phonefleet saga compensate {id}"));
            }
            lines.push(format!("Watch it: phonefleet saga events {id} --watch"));
        }
        "NEEDS_ATTENTION" => {
            lines.push(format!("When the cause is mended, let it go on: phonefleet saga resume {id}"));
            if words::has_way_back(&saga.kind) {
                lines.push(format!("Or undo it: phonefleet saga compensate {id}"));
            }
            lines.push(format!("Or leave it as it is: phonefleet saga abandon {id} --reason WHY"));
            if let Some(device) = &saga.device_id {
                lines.push(format!("Or remove the device: phonefleet device delete {device}"));
            }
        }
        "FAILED" | "TIMEOUT" => {
            if let Some(device) = &saga.device_id {
                lines.push(format!("See how the device is now: phonefleet device explain {device}"));
            }
        }
        "COMPENSATED" if saga.kind == "DEVICE_CREATION" => {
            lines.push(
                "Order the device again; nothing of it is left, its name and quota are free.".to_owned(),
            );
        }
        _ => {}
    }
    if lines.is_empty() {
        lines.push("Nothing needs to be done.".to_owned());
    }
    lines
}

/// A sentence with a capital letter; names such as `START_DEVICE` have one already.
pub fn upper_first(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_uppercase().chain(characters).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
#[path = "saga_tests.rs"]
mod tests;
