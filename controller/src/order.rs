//! Orders: a new device, and the verbs on one. Each is one transaction; an order that is
//! refused has changed nothing.

use crate::placement::{self, Misfit};
use crate::quota::{Exceeded, Policy};
use crate::saga::device_step::DeviceState;
use crate::saga::{
    Definition, Engine, REGISTRY, Registry, device_creation, device_deletion, device_reboot, device_reset,
    device_start, device_stop, new_saga_id,
};
use crate::store::device::{self as devices, DeviceRow, Status};
use crate::store::saga::SagaRow;
use crate::store::{Tx, event_outbox, host, saga as sagas};
use phonefleet_protocol::desired::Wish;
use phonefleet_protocol::id::{DeviceId, HostId, IdSource, SagaId, UserId};
use phonefleet_protocol::limits::shorten;
use phonefleet_protocol::spec::{DeviceSpec, FieldFault};
use phonefleet_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An order of a new device.
#[derive(Clone, Debug, PartialEq)]
pub struct NewDevice {
    /// Its name, unique among its user's devices.
    pub name: String,
    /// Whose it will be.
    pub user_id: UserId,
    /// What it is made of.
    pub spec: DeviceSpec,
    /// The host it must be on.
    pub host_id: Option<HostId>,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
}

/// Why an order was refused. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// Fields are wrong: fix them.
    #[error("the order cannot be built: {}", .0.iter().map(|fault| fault.detail.as_str()).collect::<Vec<_>>().join("; "))]
    InvalidSpec(Vec<FieldFault>),
    /// It does not fit into the user's quota.
    #[error(transparent)]
    QuotaExceeded(#[from] Exceeded),
    /// No host has room: try later, or another spec.
    #[error("{0}")]
    NoCapacity(String),
    /// The user has a device of this name.
    #[error("user {user_id} has a device named {name:?} already")]
    NameTaken {
        /// The user.
        user_id: UserId,
        /// The name.
        name: String,
    },
    /// There is no such device.
    #[error("there is no device {0}")]
    NotFound(DeviceId),
    /// A saga is working on the device: wait for it, or delete the device.
    #[error(
        "{saga_type} is working on this device; wait until saga {saga_id} has ended, or delete the device"
    )]
    Busy {
        /// The saga.
        saga_id: SagaId,
        /// Its type.
        saga_type: String,
    },
    /// The verb makes no sense in this status.
    #[error("a device that is {status} cannot be told to {verb}")]
    Status {
        /// The device's status.
        status: &'static str,
        /// The verb.
        verb: &'static str,
    },
    /// SQLite refuses.
    #[error(transparent)]
    Sqlite(#[from] phonefleet_store::rusqlite::Error),
}

/// A verb on an existing device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// A stopped device runs.
    Start,
    /// A running device stops.
    Stop,
    /// A running device stops and starts.
    Reboot,
    /// A device gets empty data and starts.
    Reset,
    /// A device goes.
    Delete,
}

impl Verb {
    const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Reboot => "reboot",
            Self::Reset => "reset",
            Self::Delete => "delete",
        }
    }

    const fn definition(self) -> &'static Definition {
        match self {
            Self::Start => &device_start::DEFINITION,
            Self::Stop => &device_stop::DEFINITION,
            Self::Reboot => &device_reboot::DEFINITION,
            Self::Reset => &device_reset::DEFINITION,
            Self::Delete => &device_deletion::DEFINITION,
        }
    }

    const fn status(self) -> Status {
        match self {
            Self::Stop => Status::Stopping,
            Self::Start | Self::Reboot | Self::Reset => Status::Starting,
            Self::Delete => Status::Deleting,
        }
    }

    /// Whether a device at rest in this status can be told so.
    const fn fits(self, status: Status) -> bool {
        match self {
            Self::Start => {
                matches!(status, Status::Stopped | Status::Error | Status::Lost | Status::Starting)
            }
            Self::Stop => matches!(
                status,
                Status::Running | Status::Error | Status::Starting | Status::Stopping | Status::Stopped
            ),
            Self::Reboot => matches!(status, Status::Running | Status::Error | Status::Starting),
            Self::Reset => !matches!(status, Status::Parked | Status::Deleted),
            Self::Delete => true,
        }
    }
}

/// What an accepted order leads to.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    /// The saga that carries it out.
    pub saga_id: SagaId,
    /// The device as it now stands.
    pub device: DeviceRow,
}

fn faults(order: &NewDevice) -> Vec<FieldFault> {
    let mut faults = order.spec.faults();
    let name_fits = (1..=63).contains(&order.name.len())
        && order.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && order.name.as_bytes()[0].is_ascii_alphanumeric();
    if !name_fits {
        let detail =
            "name must have 1 to 63 letters, digits, '-', '_' or '.', and begin with a letter or digit";
        faults.push(FieldFault::new("/name", detail));
    }
    if order.labels.len() > 32 {
        faults.push(FieldFault::new("/labels", "at most 32 labels are kept"));
    }
    for (key, value) in &order.labels {
        let sizes = (1..=63).contains(&key.len()) && value.len() <= 256;
        if !sizes || key.chars().chain(value.chars()).any(deceives) {
            let pointer = format!("/labels/{}", key.replace('~', "~0").replace('/', "~1"));
            let detail = "a label has a key of 1 to 63 and a value of at most 256 bytes of UTF-8, without \
                          control characters and changes of the writing direction";
            faults.push(FieldFault::new(shorten(&pointer), detail));
        }
        if faults.len() > 32 {
            break; // enough to see
        }
    }
    faults
}

/// Characters that make a terminal or a log show something else than there is.
pub(crate) fn deceives(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What orders of new devices are accepted by.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Limits of users.
    pub quota: Policy,
    /// The sagas, with their deadlines.
    pub registry: Registry,
}

impl From<Policy> for Terms {
    fn from(quota: Policy) -> Self {
        Self { quota, registry: REGISTRY }
    }
}

/// Accepts an order of a new device: spec, quota, host, row and saga, all or nothing.
///
/// Of several reasons to refuse, the first is told: fields (400), name (409), quota (403),
/// room (503). The name goes before quota and room, because it says what those cannot: an
/// order that is sent again has been accepted before. It would never fit by waiting either.
pub fn create(
    tx: &mut Tx<'_>,
    terms: impl Into<Terms>,
    order: &NewDevice,
    ids: &dyn IdSource,
    now: Timestamp,
) -> Result<Accepted, OrderError> {
    let terms: Terms = terms.into();
    let faults = faults(order);
    if !faults.is_empty() {
        return Err(OrderError::InvalidSpec(faults));
    }
    let choice =
        host::candidates(tx, order.host_id.as_ref(), |hosts| placement::choose(hosts, &order.spec))??;
    if let Err(Misfit::ImageNotAllowed(detail)) = choice {
        return Err(OrderError::InvalidSpec(vec![FieldFault::new("/image", detail)]));
    }
    if devices::name_taken(tx, &order.user_id, &order.name)? {
        return Err(OrderError::NameTaken { user_id: order.user_id.clone(), name: order.name.clone() });
    }
    let device_id = DeviceId(ids.uuid(now));
    terms.quota.reserve_device(tx, device_id, &order.user_id, &order.spec, now)??;
    let host_id = choice.map_err(|misfit| match misfit {
        Misfit::NoCapacity(detail) | Misfit::ImageNotAllowed(detail) => OrderError::NoCapacity(detail),
    })?;
    let saga_id = new_saga_id(ids, now);
    let device = DeviceRow {
        device_id,
        name: order.name.clone(),
        user_id: order.user_id.clone(),
        host_id,
        status: Status::Creating,
        spec: order.spec.clone(),
        labels: order.labels.clone(),
        generation: 0,
        attempt: 0,
        question: None,
        wish: Wish::Absent,
        boot_count: 0,
        data_epoch: 0,
        command_seq: None,
        command_dirty: false,
        answered: (0, 0),
        answer: None,
        phase: None,
        ports: None,
        container_id: None,
        reason: None,
        starts: 0,
        saga_id: Some(saga_id.clone()),
        created_at: now,
        updated_at: now,
        deleted_at: None,
    };
    devices::insert(tx, &device)?;
    let definition = terms.registry.in_force(&device_creation::DEFINITION);
    let state = crate::store::json(&DeviceState::new(device_id))?;
    Engine::start(tx, definition, saga_id.clone(), Some(device_id), state, now)?;
    event_outbox::append(tx, "device", &device_id.to_string(), "device.ordered", &order.user_id, now)?;
    Ok(Accepted { saga_id, device })
}

/// Accepts a verb on a device.
pub fn verb(
    tx: &mut Tx<'_>,
    engine: &Engine,
    policy: Policy,
    device_id: DeviceId,
    verb: Verb,
    ids: &dyn IdSource,
    now: Timestamp,
) -> Result<Accepted, OrderError> {
    let mut device = devices::find(tx, device_id)?.ok_or(OrderError::NotFound(device_id))?;
    let newest = match &device.saga_id {
        Some(id) => sagas::find(tx, id)?,
        None => None,
    };
    if verb == Verb::Delete {
        return delete(tx, engine, device, newest, ids, now);
    }
    if device.deleted_at.is_some() {
        return Err(OrderError::NotFound(device_id));
    }
    if let Some(active) = newest.filter(|saga| !saga.status.is_terminal()) {
        return Err(OrderError::Busy { saga_id: active.saga_id, saga_type: active.saga_type });
    }
    if !verb.fits(device.status) {
        return Err(OrderError::Status { status: device.status.name(), verb: verb.name() });
    }
    if verb != Verb::Stop {
        policy.reserve_running(tx, device_id, &device.user_id, now)??;
    }
    device.status = verb.status();
    let saga_id = start(
        tx,
        engine.registry.in_force(verb.definition()),
        &mut device,
        &DeviceState::new(device_id),
        ids,
        now,
    )?;
    Ok(Accepted { saga_id, device })
}

/// A deletion is accepted in every state; repeated, it is the same one.
fn delete(
    tx: &mut Tx<'_>,
    engine: &Engine,
    mut device: DeviceRow,
    newest: Option<SagaRow>,
    ids: &dyn IdSource,
    now: Timestamp,
) -> Result<Accepted, OrderError> {
    let mut state = DeviceState::new(device.device_id);
    if let Some(saga) = newest {
        let gone_or_going = device.deleted_at.is_some() || !saga.status.is_terminal();
        if saga.saga_type == device_deletion::DEFINITION.saga_type && gone_or_going {
            return Ok(Accepted { saga_id: saga.saga_id, device });
        }
        if !saga.status.is_terminal() {
            state.cancels = Some(saga.saga_id.as_str().to_owned());
        }
    }
    if device.deleted_at.is_some() {
        return Err(OrderError::NotFound(device.device_id));
    }
    let active = state.cancels.clone();
    device.status = Verb::Delete.status();
    let saga_id =
        start(tx, engine.registry.in_force(&device_deletion::DEFINITION), &mut device, &state, ids, now)?;
    if let Some(active) = active.and_then(|id| id.parse().ok()) {
        engine.cancel(tx, &active, "the device is being deleted", now)?;
    }
    let device = devices::find(tx, device.device_id)?.unwrap_or(device);
    Ok(Accepted { saga_id, device })
}

fn start(
    tx: &mut Tx<'_>,
    definition: &'static Definition,
    device: &mut DeviceRow,
    state: &DeviceState,
    ids: &dyn IdSource,
    now: Timestamp,
) -> Result<SagaId, OrderError> {
    let saga_id = new_saga_id(ids, now);
    device.saga_id = Some(saga_id.clone());
    devices::update(tx, device, now)?;
    Engine::start(tx, definition, saga_id.clone(), Some(device.device_id), crate::store::json(state)?, now)?;
    Ok(saga_id)
}
