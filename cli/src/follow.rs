//! Waiting: a saga's steps as they happen, until it rests; and lists that are looked at
//! again and again.
//!
//! What is waited for goes on without this program. So a controller that is away for a
//! while is not the end of the wait, and the end of the wait is not the end of the saga.

use crate::client::Client;
use crate::client::address::path;
use crate::client::call::Call;
use crate::failure::Failure;
use crate::models::{Saga, SagaEvent};
use crate::output::progress::Progress;
use crate::output::{Format, Shown, print};
use crate::session::Session;
use crate::story::saga::{Narrator, at_work, outcome};
use clap::Args;
use serde_json::Value;
use std::io::IsTerminal;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between two looks at a saga, at first and later.
const LOOKS: [Duration; 2] = [Duration::from_millis(150), Duration::from_secs(1)];

/// Whether, and how long, a command waits.
#[derive(Clone, Debug, Args)]
pub struct Wait {
    /// Wait for the end, with the steps as they happen; exit 1 unless it ends well
    #[arg(long)]
    pub wait: bool,
    /// Longest time to wait; what is waited for goes on behind it
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = crate::output::time::parse_duration)]
    pub wait_timeout: Duration,
}

/// Whether, and how often, a command looks again.
#[derive(Clone, Debug, Args)]
pub struct Watch {
    /// Look again and again, and show what changes, until Ctrl-C
    #[arg(long, short)]
    pub watch: bool,
    /// Time between two looks
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = crate::output::time::parse_duration)]
    pub interval: Duration,
}

/// Whether something has come to its end.
pub enum Look<T> {
    /// It has.
    Ended(T),
    /// It has not; a line that says how it stands.
    GoesOn(String),
}

/// Looks until something has ended.
///
/// # Errors
/// Those of `look`, except that a controller that is away is waited for; and the end of the
/// time: `what` says what goes on.
pub async fn until<T>(
    limit: Duration,
    progress: &mut Progress,
    what: &str,
    mut look: impl AsyncFnMut(&mut Progress) -> Result<Look<T>, Failure>,
) -> Result<T, Failure> {
    let end = Instant::now() + limit;
    let mut pause = LOOKS[0];
    let mut away = false;
    loop {
        match look(progress).await {
            Ok(Look::Ended(value)) => return Ok(value),
            Ok(Look::GoesOn(line)) => {
                if std::mem::take(&mut away) {
                    progress.line("the controller is back");
                }
                progress.live(&line);
            }
            Err(failure) if failure.is_passing() => {
                if !std::mem::replace(&mut away, true) {
                    progress.line(&format!("still waiting: {failure}"));
                }
            }
            Err(failure) => return Err(failure),
        }
        if Instant::now() + pause >= end {
            let seconds = limit.as_secs_f64();
            return Err(Failure::TimedOut(format!("no end within {seconds} s (--wait-timeout); {what}")));
        }
        sleep(pause).await;
        pause = (pause * 5 / 4).min(LOOKS[1]);
    }
}

/// A saga's story as it happens.
pub struct Story<'a> {
    client: &'a Client,
    id: &'a str,
    cursor: Option<String>,
    narrator: Option<Narrator>,
}

impl<'a> Story<'a> {
    /// From its beginning.
    pub fn new(client: &'a Client, id: &'a str) -> Self {
        Self { client, id, cursor: None, narrator: None }
    }

    /// Tells what is new; returns the saga.
    ///
    /// # Errors
    /// Those of calls.
    pub async fn tell(
        &mut self,
        mut line: impl FnMut(&str, &SagaEvent, &str),
    ) -> Result<(Saga, Value), Failure> {
        // The saga first: what has ended by then has its whole story written.
        let value = self.client.data(Call::get(path(&["sagas", self.id]))).await?;
        let saga: Saga = self.client.read(&value)?;
        let mut new = Vec::new();
        let events = path(&["sagas", self.id, "events"]);
        self.client.pages(&events, &[], self.cursor.clone(), |page| new.extend(page)).await?;
        let narrator = self.narrator.get_or_insert_with(|| Narrator::new(saga.started_at));
        for event in &new {
            let event: SagaEvent = self.client.read(event)?;
            // The cursor of this list is the number of the last line before it.
            self.cursor = Some(event.seq.to_string());
            let (when, what) = narrator.tell(&event);
            line(&when, &event, &what);
        }
        Ok((saga, value))
    }
}

/// Waits until a saga rests, and tells its steps.
///
/// # Errors
/// Sagas that end otherwise than asked for, and the end of the time.
pub async fn saga(session: &Session, id: &str, limit: Duration) -> Result<Value, Failure> {
    let mut progress = Progress::new();
    let mut story = Story::new(&session.client, id);
    let what = format!("the saga goes on: phonefleet saga events {id} --watch");
    let ended = until(limit, &mut progress, &what, async |progress| {
        let (saga, value) = story.tell(|when, _, what| progress.line(&format!("{when:>8}  {what}"))).await?;
        if saga.rests() {
            return Ok(Look::Ended((saga, value)));
        }
        Ok(Look::GoesOn(format!("          {}", at_work(&saga, session.now()))))
    })
    .await?;
    let (saga, value) = ended;
    if saga.status == "COMPLETED" {
        return Ok(value);
    }
    Err(Failure::Failed(format!(
        "saga {id} is {}: {}\n  phonefleet saga explain {id}",
        saga.status,
        outcome(&saga)
    )))
}

/// Prints a saga's story as it happens, until the saga rests.
///
/// # Errors
/// Those of calls and of standard output.
pub async fn events(session: &Session, id: &str) -> Result<(), Failure> {
    let mut progress = Progress::new();
    let mut story = Story::new(&session.client, id);
    let mut broken = None;
    // Nobody waits for more than a century.
    let forever = Duration::from_secs(100 * 365 * 86_400);
    until(forever, &mut progress, "", async |progress| {
        let (saga, _) = story
            .tell(|when, event, what| {
                progress.clear();
                let text = match session.printer.format {
                    Format::Table => {
                        format!("{}  {when:>8}  {}\n", event.at, crate::output::page::printable(what))
                    }
                    Format::Json | Format::Yaml => session.printer.streamed(&Shown {
                        value: event_value(event),
                        page: crate::output::page::Page::default(),
                    }),
                };
                if let Err(error) = print(&text) {
                    broken.get_or_insert(error);
                }
            })
            .await?;
        if let Some(error) = broken.take() {
            return Err(error.into());
        }
        if saga.rests() {
            return Ok(Look::Ended(()));
        }
        Ok(Look::GoesOn(at_work(&saga, session.now())))
    })
    .await
}

fn event_value(event: &SagaEvent) -> Value {
    serde_json::json!({
        "seq": event.seq, "at": event.at, "kind": event.kind, "step": event.step, "detail": event.detail,
    })
}

/// Shows a result, and with --watch again and again where it changed.
///
/// # Errors
/// Those of `look` at first; a controller that goes away later is waited for.
pub async fn watch(
    session: &Session,
    watch: &Watch,
    look: impl AsyncFn() -> Result<Shown, Failure>,
) -> Result<(), Failure> {
    let first = look().await?;
    if !watch.watch {
        return session.show(&first);
    }
    let redraw = session.printer.format == Format::Table && std::io::stdout().is_terminal();
    let mut progress = Progress::new();
    let mut last: Option<Shown> = None;
    let mut next: Result<Shown, Failure> = Ok(first);
    let mut away = false;
    loop {
        match next {
            Ok(shown) => {
                if std::mem::take(&mut away) {
                    progress.line("the controller is back");
                }
                // Ages alone are nothing new.
                let news = last.as_ref().is_none_or(|last| last.value != shown.value);
                if redraw {
                    // Ages grow also where nothing else changes. Written over what was there,
                    // and only what is left of that is cleared: nothing flickers.
                    let begin = if last.is_none() { "\x1b[2J\x1b[H" } else { "\x1b[H" };
                    let text = session.printer.streamed(&shown).replace('\n', "\x1b[K\n");
                    print(&format!("{begin}{text}\x1b[J"))?;
                } else if news {
                    let gap =
                        if last.is_some() && session.printer.format == Format::Table { "\n" } else { "" };
                    print(&format!("{gap}{}", session.printer.streamed(&shown)))?;
                }
                last = Some(shown);
            }
            Err(failure) if failure.is_passing() => {
                if !std::mem::replace(&mut away, true) {
                    progress.line(&format!("still watching: {failure}"));
                }
            }
            Err(failure) => return Err(failure),
        }
        sleep(watch.interval).await;
        next = look().await;
    }
}
