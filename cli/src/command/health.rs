//! `phonefleet health`: whether the controller lives, is ready, and how its fleet is.

use crate::client::call::Call;
use crate::failure::Failure;
use crate::follow::{self, Watch};
use crate::models::{Device, Host, Saga};
use crate::output::Shown;
use crate::output::page::{Cell as Field, Page, Style};
use crate::session::Session;
use serde_json::{Value, json};
use std::cell::Cell;
use std::collections::BTreeMap;

/// Carries it out.
///
/// # Errors
/// A controller that cannot be reached, or is not ready.
pub async fn run(watch: &Watch, session: &Session) -> Result<(), Failure> {
    let ready = Cell::new(false);
    let told = follow::watch(session, watch, async || {
        let (shown, is_ready) = look(session).await?;
        ready.set(is_ready);
        Ok(shown)
    })
    .await;
    match told {
        Err(failure) if !failure.is_closed_pipe() => Err(failure),
        // Also where nobody reads of it.
        _ if !ready.get() => Err(Failure::Failed("the controller is not ready".to_owned())),
        told => told,
    }
}

async fn look(session: &Session) -> Result<(Shown, bool), Failure> {
    let client = &session.client;
    let alive = client.data(Call::get("/healthz")).await?;
    let (ready, reasons) = match client.data(Call::get("/readyz")).await {
        Ok(_) => (true, Vec::new()),
        Err(Failure::Refused(refusal)) => {
            let told = refusal.members.get("reasons").and_then(Value::as_array);
            let reasons: Vec<String> = match told {
                Some(reasons) => reasons.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
                None => vec![refusal.detail.clone()],
            };
            (false, reasons)
        }
        Err(failure) => return Err(failure),
    };
    let hosts = count::<Host>(session, "/hosts", |host| host.status).await?;
    let devices = count::<Device>(session, "/devices", |device| device.status).await?;
    let mut sagas = BTreeMap::new();
    for status in ["RUNNING", "COMPENSATING", "NEEDS_ATTENTION"] {
        let found = client.list("/sagas", &[("status", Some(status))]).await?;
        if let Some(first) = found.first() {
            let saga: Saga = client.read(first)?;
            sagas.insert(saga.status, found.len());
        }
    }
    let mut page = Page::default();
    let ready_cell = if ready { Field::new("yes", Style::Good) } else { Field::new("NO", Style::Bad) };
    let mut fields = vec![
        ("controller", Field::from(client.address().to_string())),
        ("version", alive["version"].as_str().unwrap_or("unknown").into()),
        ("ready", ready_cell),
    ];
    for reason in &reasons {
        fields.push(("because", reason.as_str().into()));
    }
    fields.push(("hosts", counts(&hosts)));
    fields.push(("devices", counts(&devices)));
    fields.push(("open sagas", counts(&sagas)));
    page.add_fields(fields);
    let value = json!({
        "controller": client.address().to_string(), "version": alive["version"], "ready": ready, "reasons": reasons,
        "hosts": hosts, "devices": devices, "openSagas": sagas,
    });
    Ok((Shown { value, page }, ready))
}

async fn count<T: serde::de::DeserializeOwned>(
    session: &Session,
    path: &str,
    status: impl Fn(T) -> String,
) -> Result<BTreeMap<String, usize>, Failure> {
    let mut counts = BTreeMap::new();
    for item in session.client.list(path, &[]).await? {
        *counts.entry(status(session.client.read(&item)?)).or_default() += 1;
    }
    Ok(counts)
}

fn counts(counts: &BTreeMap<String, usize>) -> Field {
    if counts.is_empty() {
        return Field::new("none", Style::Faint);
    }
    let words: Vec<_> = counts.iter().map(|(status, count)| format!("{count} {status}")).collect();
    words.join(", ").into()
}
