//! Port leases: one row a port, so that no port can have two owners.

use super::{Tx, unreadable};
use crate::port::QUARANTINE;
use phonefleet_protocol::facts::Ports;
use phonefleet_protocol::id::DeviceId;
use phonefleet_protocol::time::Timestamp;
use phonefleet_store::rusqlite::{self, Connection, OptionalExtension, params};

/// What a port is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PortKind {
    /// Published ADB port.
    Adb,
    /// Kept for a WebRTC streamer.
    Webrtc,
}

impl PortKind {
    /// The name in the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Adb => "adb",
            Self::Webrtc => "webrtc",
        }
    }
}

/// Who has a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A device.
    Leased(DeviceId),
    /// Something outside of the fleet, until this moment.
    Quarantined(Timestamp),
}

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortLease {
    /// The port.
    pub port: u16,
    /// What it is for.
    pub kind: PortKind,
    /// Who has it.
    pub holder: Holder,
}

/// Leases a port. A quarantine that is over, or of a clock that was set back, makes way.
///
/// # Errors
/// A constraint violation when somebody has it.
pub fn lease(
    tx: &mut Tx<'_>,
    port: u16,
    kind: PortKind,
    device: DeviceId,
    generation: u64,
    now: Timestamp,
) -> Result<(), rusqlite::Error> {
    tx.prepare_cached(
        "DELETE FROM port_lease
         WHERE port = ?1 AND state = 'QUARANTINED' AND (until <= ?2 OR until > ?3)",
    )?
    .execute(params![port, now.0, now.after(QUARANTINE).0])?;
    tx.prepare_cached(
        "INSERT INTO port_lease(port, kind, device_id, generation, state) VALUES (?1, ?2, ?3, ?4, 'LEASED')",
    )?
    .execute(params![port, kind.name(), device.to_string(), generation as i64])
    .map(|_| ())
}

/// Takes a port away from its device: something else holds it.
pub fn quarantine(tx: &mut Tx<'_>, port: u16, until: Timestamp) -> Result<(), rusqlite::Error> {
    tx.prepare_cached(
        "UPDATE port_lease SET device_id = NULL, generation = NULL, state = 'QUARANTINED', until = ?2
         WHERE port = ?1",
    )?
    .execute(params![port, until.0])
    .map(|_| ())
}

/// Releases every port of a device; called once its container is gone. Returns them.
pub fn release(tx: &mut Tx<'_>, device: DeviceId) -> Result<Vec<u16>, rusqlite::Error> {
    tx.prepare_cached("DELETE FROM port_lease WHERE device_id = ?1 RETURNING port")?
        .query_map([device.to_string()], |row| row.get(0))?
        .collect()
}

/// The port of one kind that a device has.
pub fn of_kind(
    connection: &Connection,
    device: DeviceId,
    kind: PortKind,
) -> Result<Option<u16>, rusqlite::Error> {
    connection
        .prepare_cached("SELECT port FROM port_lease WHERE device_id = ?1 AND kind = ?2")?
        .query_row(params![device.to_string(), kind.name()], |row| row.get(0))
        .optional()
}

/// Both ports of a device, once it has both.
pub fn of_device(connection: &Connection, device: DeviceId) -> Result<Option<Ports>, rusqlite::Error> {
    let adb = of_kind(connection, device, PortKind::Adb)?;
    let webrtc = of_kind(connection, device, PortKind::Webrtc)?;
    Ok(adb.zip(webrtc).map(|(adb, webrtc)| Ports { adb, webrtc }))
}

/// Every row, by port.
pub fn all(connection: &Connection) -> Result<Vec<PortLease>, rusqlite::Error> {
    connection
        .prepare_cached("SELECT port, kind, device_id, until FROM port_lease ORDER BY port")?
        .query_map([], |row| {
            let device: Option<String> = row.get(2)?;
            let until: Option<i64> = row.get(3)?;
            Ok(PortLease {
                port: row.get(0)?,
                kind: match row.get::<_, String>(1)?.as_str() {
                    "adb" => PortKind::Adb,
                    "webrtc" => PortKind::Webrtc,
                    other => return Err(unreadable(1, format!("unknown port kind {other:?}"))),
                },
                holder: match device {
                    Some(device) => Holder::Leased(device.parse().map_err(|error| unreadable(2, error))?),
                    None => Holder::Quarantined(Timestamp(until.unwrap_or(0))),
                },
            })
        })?
        .collect()
}
