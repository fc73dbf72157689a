//! Limits and reservations as rows. The limits are tested in the statement that inserts.

use super::{Result, cpu_cores};
use phonefleet_protocol::id::{DeviceId, UserId};
use phonefleet_protocol::mutant::{Mutant, planted};
use phonefleet_protocol::time::Timestamp;
use phonefleet_store::rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

/// What a user may have; `None` is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// Devices that exist.
    pub max_devices: Option<u64>,
    /// Devices that run, or may.
    pub max_concurrent_devices: Option<u64>,
    /// Processors of one device.
    pub device_cpu_cores: Option<f64>,
    /// Memory of one device, MiB.
    #[serde(rename = "deviceMemoryMB")]
    pub device_memory_mb: Option<u64>,
    /// Storage of one device, MiB.
    #[serde(rename = "deviceStorageMB")]
    pub device_storage_mb: Option<u64>,
    /// Processors of all devices together.
    pub total_cpu_cores: Option<f64>,
    /// Memory of all devices together, MiB.
    #[serde(rename = "totalMemoryMB")]
    pub total_memory_mb: Option<u64>,
    /// Storage of all devices together, MiB.
    #[serde(rename = "totalStorageMB")]
    pub total_storage_mb: Option<u64>,
    /// Bytes of recordings.
    pub recording_bytes: Option<u64>,
}

/// What a user's reservations add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Devices that exist or are being made.
    pub devices: u64,
    /// Devices that run or may.
    pub concurrent_devices: u64,
    /// Processors of all devices.
    pub cpu_cores: f64,
    /// Memory of all devices, MiB.
    #[serde(rename = "memoryMB")]
    pub memory_mb: u64,
    /// Storage of all devices, MiB.
    #[serde(rename = "storageMB")]
    pub storage_mb: u64,
}

/// What a reservation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A device exists.
    Device,
    /// A device runs, or may.
    Running,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Running => "running",
        }
    }
}

/// How much a device takes.
#[derive(Clone, Copy, Debug)]
pub struct Amount {
    /// Processors.
    pub cpu_cores: f64,
    /// Memory, MiB.
    pub memory_mb: u64,
    /// Storage, MiB.
    pub storage_mb: u64,
}

const COLUMNS: &str = "max_devices, max_concurrent_devices, device_cpu_cores, device_memory_mb,
    device_storage_mb, total_cpu_cores, total_memory_mb, total_storage_mb, recording_bytes";

/// The limits given to a user, `None` when none ever were.
pub fn limits(connection: &Connection, user: &UserId) -> Result<Option<Limits>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM quota_limit WHERE user_id = ?1"))?
        .query_row([user.as_str()], |row| {
            let whole = |index| row.get::<_, Option<i64>>(index).map(|number| number.map(|n| n as u64));
            Ok(Limits {
                max_devices: whole(0)?,
                max_concurrent_devices: whole(1)?,
                device_cpu_cores: row.get(2)?,
                device_memory_mb: whole(3)?,
                device_storage_mb: whole(4)?,
                total_cpu_cores: row.get(5)?,
                total_memory_mb: whole(6)?,
                total_storage_mb: whole(7)?,
                recording_bytes: whole(8)?,
            })
        })
        .optional()
}

/// Gives a user these limits.
pub fn set_limits(connection: &Connection, user: &UserId, limits: &Limits, now: Timestamp) -> Result<()> {
    let whole = |number: Option<u64>| number.map(|n| i64::try_from(n).unwrap_or(i64::MAX));
    connection
        .prepare_cached(&format!(
            "INSERT OR REPLACE INTO quota_limit(user_id, {COLUMNS}, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
        ))?
        .execute(params![
            user.as_str(),
            whole(limits.max_devices),
            whole(limits.max_concurrent_devices),
            limits.device_cpu_cores,
            whole(limits.device_memory_mb),
            whole(limits.device_storage_mb),
            limits.total_cpu_cores,
            whole(limits.total_memory_mb),
            whole(limits.total_storage_mb),
            whole(limits.recording_bytes),
            now.0
        ])
        .map(|_| ())
}

/// What a user's reservations add up to.
pub fn usage(connection: &Connection, user: &UserId) -> Result<Usage> {
    connection
        .prepare_cached(
            "SELECT devices, running, nano_cpus, memory_mb, storage_mb FROM quota_usage WHERE user_id = ?1",
        )?
        .query_row([user.as_str()], |row| {
            Ok(Usage {
                devices: row.get::<_, i64>(0)? as u64,
                concurrent_devices: row.get::<_, i64>(1)? as u64,
                cpu_cores: cpu_cores(row.get(2)?),
                memory_mb: row.get::<_, i64>(3)? as u64,
                storage_mb: row.get::<_, i64>(4)? as u64,
            })
        })
        .optional()
        .map(Option::unwrap_or_default)
}

/// Inserts a reservation if all limits still hold with it. `true` also when the owner has
/// one already.
pub fn reserve(
    connection: &Connection,
    owner: DeviceId,
    kind: Kind,
    user: &UserId,
    amount: Amount,
    limits: &Limits,
    now: Timestamp,
) -> Result<bool> {
    let unlimited = Limits::default();
    let limits = if planted(Mutant::Oversell) { &unlimited } else { limits };
    let most = match kind {
        Kind::Device => limits.max_devices,
        Kind::Running => limits.max_concurrent_devices,
    };
    let whole = |number: Option<u64>| number.map(|n| i64::try_from(n).unwrap_or(i64::MAX));
    let inserted = connection
        .prepare_cached(
            "INSERT INTO quota_reservation(owner, kind, user_id, cpu_cores, memory_mb, storage_mb, state, created_at)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, 'RESERVED', ?7
             FROM (SELECT 1) LEFT JOIN quota_usage u ON u.user_id = ?3
             WHERE NOT EXISTS (SELECT 1 FROM quota_reservation WHERE owner = ?1 AND kind = ?2)
                AND (?8 IS NULL OR coalesce(iif(?2 = 'device', u.devices, u.running), 0) + 1 <= ?8)
                AND (?9 IS NULL OR coalesce(u.nano_cpus, 0) + CAST(round(?4 * 1e9) AS INTEGER)
                    <= CAST(round(?9 * 1e9) AS INTEGER))
                AND (?10 IS NULL OR coalesce(u.memory_mb, 0) + ?5 <= ?10)
                AND (?11 IS NULL OR coalesce(u.storage_mb, 0) + ?6 <= ?11)",
        )?
        .execute(params![
            owner.to_string(),
            kind.name(),
            user.as_str(),
            amount.cpu_cores,
            amount.memory_mb as i64,
            amount.storage_mb as i64,
            now.0,
            whole(most),
            limits.total_cpu_cores,
            whole(limits.total_memory_mb),
            whole(limits.total_storage_mb)
        ])?;
    Ok(inserted == 1 || has(connection, owner, kind)?)
}

/// Whether the owner has a reservation of that kind.
pub fn has(connection: &Connection, owner: DeviceId, kind: Kind) -> Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM quota_reservation WHERE owner = ?1 AND kind = ?2")?
        .exists(params![owner.to_string(), kind.name()])
}

/// The owner's reservations become usage, or reservations again.
pub fn set_used(connection: &Connection, owner: DeviceId, used: bool) -> Result<()> {
    connection
        .prepare_cached("UPDATE quota_reservation SET state = ?2 WHERE owner = ?1")?
        .execute(params![owner.to_string(), if used { "USED" } else { "RESERVED" }])
        .map(|_| ())
}

/// Gives back one reservation of the owner, or all with `None`.
pub fn release(connection: &Connection, owner: DeviceId, kind: Option<Kind>) -> Result<()> {
    connection
        .prepare_cached("DELETE FROM quota_reservation WHERE owner = ?1 AND (?2 IS NULL OR kind = ?2)")?
        .execute(params![owner.to_string(), kind.map(Kind::name)])
        .map(|_| ())
}
