//! `phonefleet quota`: what users may have, and what they take.

use crate::client::address::path;
use crate::client::call::Call;
use crate::failure::Failure;
use crate::follow::{self, Watch};
use crate::output::Shown;
use crate::output::page::{Cell, Page, cores};
use crate::session::Session;
use clap::{Args, Subcommand};
use serde_json::{Map, Value};

/// What to do with quota.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show a user's limits
    Get(Get),
    /// Change limits of a user: those that are named
    Set(Box<Set>),
    /// Give a user the default limits again
    Reset(Whose),
    /// Show what a user takes, beside the limits
    Usage(Get),
}

/// Whose limits to reset.
#[derive(Debug, Args)]
pub struct Whose {
    /// The user [default: --user, or that of the context]
    user_id: Option<String>,
}

/// Whose quota to show.
#[derive(Debug, Args)]
pub struct Get {
    /// The user [default: --user, or that of the context]
    user_id: Option<String>,
    #[command(flatten)]
    watch: Watch,
}

/// Which limits to change. Each takes a number, or `unlimited`.
#[derive(Debug, Args)]
pub struct Set {
    /// The user [default: --user, or that of the context]
    user_id: Option<String>,
    /// Devices that exist
    #[arg(long, value_name = "COUNT", value_parser = whole)]
    max_devices: Option<Limit>,
    /// Devices that run
    #[arg(long, value_name = "COUNT", value_parser = whole)]
    max_concurrent_devices: Option<Limit>,
    /// Processors of one device
    #[arg(long, value_name = "CORES", value_parser = number)]
    device_cpu: Option<Limit>,
    /// Memory of one device, MB
    #[arg(long, value_name = "MB", value_parser = whole)]
    device_memory: Option<Limit>,
    /// Storage of one device, MB
    #[arg(long, value_name = "MB", value_parser = whole)]
    device_storage: Option<Limit>,
    /// Processors of all devices
    #[arg(long, value_name = "CORES", value_parser = number)]
    total_cpu: Option<Limit>,
    /// Memory of all devices, MB
    #[arg(long, value_name = "MB", value_parser = whole)]
    total_memory: Option<Limit>,
    /// Storage of all devices, MB
    #[arg(long, value_name = "MB", value_parser = whole)]
    total_storage: Option<Limit>,
    /// Bytes of recordings
    #[arg(long, value_name = "BYTES", value_parser = whole)]
    recording_bytes: Option<Limit>,
}

/// A limit as the API takes it: a number, or `null` for none.
#[derive(Clone, Debug, PartialEq)]
struct Limit(Value);

fn whole(text: &str) -> Result<Limit, String> {
    limit(text, |text| text.parse::<u64>().ok().map(Value::from))
}

fn number(text: &str) -> Result<Limit, String> {
    // JSON has no infinity: what is not finite becomes null, which would be unlimited.
    limit(text, |text| text.parse::<f64>().ok().filter(|value| value.is_finite()).map(Value::from))
}

fn limit(text: &str, read: impl Fn(&str) -> Option<Value>) -> Result<Limit, String> {
    if text == "unlimited" {
        return Ok(Limit(Value::Null));
    }
    read(text).map(Limit).ok_or_else(|| "write a number, or unlimited".to_owned())
}

/// The limits: their names in the API, for people, and in the usage.
const LIMITS: [(&str, &str, Option<&str>); 9] = [
    ("maxDevices", "devices", Some("devices")),
    ("maxConcurrentDevices", "running devices", Some("concurrentDevices")),
    ("totalCpuCores", "processors", Some("cpuCores")),
    ("totalMemoryMB", "memory, MB", Some("memoryMB")),
    ("totalStorageMB", "storage, MB", Some("storageMB")),
    ("recordingBytes", "recordings, bytes", Some("recordingBytes")),
    ("deviceCpuCores", "processors of one device", None),
    ("deviceMemoryMB", "memory of one device, MB", None),
    ("deviceStorageMB", "storage of one device, MB", None),
];

/// Carries it out.
///
/// # Errors
/// Refusals.
pub async fn run(command: Command, session: &Session) -> Result<(), Failure> {
    match command {
        Command::Get(get) => {
            let user = whose(session, get.user_id.as_deref())?;
            follow::watch(session, &get.watch, async || {
                let value = session.client.data(Call::get(path(&["quotas", &user]))).await?;
                Ok(Shown { page: limits(&value), value })
            })
            .await
        }
        Command::Usage(get) => {
            let user = whose(session, get.user_id.as_deref())?;
            follow::watch(session, &get.watch, async || {
                let limits = session.client.data(Call::get(path(&["quotas", &user]))).await?;
                let value = session.client.data(Call::get(path(&["quotas", &user, "usage"]))).await?;
                Ok(Shown { page: usage(&value, &limits), value })
            })
            .await
        }
        Command::Set(set) => run_set(&set, session).await,
        Command::Reset(reset) => {
            let user = whose(session, reset.user_id.as_deref())?;
            let value = session.client.data(Call::delete(path(&["quotas", &user]))).await?;
            session.show(&Shown { page: limits(&value), value })
        }
    }
}

fn whose(session: &Session, named: Option<&str>) -> Result<String, Failure> {
    named.map_or_else(|| session.some_user(), Ok).map(str::to_owned)
}

async fn run_set(set: &Set, session: &Session) -> Result<(), Failure> {
    let named = [
        ("maxDevices", &set.max_devices),
        ("maxConcurrentDevices", &set.max_concurrent_devices),
        ("deviceCpuCores", &set.device_cpu),
        ("deviceMemoryMB", &set.device_memory),
        ("deviceStorageMB", &set.device_storage),
        ("totalCpuCores", &set.total_cpu),
        ("totalMemoryMB", &set.total_memory),
        ("totalStorageMB", &set.total_storage),
        ("recordingBytes", &set.recording_bytes),
    ];
    let body: Map<String, Value> = named
        .into_iter()
        .filter_map(|(name, limit)| limit.as_ref().map(|Limit(value)| (name.to_owned(), value.clone())))
        .collect();
    if body.is_empty() {
        let text = "name at least one limit, such as --max-devices 10, or --max-devices unlimited";
        return Err(Failure::Usage(text.to_owned()));
    }
    let user = whose(session, set.user_id.as_deref())?;
    let value = session.client.data(Call::put(path(&["quotas", &user]), Value::Object(body))).await?;
    session.show(&Shown { page: limits(&value), value })
}

fn shown(value: &Value) -> Cell {
    match value {
        Value::Null => "unlimited".into(),
        other => other.to_string().into(),
    }
}

fn limits(value: &Value) -> Page {
    let mut page = Page::line(format!("user {}", value["userId"].as_str().unwrap_or_default()));
    let rows = LIMITS
        .iter()
        .filter(|(name, ..)| value.get(name).is_some())
        .map(|(name, meaning, _)| vec![(*meaning).into(), shown(&value[name])])
        .collect();
    page.add_table(&["LIMIT", "AT MOST"], rows, "no limits");
    page
}

fn usage(usage: &Value, limits: &Value) -> Page {
    let mut page = Page::line(format!("user {}", usage["userId"].as_str().unwrap_or_default()));
    let rows = LIMITS
        .iter()
        .filter_map(|(limit, meaning, name)| {
            let used = usage.get((*name)?)?;
            let used = match used.as_f64() {
                Some(number) if used.is_f64() => cores(number).to_string(),
                _ => used.to_string(),
            };
            Some(vec![Cell::from(*meaning), used.into(), shown(&limits[limit])])
        })
        .collect();
    page.add_table(&["WHAT", "TAKEN", "AT MOST"], rows, "nothing is taken");
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn usage_stands_beside_its_limits() {
        let taken = json!({"userId": "alice", "devices": 2, "concurrentDevices": 1, "cpuCores": 0.600_000_000_000_000_1, "memoryMB": 8192});
        let most =
            json!({"userId": "alice", "maxDevices": 5, "maxConcurrentDevices": null, "totalCpuCores": 8.0});
        assert_eq!(
            usage(&taken, &most).render(false),
            "user alice\n\
             WHAT             TAKEN  AT MOST\n\
             devices          2      5\n\
             running devices  1      unlimited\n\
             processors       0.6    8.0\n\
             memory, MB       8192   unlimited\n"
        );
        assert!(limits(&most).render(false).contains("devices          5\n"));
    }

    #[test]
    fn a_limit_is_a_number_or_none() {
        assert_eq!(whole("5"), Ok(Limit(json!(5))));
        assert_eq!(whole("unlimited"), Ok(Limit(Value::Null)));
        assert_eq!(number("1.5"), Ok(Limit(json!(1.5))));
        for text in ["", "-1", "1.5", "none"] {
            assert!(whole(text).is_err(), "{text}");
        }
        for text in ["inf", "nan", "x"] {
            assert!(number(text).is_err(), "{text}");
        }
    }
}
