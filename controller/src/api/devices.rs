//! `/devices`: orders of new phones, and the verbs on those there are.

use super::answer::{Answer, Envelope};
use super::body::{parse, parse_optional};
use super::device_view::{Addresses, DeviceView};
use super::idempotency::Call;
use super::openapi::Refusals;
use super::page::{Page, Window, parameter, query};
use super::problem::{Code, Problem};
use super::{Api, Named};
use crate::controller::Handle;
use crate::order::{self, Accepted, NewDevice, OrderError, Terms, Verb};
use crate::store::Tx;
use crate::store::device::{self as table, Filter, Status};
use axum::extract::State;
use axum::http::Uri;
use phonefleet_protocol::id::{DeviceId, HostId, UserId};
use phonefleet_protocol::spec::{DeviceSpec, FieldFault, GpuMode};
use phonefleet_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a phone is made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
pub enum ProviderType {
    /// Android in a container.
    #[serde(rename = "REDROID")]
    Redroid,
}

/// An order of a new device.
#[derive(Clone, Debug, PartialEq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewDeviceBody {
    /// Its name, unique among its user's devices: 1 to 63 letters, digits, `-`, `_`, `.`.
    #[schema(example = "phone-1", pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    name: String,
    /// Whose it will be.
    #[schema(value_type = String, example = "user-1", pattern = r"^[A-Za-z0-9._:@-]{1,128}$")]
    user_id: UserId,
    /// What it is made by.
    #[allow(dead_code, reason = "there is one provider; the field is checked by being read")]
    provider_type: ProviderType,
    /// Container image; must be on its host's allow-list. Without it, the host's.
    #[schema(pattern = r"^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}$")]
    image: Option<String>,
    /// Processors, 0.1 to 256. Default 2.
    #[schema(minimum = 0.1, maximum = 256)]
    cpu_cores: Option<f64>,
    /// Memory limit in MiB, at least 64. Default 4096.
    #[serde(rename = "memoryMB")]
    #[schema(minimum = 64, maximum = 4_194_304)]
    memory_mb: Option<u64>,
    /// Storage in MiB that quota counts.
    #[serde(rename = "storageMB")]
    #[schema(minimum = 1, maximum = 1_073_741_824)]
    storage_mb: Option<u64>,
    /// Pixels. Default 720.
    #[schema(minimum = 16, maximum = 7680)]
    width: Option<u32>,
    /// Pixels. Default 1280.
    #[schema(minimum = 16, maximum = 7680)]
    height: Option<u32>,
    /// Display density. Default 320.
    #[schema(minimum = 32, maximum = 1280)]
    dpi: Option<u32>,
    /// Frames a second. Default 30.
    #[schema(minimum = 1, maximum = 120)]
    fps: Option<u32>,
    /// `guest`, `host` or `auto`. Default `guest`.
    #[schema(value_type = Option<String>, pattern = "^(guest|host|auto)$")]
    gpu_mode: Option<GpuMode>,
    /// Further arguments of `/init`: `androidboot.…=…` or `ro.…=…`.
    #[schema(max_items = 64)]
    boot_args: Option<Vec<String>>,
    /// The host it must be on.
    #[schema(value_type = Option<String>, pattern = r"^[a-z0-9-]{1,63}$")]
    host_id: Option<HostId>,
    /// Refused until templates exist, and not described before.
    #[schema(ignore)]
    template_id: Option<String>,
    /// Free labels, at most 32: keys of 1 to 63 and values of at most 256 bytes of UTF-8, without
    /// control characters.
    labels: Option<BTreeMap<String, String>>,
}

impl NewDeviceBody {
    /// The order that it makes.
    pub fn order(self) -> Result<NewDevice, Problem> {
        if self.template_id.is_some() {
            let fault =
                FieldFault::new("/templateId", "templates are not built yet; give the fields themselves");
            return Err(Problem::fields(Code::InvalidSpec, vec![fault]));
        }
        let usual = DeviceSpec::default();
        let spec = DeviceSpec {
            image: self.image,
            cpu_cores: self.cpu_cores.unwrap_or(usual.cpu_cores),
            memory_mb: self.memory_mb.unwrap_or(usual.memory_mb),
            storage_mb: self.storage_mb,
            width: self.width.unwrap_or(usual.width),
            height: self.height.unwrap_or(usual.height),
            dpi: self.dpi.unwrap_or(usual.dpi),
            fps: self.fps.unwrap_or(usual.fps),
            gpu_mode: self.gpu_mode.unwrap_or(usual.gpu_mode),
            boot_args: self.boot_args.unwrap_or_default(),
        };
        Ok(NewDevice {
            name: self.name,
            user_id: self.user_id,
            spec,
            host_id: self.host_id,
            labels: self.labels.unwrap_or_default(),
        })
    }
}

/// What an accepted order answers.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ordered {
    /// The saga that carries it out.
    #[schema(example = "saga_1763722800000_0123456789abcdef")]
    saga_id: String,
    /// The device as it now stands.
    device: DeviceView,
}

impl Ordered {
    fn of(tx: &Tx<'_>, accepted: Accepted) -> Result<Self, Problem> {
        let device = Addresses::default().view(tx, accepted.device)?;
        Ok(Self { saga_id: accepted.saga_id.into(), device })
    }
}

/// A body without fields.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

impl From<OrderError> for Problem {
    fn from(error: OrderError) -> Self {
        let detail = error.to_string();
        match error {
            OrderError::InvalidSpec(faults) => Self::fields(Code::InvalidSpec, faults),
            OrderError::QuotaExceeded(exceeded) => Self::new(Code::QuotaExceeded, detail)
                .with("limit", exceeded.limit)
                .with("allowed", exceeded.allowed)
                .with("used", exceeded.used)
                .with("needed", exceeded.needed),
            OrderError::NoCapacity(_) => Self::new(Code::NoCapacity, detail),
            OrderError::NameTaken { .. } => {
                Self::fields(Code::Conflict, vec![FieldFault::new("/name", detail)])
            }
            OrderError::NotFound(_) => Self::new(Code::DeviceNotFound, detail),
            OrderError::Busy { saga_id, saga_type } => {
                Self::new(Code::Conflict, detail).with("sagaId", saga_id.as_str()).with("sagaType", saga_type)
            }
            OrderError::Status { status, .. } => {
                Self::new(Code::Conflict, detail).with("deviceStatus", status)
            }
            OrderError::Sqlite(error) => error.into(),
        }
    }
}

/// Orders a device. Of several reasons to refuse, the first is told: 400 `INVALID_SPEC`,
/// 409 `CONFLICT` (the user has a device of this name), 403 `QUOTA_EXCEEDED`, 503 `NO_CAPACITY`.
#[utoipa::path(
    post,
    path = "/devices",
    tag = "devices",
    params(("Idempotency-Key" = Option<String>, Header, description = "A call with the same key takes effect once")),
    request_body = NewDeviceBody,
    responses((status = 202, description = "Accepted; nothing is started yet", body = Envelope<Ordered>), Refusals)
)]
pub async fn create(State(api): State<Api>, call: Call) -> Result<Answer, Problem> {
    let body: NewDeviceBody = parse(&call.body, Code::InvalidSpec)?;
    let order = body.order()?;
    let user = order.user_id.clone();
    let handle = api.handle.clone();
    call.that_grows()
        .once(&api, Some(&user), move |tx, now| {
            let accepted = accept(&handle, tx, &order, now)?;
            let message = format!("device {} is being created", accepted.device.name);
            Answer::accepted(&Ordered::of(tx, accepted)?, message)
        })
        .await
}

/// The terms of this controller.
pub(super) fn terms(handle: &Handle) -> Terms {
    Terms { quota: handle.settings.quota, registry: handle.engine.registry }
}

fn accept(handle: &Handle, tx: &mut Tx<'_>, order: &NewDevice, now: Timestamp) -> Result<Accepted, Problem> {
    Ok(order::create(tx, terms(handle), order, &*handle.ids, now)?)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ListQuery {
    user_id: Option<String>,
    host_id: Option<String>,
    status: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
}

/// Lists devices that exist, the oldest first.
#[utoipa::path(
    get,
    path = "/devices",
    tag = "devices",
    params(
        ("userId" = Option<String>, Query, description = "Of this user only"),
        ("hostId" = Option<String>, Query, description = "On this host only"),
        ("status" = Option<Status>, Query, description = "With this status only"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, default 100"),
        ("cursor" = Option<String>, Query, description = "The nextCursor of the page before")
    ),
    responses((status = 200, description = "A page", body = Envelope<Page<DeviceView>>), Refusals)
)]
pub async fn list(State(api): State<Api>, uri: Uri) -> Result<Answer, Problem> {
    let query: ListQuery = query(&uri)?;
    let status = match query.status.as_deref() {
        None => None,
        Some(name) => Some(Status::from_name(name).ok_or_else(|| {
            let names: Vec<_> = Status::ALL.iter().map(|status| status.name()).collect();
            Problem::new(Code::InvalidQuery, format!("status must be one of {}", names.join(", ")))
        })?),
    };
    let filter = Filter {
        user_id: parameter("userId", query.user_id.as_deref())?,
        host_id: parameter("hostId", query.host_id.as_deref())?,
        status,
    };
    let window = Window::new::<DeviceId>(query.limit.as_deref(), query.cursor.as_deref())?;
    let page = api
        .read(move |connection| {
            let rows = table::page(connection, &filter, &window.after, window.rows())?;
            let rows = Page::of(rows, &window, |row| row.device_id.to_string(), |row| row);
            let mut addresses = Addresses::default();
            let items: Result<Vec<_>, _> =
                rows.items.into_iter().map(|row| addresses.view(connection, row)).collect();
            Ok(Page { items: items?, next_cursor: rows.next_cursor })
        })
        .await?;
    Answer::ok(&page, format!("{} devices", page.items.len()))
}

/// Reads the id in a path.
pub(super) fn device_id(text: &str) -> Result<DeviceId, Problem> {
    text.parse()
        .map_err(|error| Problem::new(Code::DeviceNotFound, format!("there is no such device: {error}")))
}

/// One device, also one that is gone.
#[utoipa::path(
    get,
    path = "/devices/{id}",
    tag = "devices",
    params(("id" = String, Path, description = "Id of the device")),
    responses((status = 200, description = "The device", body = Envelope<DeviceView>), Refusals)
)]
pub async fn find(State(api): State<Api>, Named(id): Named) -> Result<Answer, Problem> {
    let id = device_id(&id)?;
    let view = api
        .read(move |connection| {
            let row = table::find(connection, id)?;
            row.map(|row| Addresses::default().view(connection, row)).transpose()
        })
        .await?
        .ok_or_else(|| Problem::from(OrderError::NotFound(id)))?;
    Answer::ok(&view, "")
}

async fn verb(api: Api, id: String, call: Call, verb: Verb) -> Result<Answer, Problem> {
    let id = device_id(&id)?;
    let Nothing {} = parse_optional(&call.body)?;
    let handle = api.handle.clone();
    let call = if matches!(verb, Verb::Stop | Verb::Delete) { call } else { call.that_grows() };
    call.once(&api, None, move |tx, now| carry_out(&handle, tx, id, verb, now)).await
}

fn carry_out(
    handle: &Handle,
    tx: &mut Tx<'_>,
    id: DeviceId,
    verb: Verb,
    now: Timestamp,
) -> Result<Answer, Problem> {
    let policy = handle.settings.quota;
    let accepted = order::verb(tx, &handle.engine, policy, id, verb, &*handle.ids, now)?;
    let message = format!("device {} is {}", accepted.device.name, accepted.device.status.name());
    Answer::accepted(&Ordered::of(tx, accepted)?, message)
}

/// Starts a stopped device.
#[utoipa::path(post, path = "/devices/{id}/start", tag = "devices",
    params(("id" = String, Path, description = "Id of the device"),
        ("Idempotency-Key" = Option<String>, Header, description = "A call with the same key takes effect once")),
    responses((status = 202, description = "Accepted", body = Envelope<Ordered>), Refusals))]
pub async fn start(State(api): State<Api>, Named(id): Named, call: Call) -> Result<Answer, Problem> {
    verb(api, id, call, Verb::Start).await
}

/// Stops a device; container and ports stay.
#[utoipa::path(post, path = "/devices/{id}/stop", tag = "devices",
    params(("id" = String, Path, description = "Id of the device"),
        ("Idempotency-Key" = Option<String>, Header, description = "A call with the same key takes effect once")),
    responses((status = 202, description = "Accepted", body = Envelope<Ordered>), Refusals))]
pub async fn stop(State(api): State<Api>, Named(id): Named, call: Call) -> Result<Answer, Problem> {
    verb(api, id, call, Verb::Stop).await
}

/// Stops and starts a device once.
#[utoipa::path(post, path = "/devices/{id}/reboot", tag = "devices",
    params(("id" = String, Path, description = "Id of the device"),
        ("Idempotency-Key" = Option<String>, Header, description = "A call with the same key takes effect once")),
    responses((status = 202, description = "Accepted", body = Envelope<Ordered>), Refusals))]
pub async fn reboot(State(api): State<Api>, Named(id): Named, call: Call) -> Result<Answer, Problem> {
    verb(api, id, call, Verb::Reboot).await
}

/// Gives a device new, empty data and starts it.
#[utoipa::path(post, path = "/devices/{id}/reset", tag = "devices",
    params(("id" = String, Path, description = "Id of the device"),
        ("Idempotency-Key" = Option<String>, Header, description = "A call with the same key takes effect once")),
    responses((status = 202, description = "Accepted", body = Envelope<Ordered>), Refusals))]
pub async fn reset(State(api): State<Api>, Named(id): Named, call: Call) -> Result<Answer, Problem> {
    verb(api, id, call, Verb::Reset).await
}

/// Removes a device, whatever it does. Repeated, it is the same removal.
#[utoipa::path(delete, path = "/devices/{id}", tag = "devices",
    params(("id" = String, Path, description = "Id of the device")),
    responses((status = 202, description = "Accepted", body = Envelope<Ordered>), Refusals))]
pub async fn delete(State(api): State<Api>, Named(id): Named) -> Result<Answer, Problem> {
    let id = device_id(&id)?;
    let (handle, now) = (api.handle.clone(), api.clock().now());
    api.write(move |tx| carry_out(&handle, tx, id, Verb::Delete, now)).await
}
