//! `/quotas`: what users may have, and what they take.
#![allow(clippy::option_option, reason = "absent, null and a number are three things")]

use super::answer::{Answer, Envelope};
use super::body::parse;
use super::idempotency::Call;
use super::openapi::Refusals;
use super::problem::{Code, Problem};
use super::{Api, Named};
use crate::store::quota::{self as table, Limits, Usage};
use crate::store::recording;
use axum::extract::State;
use phonefleet_protocol::id::UserId;
use phonefleet_protocol::spec::FieldFault;
use serde::{Deserialize, Deserializer, Serialize};

/// `maxDevices` without a limit. Its column cannot say so by being NULL, which is the
/// default of `[quota]`; this is more than SQLite can count to.
const UNLIMITED_DEVICES: u64 = i64::MAX as u64;
/// Largest whole number that every JSON reader keeps exactly.
const LARGEST: u64 = 1 << 53;

/// What a user may have; `null` is unlimited.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Quota)]
pub struct QuotaView {
    /// Whose it is.
    user_id: String,
    /// Devices that exist.
    max_devices: Option<u64>,
    /// Devices that run.
    max_concurrent_devices: Option<u64>,
    /// Processors of one device.
    device_cpu_cores: Option<f64>,
    /// Memory of one device, MiB.
    #[serde(rename = "deviceMemoryMB")]
    device_memory_mb: Option<u64>,
    /// Storage of one device, MiB.
    #[serde(rename = "deviceStorageMB")]
    device_storage_mb: Option<u64>,
    /// Processors of all devices.
    total_cpu_cores: Option<f64>,
    /// Memory of all devices, MiB.
    #[serde(rename = "totalMemoryMB")]
    total_memory_mb: Option<u64>,
    /// Storage of all devices, MiB.
    #[serde(rename = "totalStorageMB")]
    total_storage_mb: Option<u64>,
    /// Bytes of recordings.
    recording_bytes: Option<u64>,
}

impl QuotaView {
    fn new(user: &UserId, limits: Limits) -> Self {
        Self {
            user_id: user.as_str().to_owned(),
            max_devices: limits.max_devices.filter(|most| *most < UNLIMITED_DEVICES),
            max_concurrent_devices: limits.max_concurrent_devices,
            device_cpu_cores: limits.device_cpu_cores,
            device_memory_mb: limits.device_memory_mb,
            device_storage_mb: limits.device_storage_mb,
            total_cpu_cores: limits.total_cpu_cores,
            total_memory_mb: limits.total_memory_mb,
            total_storage_mb: limits.total_storage_mb,
            recording_bytes: limits.recording_bytes,
        }
    }
}

/// Changes of limits: those that are named change, `null` is unlimited.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schema(as = QuotaChange)]
pub struct QuotaBody {
    /// Devices that exist.
    #[serde(deserialize_with = "named")]
    #[schema(value_type = Option<u64>, maximum = 9_007_199_254_740_992_u64)]
    max_devices: Option<Option<u64>>,
    /// Devices that run.
    #[serde(deserialize_with = "named")]
    #[schema(value_type = Option<u64>, maximum = 9_007_199_254_740_992_u64)]
    max_concurrent_devices: Option<Option<u64>>,
    /// Processors of one device.
    #[serde(deserialize_with = "named")]
    #[schema(value_type = Option<f64>, minimum = 0, maximum = 1_000_000_000)]
    device_cpu_cores: Option<Option<f64>>,
    /// Memory of one device, MiB.
    #[serde(rename = "deviceMemoryMB", deserialize_with = "named")]
    #[schema(value_type = Option<u64>, maximum = 9_007_199_254_740_992_u64)]
    device_memory_mb: Option<Option<u64>>,
    /// Storage of one device, MiB.
    #[serde(rename = "deviceStorageMB", deserialize_with = "named")]
    #[schema(value_type = Option<u64>, maximum = 9_007_199_254_740_992_u64)]
    device_storage_mb: Option<Option<u64>>,
    /// Processors of all devices.
    #[serde(deserialize_with = "named")]
    #[schema(value_type = Option<f64>, minimum = 0, maximum = 1_000_000_000)]
    total_cpu_cores: Option<Option<f64>>,
    /// Memory of all devices, MiB.
    #[serde(rename = "totalMemoryMB", deserialize_with = "named")]
    #[schema(value_type = Option<u64>, maximum = 9_007_199_254_740_992_u64)]
    total_memory_mb: Option<Option<u64>>,
    /// Storage of all devices, MiB.
    #[serde(rename = "totalStorageMB", deserialize_with = "named")]
    #[schema(value_type = Option<u64>, maximum = 9_007_199_254_740_992_u64)]
    total_storage_mb: Option<Option<u64>>,
    /// Bytes of recordings.
    #[serde(deserialize_with = "named")]
    #[schema(value_type = Option<u64>, maximum = 9_007_199_254_740_992_u64)]
    recording_bytes: Option<Option<u64>>,
}

/// A field that is there, also where it is `null`.
#[allow(clippy::option_option, reason = "absent, null and a number are three things")]
fn named<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl QuotaBody {
    fn faults(&self) -> Vec<FieldFault> {
        let whole = [
            ("/maxDevices", self.max_devices),
            ("/maxConcurrentDevices", self.max_concurrent_devices),
            ("/deviceMemoryMB", self.device_memory_mb),
            ("/deviceStorageMB", self.device_storage_mb),
            ("/totalMemoryMB", self.total_memory_mb),
            ("/totalStorageMB", self.total_storage_mb),
            ("/recordingBytes", self.recording_bytes),
        ];
        let cores = [("/deviceCpuCores", self.device_cpu_cores), ("/totalCpuCores", self.total_cpu_cores)];
        let mut faults = Vec::new();
        for (pointer, value) in whole {
            if value.flatten().is_some_and(|value| value > LARGEST) {
                faults.push(FieldFault::new(
                    pointer,
                    format!("{} must be at most 2^53; null is unlimited", &pointer[1..]),
                ));
            }
        }
        for (pointer, value) in cores {
            if value.flatten().is_some_and(|value| !(0.0..=1e9).contains(&value)) {
                let detail = format!("{} must be from 0 to 1000000000; null is unlimited", &pointer[1..]);
                faults.push(FieldFault::new(pointer, detail));
            }
        }
        faults
    }

    fn change(&self, limits: &mut Limits) {
        fn set<T: Copy>(limit: &mut Option<T>, named: Option<Option<T>>) {
            if let Some(value) = named {
                *limit = value;
            }
        }
        set(&mut limits.max_devices, self.max_devices.map(|most| Some(most.unwrap_or(UNLIMITED_DEVICES))));
        set(&mut limits.max_concurrent_devices, self.max_concurrent_devices);
        set(&mut limits.device_cpu_cores, self.device_cpu_cores);
        set(&mut limits.device_memory_mb, self.device_memory_mb);
        set(&mut limits.device_storage_mb, self.device_storage_mb);
        set(&mut limits.total_cpu_cores, self.total_cpu_cores);
        set(&mut limits.total_memory_mb, self.total_memory_mb);
        set(&mut limits.total_storage_mb, self.total_storage_mb);
        set(&mut limits.recording_bytes, self.recording_bytes);
    }
}

fn user_id(text: &str) -> Result<UserId, Problem> {
    text.parse().map_err(|error| Problem::new(Code::InvalidQuery, format!("{error}")))
}

/// The limits in force for a user.
#[utoipa::path(get, path = "/quotas/{userId}", tag = "quotas",
    params(("userId" = String, Path, description = "The user")),
    responses((status = 200, description = "The limits", body = Envelope<QuotaView>), Refusals))]
pub async fn limits(State(api): State<Api>, Named(id): Named) -> Result<Answer, Problem> {
    let user = user_id(&id)?;
    let policy = api.handle.settings.quota;
    let view =
        api.read(move |connection| Ok(QuotaView::new(&user, policy.limits(connection, &user)?))).await?;
    Answer::ok(&view, "")
}

/// Changes limits of a user. What is taken already stays, also above a new limit.
#[utoipa::path(put, path = "/quotas/{userId}", tag = "quotas",
    params(("userId" = String, Path, description = "The user"),
        ("Idempotency-Key" = Option<String>, Header, description = "A call with the same key takes effect once")),
    request_body = QuotaBody,
    responses((status = 200, description = "The limits", body = Envelope<QuotaView>), Refusals))]
pub async fn set_limits(State(api): State<Api>, Named(id): Named, call: Call) -> Result<Answer, Problem> {
    let user = user_id(&id)?;
    let body: QuotaBody = parse(&call.body, Code::InvalidBody)?;
    let faults = body.faults();
    if !faults.is_empty() {
        return Err(Problem::fields(Code::InvalidBody, faults));
    }
    let policy = api.handle.settings.quota;
    let key_user = user.clone();
    call.once(&api, Some(&key_user), move |tx, now| {
        let mut limits = table::limits(tx, &user)?.unwrap_or_default();
        body.change(&mut limits);
        table::set_limits(tx, &user, &limits, now)?;
        Answer::ok(&QuotaView::new(&user, policy.limits(tx, &user)?), format!("limits of user {user}"))
    })
    .await
}

/// Gives a user the default limits again. What is taken already stays, also above them.
#[utoipa::path(delete, path = "/quotas/{userId}", tag = "quotas",
    params(("userId" = String, Path, description = "The user")),
    responses((status = 200, description = "The default limits", body = Envelope<QuotaView>), Refusals))]
pub async fn reset_limits(State(api): State<Api>, Named(id): Named) -> Result<Answer, Problem> {
    let user = user_id(&id)?;
    let (policy, now) = (api.handle.settings.quota, api.clock().now());
    let view = api
        .write(move |tx| {
            table::set_limits(tx, &user, &Limits::default(), now)?;
            Ok(QuotaView::new(&user, policy.limits(tx, &user)?))
        })
        .await?;
    Answer::ok(&view, "the default limits")
}

/// What a user takes.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = QuotaUsage)]
pub struct UsageView {
    /// Whose it is.
    user_id: String,
    /// Devices that exist or are being made.
    devices: u64,
    /// Devices that run or may.
    concurrent_devices: u64,
    /// Processors of all devices.
    cpu_cores: f64,
    /// Memory of all devices, MiB.
    #[serde(rename = "memoryMB")]
    memory_mb: u64,
    /// Storage of all devices, MiB.
    #[serde(rename = "storageMB")]
    storage_mb: u64,
    /// Bytes of recordings: expected ones of those that run, real ones of those that ended.
    recording_bytes: u64,
}

/// What a user takes now.
#[utoipa::path(get, path = "/quotas/{userId}/usage", tag = "quotas",
    params(("userId" = String, Path, description = "The user")),
    responses((status = 200, description = "The usage", body = Envelope<UsageView>), Refusals))]
pub async fn usage(State(api): State<Api>, Named(id): Named) -> Result<Answer, Problem> {
    let user = user_id(&id)?;
    let asked = user.clone();
    let (usage, recording_bytes) = api
        .read(move |connection| {
            Ok((table::usage(connection, &asked)?, recording::quota_bytes(connection, &asked)?))
        })
        .await?;
    let Usage { devices, concurrent_devices, cpu_cores, memory_mb, storage_mb } = usage;
    let view = UsageView {
        user_id: user.into(),
        devices,
        concurrent_devices,
        cpu_cores,
        memory_mb,
        storage_mb,
        recording_bytes,
    };
    Answer::ok(&view, "")
}
