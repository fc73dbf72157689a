//! Quota: never oversold, because it is reserved in the transaction that accepts.

use crate::store::quota::{self as table, Amount, Kind, Limits, Usage};
use crate::store::{Result, Tx};
use phonefleet_protocol::id::{DeviceId, UserId};
use phonefleet_protocol::mutant::{Mutant, planted};
use phonefleet_protocol::spec::DeviceSpec;
use phonefleet_protocol::time::Timestamp;
use phonefleet_store::rusqlite::Connection;
use serde::{Deserialize, Serialize};

/// Where limits come from (`[quota]` of controller.toml).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// `maxDevices` of a user who was never given one.
    pub default_max_devices: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self { default_max_devices: 5 }
    }
}

/// Why an order does not fit. Nothing was reserved.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{limit} of user {user_id} is {allowed}, {used} are taken, and this order needs {needed} more")]
pub struct Exceeded {
    /// The user.
    pub user_id: UserId,
    /// The limit's name in the API.
    pub limit: &'static str,
    /// What it allows.
    pub allowed: f64,
    /// What is taken.
    pub used: f64,
    /// What the order needs.
    pub needed: f64,
}

impl Policy {
    /// The limits in force for a user.
    pub fn limits(&self, connection: &Connection, user: &UserId) -> Result<Limits> {
        let given = table::limits(connection, user)?.unwrap_or_default();
        Ok(Limits { max_devices: given.max_devices.or(Some(self.default_max_devices)), ..given })
    }

    /// Reserves a new device and its right to run. The inner error says what was exceeded.
    pub fn reserve_device(
        &self,
        tx: &mut Tx<'_>,
        device: DeviceId,
        user: &UserId,
        spec: &DeviceSpec,
        now: Timestamp,
    ) -> Result<std::result::Result<(), Exceeded>> {
        let limits = self.limits(tx, user)?;
        let amount = Amount {
            cpu_cores: spec.cpu_cores,
            memory_mb: spec.memory_mb,
            storage_mb: spec.storage_mb.unwrap_or(0),
        };
        if let Some(exceeded) = device_exceeds(user, amount, &limits) {
            return Ok(Err(exceeded));
        }
        if !table::reserve(tx, device, Kind::Device, user, amount, &limits, now)? {
            let usage = table::usage(tx, user)?;
            return Ok(Err(total_exceeds(user, amount, &limits, &usage)));
        }
        let running = self.reserve_running(tx, device, user, now)?;
        if running.is_err() {
            table::release(tx, device, Some(Kind::Device))?;
        }
        Ok(running)
    }

    /// Reserves the right of an existing device to run.
    pub fn reserve_running(
        &self,
        tx: &mut Tx<'_>,
        device: DeviceId,
        user: &UserId,
        now: Timestamp,
    ) -> Result<std::result::Result<(), Exceeded>> {
        let limits = self.limits(tx, user)?;
        let nothing = Amount { cpu_cores: 0.0, memory_mb: 0, storage_mb: 0 };
        // Its size was counted when it was made: only the number that run is tested.
        let running = Limits { max_concurrent_devices: limits.max_concurrent_devices, ..Limits::default() };
        if table::reserve(tx, device, Kind::Running, user, nothing, &running, now)? {
            return Ok(Ok(()));
        }
        let usage = table::usage(tx, user)?;
        Ok(Err(Exceeded {
            user_id: user.clone(),
            limit: "maxConcurrentDevices",
            allowed: limits.max_concurrent_devices.unwrap_or(u64::MAX) as f64,
            used: usage.concurrent_devices as f64,
            needed: 1.0,
        }))
    }
}

/// Whether a device holds a reservation.
pub fn holds(connection: &Connection, device: DeviceId, kind: Kind) -> Result<bool> {
    table::has(connection, device, kind)
}

/// Gives back one reservation of a device, or all of them.
pub fn release(tx: &mut Tx<'_>, device: DeviceId, kind: Option<Kind>) -> Result<()> {
    if kind == Some(Kind::Running) && planted(Mutant::KeepRunningRight) {
        return Ok(());
    }
    table::release(tx, device, kind)
}

fn device_exceeds(user: &UserId, amount: Amount, limits: &Limits) -> Option<Exceeded> {
    let rows = [
        ("deviceCpuCores", limits.device_cpu_cores, amount.cpu_cores),
        ("deviceMemoryMB", limits.device_memory_mb.map(|most| most as f64), amount.memory_mb as f64),
        ("deviceStorageMB", limits.device_storage_mb.map(|most| most as f64), amount.storage_mb as f64),
    ];
    rows.into_iter().find_map(|(limit, allowed, needed)| {
        let allowed = allowed.filter(|allowed| needed > *allowed)?;
        Some(Exceeded { user_id: user.clone(), limit, allowed, used: 0.0, needed })
    })
}

/// Which total the statement refused: the first that does not fit, for the message.
fn total_exceeds(user: &UserId, amount: Amount, limits: &Limits, usage: &Usage) -> Exceeded {
    let whole = |most: Option<u64>| most.map_or(f64::INFINITY, |most| most as f64);
    let rows = [
        ("maxDevices", whole(limits.max_devices), usage.devices as f64, 1.0),
        ("totalCpuCores", limits.total_cpu_cores.unwrap_or(f64::INFINITY), usage.cpu_cores, amount.cpu_cores),
        ("totalMemoryMB", whole(limits.total_memory_mb), usage.memory_mb as f64, amount.memory_mb as f64),
        ("totalStorageMB", whole(limits.total_storage_mb), usage.storage_mb as f64, amount.storage_mb as f64),
    ];
    let (limit, allowed, used, needed) =
        rows.into_iter().find(|(_, allowed, used, needed)| used + needed > allowed + 1e-9).unwrap_or(rows[0]);
    Exceeded { user_id: user.clone(), limit, allowed, used, needed }
}
