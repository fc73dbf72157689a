//! `phonefleet device`: phones.

use super::Once;
use super::device_view as view;
use crate::client::address::path;
use crate::client::call::Call;
use crate::failure::Failure;
use crate::follow::{self, Wait, Watch};
use crate::models::{Device, Host, Saga, SagaEvent};
use crate::output::page::Page;
use crate::output::{Format, Shown, note};
use crate::session::Session;
use crate::story;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

/// What to do with phones.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List phones, the oldest first
    #[command(visible_alias = "ls")]
    List(List),
    /// Show everything about a phone
    Get(Get),
    /// Order a phone
    Create(Box<Create>),
    /// Remove phones, whatever they do; nothing of them is left
    #[command(visible_alias = "rm")]
    Delete(Delete),
    /// Start stopped phones
    Start(Verb),
    /// Stop phones; container, data and ports stay
    Stop(Verb),
    /// Stop and start phones once
    Reboot(Verb),
    /// Erase phones' data, and start them
    Reset(Verb),
    /// Say why a phone is where and how it is
    Explain(Explain),
}

/// Which phones to list.
#[derive(Debug, Args)]
pub struct List {
    /// Of all users, whatever the context says
    #[arg(long, short)]
    all_users: bool,
    /// On this host only
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// With this status only, such as RUNNING or ERROR
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    /// More columns
    #[arg(long)]
    wide: bool,
    #[command(flatten)]
    watch: Watch,
}

/// Which phone to show.
#[derive(Debug, Args)]
pub struct Get {
    /// Its name, USER/NAME, or id
    device: String,
    #[command(flatten)]
    watch: Watch,
}

/// What to order. What is left out is the controller's default.
#[derive(Debug, Args)]
pub struct Create {
    /// Its name, unique among its user's: letters, digits, dots, - and _
    name: String,
    /// Container image; must be on its host's allow-list
    #[arg(long)]
    image: Option<String>,
    /// Processors, 0.1 to 256
    #[arg(long, value_name = "CORES")]
    cpu: Option<f64>,
    /// Memory limit in MB, at least 64
    #[arg(long, value_name = "MB")]
    memory: Option<u64>,
    /// Storage in MB that the quota counts
    #[arg(long, value_name = "MB")]
    storage: Option<u64>,
    /// Width of the screen in pixels
    #[arg(long, value_name = "PIXELS")]
    width: Option<u32>,
    /// Height of the screen in pixels
    #[arg(long, value_name = "PIXELS")]
    height: Option<u32>,
    /// Density of the screen
    #[arg(long)]
    dpi: Option<u32>,
    /// Frames a second
    #[arg(long)]
    fps: Option<u32>,
    /// How it draws: guest, host or auto
    #[arg(long, value_name = "MODE")]
    gpu: Option<String>,
    /// The host it must be on
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// A free label; may be given again
    #[arg(long = "label", short, value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// A further argument of Android's init, androidboot.NAME=VALUE or ro.NAME=VALUE; may be given again
    #[arg(long = "boot-arg", value_name = "KEY=VALUE")]
    boot_args: Vec<String>,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    once: Once,
}

/// Which phones to remove.
#[derive(Debug, Args)]
pub struct Delete {
    /// Their names, USER/NAME, or ids
    #[arg(required = true, value_name = "DEVICE")]
    devices: Vec<String>,
    #[command(flatten)]
    wait: Wait,
}

/// Which phones a verb is for.
#[derive(Debug, Args)]
pub struct Verb {
    /// Their names, USER/NAME, or ids
    #[arg(required = true, value_name = "DEVICE")]
    devices: Vec<String>,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    once: Once,
}

/// Which phone to explain.
#[derive(Debug, Args)]
pub struct Explain {
    /// Its name, USER/NAME, or id
    device: String,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

/// Carries it out.
///
/// # Errors
/// Refusals, and sagas that end otherwise than asked for.
pub async fn run(command: Command, session: &Session) -> Result<(), Failure> {
    match command {
        Command::List(list) => run_list(&list, session).await,
        Command::Get(get) => {
            let id = session.resolver().device_id(&get.device).await?;
            follow::watch(session, &get.watch, async || show_one(session, &id).await).await
        }
        Command::Create(create) => run_create(&create, session).await,
        Command::Delete(Delete { devices, wait }) => {
            verbs(session, &devices, &wait, |id| Call::delete(path(&["devices", id]))).await
        }
        Command::Start(verb) => run_verb(session, &verb, "start").await,
        Command::Stop(verb) => run_verb(session, &verb, "stop").await,
        Command::Reboot(verb) => run_verb(session, &verb, "reboot").await,
        Command::Reset(verb) => run_verb(session, &verb, "reset").await,
        Command::Explain(explain) => run_explain(&explain, session).await,
    }
}

async fn run_list(list: &List, session: &Session) -> Result<(), Failure> {
    let user = session.user().filter(|_| !list.all_users);
    let status = list.status.as_ref().map(|status| status.to_ascii_uppercase());
    let parameters = [("userId", user), ("hostId", list.host.as_deref()), ("status", status.as_deref())];
    follow::watch(session, &list.watch, async || {
        let items = session.client.list("/devices", &parameters).await?;
        let devices: Vec<Device> =
            items.iter().map(|item| session.client.read(item)).collect::<Result<_, _>>()?;
        let page = view::table(&devices, user.is_none(), list.wide, session.now());
        Ok(Shown { value: Value::Array(items), page })
    })
    .await
}

async fn show_one(session: &Session, id: &str) -> Result<Shown, Failure> {
    let value = session.client.data(Call::get(path(&["devices", id]))).await?;
    let device: Device = session.client.read(&value)?;
    Ok(Shown { page: view::fields(&device, session.now()), value })
}

async fn run_create(create: &Create, session: &Session) -> Result<(), Failure> {
    let mut order = Map::new();
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            order.insert(name.to_owned(), value);
        }
    };
    put("name", json!(create.name));
    put("userId", json!(session.some_user()?));
    put("providerType", json!("REDROID"));
    put("image", json!(create.image));
    put("cpuCores", json!(create.cpu));
    put("memoryMB", json!(create.memory));
    put("storageMB", json!(create.storage));
    put("width", json!(create.width));
    put("height", json!(create.height));
    put("dpi", json!(create.dpi));
    put("fps", json!(create.fps));
    put("gpuMode", json!(create.gpu));
    put("hostId", json!(create.host));
    if !create.labels.is_empty() {
        let labels: Map<_, _> =
            create.labels.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
        put("labels", Value::Object(labels));
    }
    if !create.boot_args.is_empty() {
        put("bootArgs", json!(create.boot_args));
    }
    let call = Call::post("/devices", Some(Value::Object(order)), create.once.key());
    let ordered = session.client.data(call).await?;
    let shown = finish(session, ordered, &create.wait).await?;
    session.show(&shown)
}

async fn run_verb(session: &Session, verb: &Verb, name: &str) -> Result<(), Failure> {
    // One key for all: its scope is the path, which differs.
    let key = verb.once.key();
    verbs(session, &verb.devices, &verb.wait, |id| {
        Call::post(path(&["devices", id, name]), None, key.clone())
    })
    .await
}

/// Orders something for every device first, and then waits for each.
async fn verbs(
    session: &Session,
    devices: &[String],
    wait: &Wait,
    call: impl Fn(&str) -> Call,
) -> Result<(), Failure> {
    let resolver = session.resolver();
    let order = async |name: &str| {
        let id = resolver.device_id(name).await?;
        session.client.data(call(&id)).await
    };
    let (ordered, mut result) = session.each(devices, order).await;
    let mut shown = Vec::new();
    for order in ordered {
        match finish(session, order, wait).await {
            Ok(one) => shown.push(one),
            Err(failure) if devices.len() == 1 => return Err(failure),
            Err(failure) => {
                note(&failure.to_string());
                let exit = failure.exit();
                result = Err(match result {
                    Err(Failure::Several { count, of, exit }) => {
                        Failure::Several { count: count + 1, of, exit }
                    }
                    _ => Failure::Several { count: 1, of: devices.len(), exit },
                });
            }
        }
    }
    if !shown.is_empty() {
        let mut page = Page::default();
        let mut values = Vec::new();
        for one in shown {
            page.append(one.page);
            values.push(one.value);
        }
        // One name, one object; several, a list.
        let value = match values.pop() {
            Some(only) if devices.len() == 1 => only,
            last => {
                values.extend(last);
                Value::Array(values)
            }
        };
        // What went wrong goes before nobody reading of it.
        result = result.and(session.show(&Shown { value, page }));
    }
    result
}

/// Waits for what was ordered, if that is wanted; says how it stands.
async fn finish(session: &Session, mut ordered: Value, wait: &Wait) -> Result<Shown, Failure> {
    let device: Device = session.client.read(&ordered["device"])?;
    let saga = ordered["sagaId"].as_str().unwrap_or_default().to_owned();
    if !wait.wait {
        let mut page = Page::line(format!("device {} ({}) is {}", device.name, device.id, device.status));
        page.add_line(format!("follow it: phonefleet saga events {saga} --watch"));
        return Ok(Shown { value: ordered, page });
    }
    if session.printer.format == Format::Table {
        note(&format!("device {} ({}) is {}: saga {saga}", device.name, device.id, device.status));
    }
    let ended = follow::saga(session, &saga, wait.wait_timeout).await?;
    let now = session.client.data(Call::get(path(&["devices", &device.id]))).await?;
    let device: Device = session.client.read(&now)?;
    let adb = device.adb_address.as_ref().filter(|_| device.status == "RUNNING");
    let adb = adb.map(|address| format!("; adb connect {address}")).unwrap_or_default();
    let page = Page::line(format!("device {} ({}) is {}{adb}", device.name, device.id, device.status));
    ordered["device"] = now;
    ordered["saga"] = ended;
    Ok(Shown { value: ordered, page })
}

async fn run_explain(explain: &Explain, session: &Session) -> Result<(), Failure> {
    let (device, value) = session.resolver().device(&explain.device).await?;
    let client = &session.client;
    let host = gone_is_none(client.data(Call::get(path(&["hosts", &device.host_id]))).await)?;
    let (mut saga, mut events) = (None, Vec::new());
    if let Some(id) = &device.saga_id {
        saga = gone_is_none(client.data(Call::get(path(&["sagas", id]))).await)?;
        let list = client.list(&path(&["sagas", id, "events"]), &[]).await;
        events = gone_is_none(list)?.unwrap_or_default();
    }
    let around = story::device::Around {
        host: host.as_ref().map(|host| client.read::<Host>(host)).transpose()?,
        saga: saga.as_ref().map(|saga| client.read::<Saga>(saga)).transpose()?,
        events: events.iter().map(|event| client.read::<SagaEvent>(event)).collect::<Result<_, _>>()?,
        device,
    };
    let page = story::device::explain(&around, session.now());
    let value = json!({"device": value, "host": host, "saga": saga, "events": events});
    session.show(&Shown { value, page })
}

/// What is no longer kept is `None`.
pub fn gone_is_none<T>(result: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Failure::Refused(refusal)) if refusal.status == 404 => Ok(None),
        Err(failure) => Err(failure),
    }
}
