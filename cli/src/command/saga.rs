//! `phonefleet saga`: what is being done and was done, and an operator's verbs.

use super::Once;
use super::device::gone_is_none;
use crate::client::address::path;
use crate::client::call::Call;
use crate::failure::Failure;
use crate::follow::{self, Wait, Watch};
use crate::models::{Device, Host, Saga, SagaEvent};
use crate::output::page::{Cell, Page, Style};
use crate::output::time::{age, span};
use crate::output::{Shown, note};
use crate::session::Session;
use crate::story;
use clap::{Args, Subcommand};
use phonefleet_protocol::time::Timestamp;
use serde_json::{Value, json};
use std::collections::VecDeque;

/// What to do with sagas.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List sagas, the oldest first
    #[command(visible_alias = "ls")]
    List(List),
    /// Show everything about a saga
    Get(Get),
    /// Show a saga's steps as they were written down
    Events(Get),
    /// Tell a saga's story: what was done, what failed and why, and what you can do
    Explain(Explain),
    /// Let a saga that needs attention go on, or end its pause
    Resume(Verb),
    /// Turn a saga round: everything that it did is undone
    Compensate(Verb),
    /// Give up a saga that needs attention: it ends where it stands, its device takes other orders
    Abandon(Abandon),
}

/// Which sagas to list.
#[derive(Debug, Args)]
pub struct List {
    /// Of this type only, such as DEVICE_CREATION
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// With this status only, such as RUNNING or NEEDS_ATTENTION
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    /// About this device only: its name, USER/NAME, or id
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// The newest so many; 0 is all of them
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    watch: Watch,
}

/// Which saga to show.
#[derive(Debug, Args)]
pub struct Get {
    /// Its id, or a device, for its newest saga
    saga: String,
    #[command(flatten)]
    watch: Watch,
}

/// Which saga to explain.
#[derive(Debug, Args)]
pub struct Explain {
    /// Its id, or a device, for its newest saga
    saga: String,
}

/// Which saga a verb is for.
#[derive(Debug, Args)]
pub struct Verb {
    /// Its id, or a device, for its newest saga
    saga: String,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    once: Once,
}

/// Which saga is given up, and why.
#[derive(Debug, Args)]
pub struct Abandon {
    /// Its id, or a device, for its newest saga
    saga: String,
    /// Why, for those who read its story
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    once: Once,
}

/// Carries it out.
///
/// # Errors
/// Refusals, and sagas that end otherwise than asked for.
pub async fn run(command: Command, session: &Session) -> Result<(), Failure> {
    match command {
        Command::List(list) => run_list(&list, session).await,
        Command::Get(get) => {
            let id = session.resolver().saga_id(&get.saga).await?;
            follow::watch(session, &get.watch, async || {
                let value = session.client.data(Call::get(path(&["sagas", &id]))).await?;
                let saga: Saga = session.client.read(&value)?;
                Ok(Shown { page: fields(&saga, session.now()), value })
            })
            .await
        }
        Command::Events(get) => {
            let id = session.resolver().saga_id(&get.saga).await?;
            if get.watch.watch {
                return follow::events(session, &id).await;
            }
            let items = session.client.list(&path(&["sagas", &id, "events"]), &[]).await?;
            let page = events(&read_events(session, &items)?);
            session.show(&Shown { value: Value::Array(items), page })
        }
        Command::Explain(Explain { saga }) => run_explain(&saga, session).await,
        Command::Resume(verb) => run_verb(&verb, "resume", session).await,
        Command::Compensate(verb) => run_verb(&verb, "compensate", session).await,
        Command::Abandon(abandon) => run_abandon(&abandon, session).await,
    }
}

fn read_events(session: &Session, items: &[Value]) -> Result<Vec<SagaEvent>, Failure> {
    items.iter().map(|item| session.client.read(item)).collect()
}

async fn run_list(list: &List, session: &Session) -> Result<(), Failure> {
    let device = match &list.device {
        Some(device) => Some(session.resolver().device_id(device).await?),
        None => None,
    };
    let upper = |text: &Option<String>| text.as_ref().map(|text| text.to_ascii_uppercase());
    let (kind, status) = (upper(&list.kind), upper(&list.status));
    let parameters = [("type", kind.as_deref()), ("status", status.as_deref())];
    follow::watch(session, &list.watch, async || {
        let mut newest = VecDeque::new();
        let mut left_out = 0_usize;
        let take = |page: Vec<Value>| {
            for item in page {
                if device.as_deref().is_some_and(|id| item["deviceId"].as_str() != Some(id)) {
                    continue;
                }
                newest.push_back(item);
                if list.limit > 0 && newest.len() > list.limit {
                    newest.pop_front();
                    left_out += 1;
                }
            }
        };
        session.client.pages("/sagas", &parameters, None, take).await?;
        if left_out > 0 && !list.watch.watch {
            note(&format!("{left_out} older sagas are left out (--limit 0 shows them)"));
        }
        let items: Vec<Value> = newest.into();
        let sagas: Vec<Saga> =
            items.iter().map(|item| session.client.read(item)).collect::<Result<_, _>>()?;
        Ok(Shown { page: table(&sagas, session.now()), value: Value::Array(items) })
    })
    .await
}

async fn run_explain(saga: &str, session: &Session) -> Result<(), Failure> {
    let id = session.resolver().saga_id(saga).await?;
    let client = &session.client;
    let value = client.data(Call::get(path(&["sagas", &id]))).await?;
    let saga: Saga = client.read(&value)?;
    let items = client.list(&path(&["sagas", &id, "events"]), &[]).await?;
    let device = match &saga.device_id {
        Some(device) => gone_is_none(client.data(Call::get(path(&["devices", device]))).await)?,
        None => None,
    };
    let about = device.as_ref().map(|device| client.read::<Device>(device)).transpose()?;
    let host = match &about {
        Some(device) => gone_is_none(client.data(Call::get(path(&["hosts", &device.host_id]))).await)?,
        None => None,
    };
    let place = host.as_ref().map(|host| client.read::<Host>(host)).transpose()?;
    let events = read_events(session, &items)?;
    let page = story::saga::explain(&saga, &events, about.as_ref(), place.as_ref(), session.now());
    let value = json!({"saga": value, "events": items, "device": device, "host": host});
    session.show(&Shown { value, page })
}

async fn run_verb(verb: &Verb, name: &str, session: &Session) -> Result<(), Failure> {
    let id = session.resolver().saga_id(&verb.saga).await?;
    let mut value =
        session.client.data(Call::post(path(&["sagas", &id, name]), None, verb.once.key())).await?;
    if verb.wait.wait {
        match follow::saga(session, &id, verb.wait.wait_timeout).await {
            Ok(ended) => value = ended,
            // What was asked for is that it ends undone.
            Err(Failure::Failed(why)) if name == "compensate" => {
                value = session.client.data(Call::get(path(&["sagas", &id]))).await?;
                if value["status"] != "COMPENSATED" {
                    return Err(Failure::Failed(why));
                }
            }
            Err(failure) => return Err(failure),
        }
    }
    show_standing(value, session)
}

async fn run_abandon(abandon: &Abandon, session: &Session) -> Result<(), Failure> {
    let id = session.resolver().saga_id(&abandon.saga).await?;
    let body = json!({"reason": abandon.reason});
    let call = Call::post(path(&["sagas", &id, "abandon"]), Some(body), abandon.once.key());
    show_standing(session.client.data(call).await?, session)
}

fn show_standing(value: Value, session: &Session) -> Result<(), Failure> {
    let saga: Saga = session.client.read(&value)?;
    let page = Page::line(format!("saga {} ({}) is {}", saga.id, saga.kind, saga.status));
    session.show(&Shown { value, page })
}

fn table(sagas: &[Saga], now: Timestamp) -> Page {
    let rows = sagas
        .iter()
        .map(|saga| {
            let took = saga.ended_at.unwrap_or(now).since(saga.started_at);
            let why = match (&saga.wait_reason, &saga.error_message) {
                (Some(wait), _) if !saga.rests() => Some(wait.clone()),
                (_, error) => error.clone(),
            };
            vec![
                saga.kind.as_str().into(),
                Cell::status(&saga.status),
                saga.current_step.as_str().into(),
                age(now, saga.started_at).into(),
                span(took).into(),
                Cell::new(&saga.id, Style::Faint),
                Cell::or_dash(saga.device_id.as_ref()),
                Cell::or_dash(why),
            ]
        })
        .collect();
    let head = ["TYPE", "STATUS", "STEP", "AGE", "TOOK", "ID", "DEVICE", "WHY"];
    Page::table(&head, rows, "no sagas")
}

fn fields(saga: &Saga, now: Timestamp) -> Page {
    let when = |at: Option<Timestamp>| Cell::or_dash(at);
    let mut page = Page::default();
    page.add_fields(vec![
        ("id", Cell::from(saga.id.as_str())),
        ("type", saga.kind.as_str().into()),
        ("status", Cell::status(&saga.status)),
        ("step", format!("{} ({})", saga.current_step, saga.step_index + 1).into()),
        ("device", Cell::or_dash(saga.device_id.as_ref())),
        ("waits for", Cell::or_dash(saga.wait_reason.as_ref())),
        ("retries", saga.retry_count.to_string().into()),
        ("cause", Cell::or_dash(saga.cause.as_ref())),
        ("failed step", Cell::or_dash(saga.failed_step.as_ref())),
        ("error", Cell::or_dash(saga.error_message.as_ref())),
        ("began", saga.started_at.to_string().into()),
        ("took", span(saga.ended_at.unwrap_or(now).since(saga.started_at)).into()),
        ("next try", when(saga.retry_at)),
        ("deadline", when(saga.timeout_at)),
        ("ended", when(saga.ended_at)),
    ]);
    page
}

fn events(events: &[SagaEvent]) -> Page {
    let rows = events
        .iter()
        .map(|event| {
            vec![
                event.seq.to_string().into(),
                event.at.to_string().into(),
                event.kind.as_str().into(),
                event.step.as_str().into(),
                Cell::or_dash(event.detail.as_ref()),
            ]
        })
        .collect();
    Page::table(&["NO", "AT", "WHAT", "STEP", "DETAIL"], rows, "nothing is on record")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables() {
        let saga: Saga = serde_json::from_value(json!({
            "sagaId": "saga_1_a", "type": "DEVICE_CREATION", "status": "RUNNING", "currentStep": "START_DEVICE",
            "stepIndex": 4, "deviceId": "0199", "waitReason": "HOST_ANSWER", "errorMessage": "OLD: error",
            "startedAt": "2025-11-21T11:00:00Z", "updatedAt": "2025-11-21T11:00:00Z",
        }))
        .unwrap();
        let now = Timestamp(1_763_722_860_000);
        assert_eq!(
            table(std::slice::from_ref(&saga), now).render(false),
            "TYPE             STATUS   STEP          AGE  TOOK  ID        DEVICE  WHY\n\
             DEVICE_CREATION  RUNNING  START_DEVICE  60s  1m    saga_1_a  0199    HOST_ANSWER\n"
        );
        let text = fields(&saga, now).render(false);
        assert!(text.contains("step:        START_DEVICE (5)\n"), "{text}");
        let event = SagaEvent { seq: 1, kind: "started".into(), step: "X".into(), ..SagaEvent::default() };
        assert_eq!(
            events(&[event]).render(false),
            "NO  AT                        WHAT     STEP  DETAIL\n\
             1   1970-01-01T00:00:00.000Z  started  X     -\n"
        );
    }
}
