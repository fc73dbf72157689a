//! Hosts as rows.

use super::{Result, cpu_cores, json, unreadable};
use phonefleet_protocol::facts::DeviceFacts;
use phonefleet_protocol::host::{Heartbeat, HostReport};
use phonefleet_protocol::id::{DeviceId, HostId};
use phonefleet_protocol::time::Timestamp;
use phonefleet_store::rusqlite::{Connection, OptionalExtension, Row, params};
use std::time::Duration;

/// One host.
#[derive(Clone, Debug, PartialEq)]
pub struct HostRow {
    /// Its id.
    pub host_id: HostId,
    /// The machine it belongs to.
    pub machine_id: String,
    /// The agent's program and version.
    pub software: String,
    /// Its description.
    pub report: HostReport,
    /// Its newest heartbeat.
    pub heartbeat: Option<Heartbeat>,
    /// Heard within the presence period.
    pub online: bool,
    /// When it was last heard, by this clock.
    pub last_seen_at: Timestamp,
    /// Takes no new devices.
    pub cordoned: bool,
    /// The machine of a second living agent.
    pub conflict_with: Option<String>,
    /// Until when the conflict counts.
    pub conflict_until: Timestamp,
    /// When an operator gave it up.
    pub forgotten_at: Option<Timestamp>,
    /// First hello.
    pub registered_at: Timestamp,
}

const COLUMNS: &str = "host_id, machine_id, software, report, heartbeat, online, last_seen_at, cordoned,
    conflict_with, conflict_until, forgotten_at, registered_at";

fn read(row: &Row<'_>) -> Result<HostRow> {
    let report: String = row.get(3)?;
    let heartbeat: Option<String> = row.get(4)?;
    Ok(HostRow {
        host_id: row.get::<_, String>(0)?.parse().map_err(unreadable)?,
        machine_id: row.get(1)?,
        software: row.get(2)?,
        report: serde_json::from_str(&report).map_err(unreadable)?,
        heartbeat: heartbeat.map(|text| serde_json::from_str(&text)).transpose().map_err(unreadable)?,
        online: row.get(5)?,
        last_seen_at: Timestamp(row.get(6)?),
        cordoned: row.get(7)?,
        conflict_with: row.get(8)?,
        conflict_until: Timestamp(row.get(9)?),
        forgotten_at: row.get::<_, Option<i64>>(10)?.map(Timestamp),
        registered_at: Timestamp(row.get(11)?),
    })
}

/// One host by id.
pub fn find(connection: &Connection, host: &HostId) -> Result<Option<HostRow>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM host WHERE host_id = ?1"))?
        .query_row([host.as_str()], read)
        .optional()
}

/// Hosts behind `after`, by id.
pub fn page(connection: &Connection, after: &str, limit: u32) -> Result<Vec<HostRow>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM host WHERE host_id > ?1 ORDER BY host_id LIMIT ?2"))?
        .query_map(params![after, limit], read)?
        .collect()
}

/// Writes what a hello told: the first one registers the host.
pub fn upsert(connection: &Connection, host: &HostRow) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO host(host_id, machine_id, software, report, online, last_seen_at, registered_at)
             VALUES (?1, ?2, ?3, ?4, 1, ?5, ?6)
             ON CONFLICT(host_id) DO UPDATE SET machine_id = excluded.machine_id, software = excluded.software,
                report = excluded.report, online = 1, last_seen_at = excluded.last_seen_at,
                conflict_with = NULL, conflict_until = 0, forgotten_at = NULL",
        )?
        .execute(params![
            host.host_id.as_str(),
            host.machine_id,
            host.software,
            json(&host.report)?,
            host.last_seen_at.0,
            host.registered_at.0
        ])
        .map(|_| ())
}

/// Marks a host as heard. `false`: there is no such host, or another machine spoke.
pub fn heard(connection: &Connection, host: &HostId, heartbeat: &Heartbeat, now: Timestamp) -> Result<bool> {
    connection
        .prepare_cached(
            "UPDATE host SET heartbeat = ?2, last_seen_at = ?3, online = 1
             WHERE host_id = ?1 AND machine_id = ?4 AND forgotten_at IS NULL",
        )?
        .execute(params![host.as_str(), json(heartbeat)?, now.0, heartbeat.machine_id.as_str()])
        .map(|changed| changed > 0)
}

/// Marks hosts as silent that were not heard since `before`, and returns them.
pub fn silence(connection: &Connection, before: Timestamp) -> Result<Vec<HostId>> {
    let silent: Vec<String> = connection
        .prepare_cached("SELECT host_id FROM host WHERE online = 1 AND last_seen_at < ?1")?
        .query_map([before.0], |row| row.get(0))?
        .collect::<Result<_>>()?;
    for host in &silent {
        connection.prepare_cached("UPDATE host SET online = 0 WHERE host_id = ?1")?.execute([host])?;
    }
    silent.iter().map(|host| host.parse().map_err(unreadable)).collect()
}

/// Hosts that were heard more than `slack` later than `now` were heard now, and no conflict lasts
/// longer than `conflict`. Returns how many were changed.
pub fn take_back(
    connection: &Connection,
    now: Timestamp,
    slack: Duration,
    conflict: Duration,
) -> Result<usize> {
    connection
        .prepare_cached(
            "UPDATE host SET last_seen_at = min(last_seen_at, ?1), conflict_until = min(conflict_until, ?3)
             WHERE last_seen_at > ?2 OR conflict_until > ?3",
        )?
        .execute(params![now.0, now.after(slack).0, now.after(conflict).0])
}

/// Notes a second living agent.
pub fn set_conflict(connection: &Connection, host: &HostId, machine: &str, until: Timestamp) -> Result<()> {
    connection
        .prepare_cached("UPDATE host SET conflict_with = ?2, conflict_until = ?3 WHERE host_id = ?1")?
        .execute(params![host.as_str(), machine, until.0])
        .map(|_| ())
}

/// Cordons or uncordons. `false`: no such host.
pub fn set_cordoned(connection: &Connection, host: &HostId, cordoned: bool) -> Result<bool> {
    connection
        .prepare_cached("UPDATE host SET cordoned = ?2 WHERE host_id = ?1")?
        .execute(params![host.as_str(), cordoned])
        .map(|changed| changed > 0)
}

/// Gives a host up.
pub fn set_forgotten(connection: &Connection, host: &HostId, now: Timestamp) -> Result<()> {
    connection
        .prepare_cached("UPDATE host SET forgotten_at = ?2, online = 0 WHERE host_id = ?1")?
        .execute(params![host.as_str(), now.0])
        .map(|_| ())
}

/// A host that may be chosen, with what it carries.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The host.
    pub host_id: HostId,
    /// Its description.
    pub report: HostReport,
    /// Devices on it.
    pub devices: u32,
    /// Processors that they add up to.
    pub cpu_cores: f64,
    /// Memory that they add up to, MiB.
    pub memory_mb: u64,
    /// Whether it takes new devices now.
    pub open: bool,
}

/// Gives `choose` every registered host with its load, the emptiest first, or the one named.
/// They are read one by one: mostly the first one is chosen.
pub fn candidates<T>(
    connection: &Connection,
    only: Option<&HostId>,
    choose: impl FnOnce(&mut dyn Iterator<Item = Result<Candidate>>) -> T,
) -> Result<T> {
    let mut statement = connection.prepare_cached(match only {
        // CROSS: in this order, which is that of an index.
        None => concat!(
            "SELECT h.host_id, h.report, l.devices, l.nano_cpus, l.memory_mb, h.online = 1 AND h.cordoned = 0 ",
            "AND h.conflict_with IS NULL AND h.forgotten_at IS NULL ",
            "FROM host_load l CROSS JOIN host h ON h.host_id = l.host_id WHERE ?1 IS NULL ",
            "ORDER BY l.devices, l.memory_mb, l.host_id"
        ),
        Some(_) => concat!(
            "SELECT h.host_id, h.report, l.devices, l.nano_cpus, l.memory_mb, h.online = 1 AND h.cordoned = 0 ",
            "AND h.conflict_with IS NULL AND h.forgotten_at IS NULL ",
            "FROM host h JOIN host_load l ON l.host_id = h.host_id WHERE h.host_id = ?1"
        ),
    })?;
    let mut candidates = statement.query_map([only.map(HostId::as_str)], |row| {
        let report: String = row.get(1)?;
        Ok(Candidate {
            host_id: row.get::<_, String>(0)?.parse().map_err(unreadable)?,
            report: serde_json::from_str(&report).map_err(unreadable)?,
            devices: row.get(2)?,
            cpu_cores: cpu_cores(row.get(3)?),
            memory_mb: row.get::<_, i64>(4)? as u64,
            open: row.get(5)?,
        })
    })?;
    Ok(choose(&mut candidates))
}

/// Keeps the facts of a device that only its host knows.
pub fn put_stray(connection: &Connection, host: &HostId, facts: &DeviceFacts, now: Timestamp) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO stray_device(host_id, device_id, facts, seen_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT(host_id, device_id) DO UPDATE SET facts = excluded.facts, seen_at = excluded.seen_at",
        )?
        .execute(params![host.as_str(), facts.device_id.to_string(), json(facts)?, now.0])
        .map(|_| ())
}

/// Forgets a stray device that is gone or known again.
pub fn drop_stray(connection: &Connection, host: &HostId, device: DeviceId) -> Result<()> {
    connection
        .prepare_cached("DELETE FROM stray_device WHERE host_id = ?1 AND device_id = ?2")?
        .execute(params![host.as_str(), device.to_string()])
        .map(|_| ())
}

/// Forgets every stray device of a host that is given up.
pub fn drop_strays(connection: &Connection, host: &HostId) -> Result<()> {
    connection
        .prepare_cached("DELETE FROM stray_device WHERE host_id = ?1")?
        .execute([host.as_str()])
        .map(|_| ())
}

/// Forgets the stray devices that the inventory which is complete by now has not named.
pub fn drop_unseen_strays(connection: &Connection, host: &HostId) -> Result<()> {
    connection
        .prepare_cached(
            "DELETE FROM stray_device WHERE host_id = ?1 AND NOT EXISTS
                (SELECT 1 FROM inventory_seen s
                 WHERE s.host_id = stray_device.host_id AND s.device_id = stray_device.device_id)",
        )?
        .execute([host.as_str()])
        .map(|_| ())
}

/// Devices that only the host knows.
pub fn strays(connection: &Connection, host: &HostId) -> Result<Vec<DeviceFacts>> {
    connection
        .prepare_cached("SELECT facts FROM stray_device WHERE host_id = ?1 ORDER BY device_id")?
        .query_map([host.as_str()], |row| {
            serde_json::from_str(&row.get::<_, String>(0)?).map_err(unreadable)
        })?
        .collect()
}

/// An inventory of a host begins: nothing of it was seen yet.
pub fn inventory_begin(connection: &Connection, host: &HostId) -> Result<()> {
    connection
        .prepare_cached("DELETE FROM inventory_seen WHERE host_id = ?1")?
        .execute([host.as_str()])
        .map(|_| ())
}

/// The inventory named this device.
pub fn inventory_see(connection: &Connection, host: &HostId, device: DeviceId) -> Result<()> {
    connection
        .prepare_cached("INSERT OR IGNORE INTO inventory_seen(host_id, device_id) VALUES (?1, ?2)")?
        .execute(params![host.as_str(), device.to_string()])
        .map(|_| ())
}

/// The inventory is complete: which devices it named.
pub fn inventory_end(connection: &Connection, host: &HostId) -> Result<std::collections::HashSet<String>> {
    let seen = connection
        .prepare_cached("SELECT device_id FROM inventory_seen WHERE host_id = ?1")?
        .query_map([host.as_str()], |row| row.get(0))?
        .collect::<Result<_>>()?;
    inventory_begin(connection, host)?;
    Ok(seen)
}

/// What the devices of a host add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Devices that exist.
    pub devices: u32,
    /// Their processors.
    pub cpu_cores: f64,
    /// Their memory, MiB.
    pub memory_mb: u64,
}

/// The load of one host.
pub fn load(connection: &Connection, host: &HostId) -> Result<Load> {
    let load = connection
        .prepare_cached("SELECT devices, nano_cpus, memory_mb FROM host_load WHERE host_id = ?1")?
        .query_row([host.as_str()], |row| {
            Ok(Load {
                devices: row.get(0)?,
                cpu_cores: cpu_cores(row.get(1)?),
                memory_mb: row.get::<_, i64>(2)? as u64,
            })
        })
        .optional()?;
    Ok(load.unwrap_or_default())
}
