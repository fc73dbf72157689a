//! What is true at this moment: what still moves, and what is believed wrongly. Asked again
//! and again while a run goes on.

use crate::observe::{all, cursors, log_ends};
use crate::world::World;
use phonefleet_store::rusqlite;
use std::collections::{BTreeMap, BTreeSet};

/// What still moves: empty when everything has come to rest.
///
/// # Errors
/// A database that cannot be read.
pub fn restless(world: &World) -> rusqlite::Result<Vec<String>> {
    let (mut found, heard, said) = world.controller.read(|connection| {
        let mut found = Vec::new();
        for (what, sql) in [
            ("sagas", "SELECT saga_id || ' ' || type || ' ' || status || ' ' || coalesce(wait_reason, '') FROM saga_state
                WHERE ended_at IS NULL AND status <> 'NEEDS_ATTENTION'"),
            ("commands", "SELECT device_id FROM device WHERE command_seq IS NOT NULL OR command_dirty"),
            ("recordings", "SELECT recording_id || ' ' || status FROM recording
                WHERE over_at IS NULL OR command_seq IS NOT NULL OR command_dirty"),
            ("hosts that are away", "SELECT host_id FROM host WHERE NOT online OR conflict_with IS NOT NULL"),
            ("devices on their way", "SELECT device_id || ' ' || status FROM device WHERE deleted_at IS NULL
                AND status IN ('STARTING', 'STOPPING', 'CREATING', 'DELETING')"),
        ] {
            let rows: Vec<String> = all(connection, sql, |row| row.get(0))?;
            found.extend(rows.into_iter().map(|row| format!("{what}: {row}")));
        }
        Ok((found, cursors(connection)?, log_ends(connection, "command_outbox")?))
    })?;
    for site in &world.sites {
        let name = site.id.as_str();
        let (log, cursor) = site.agent.read(|connection| {
            for (what, sql) in [
                (
                    "open questions",
                    "SELECT device_id || ' ' || wish || ' ' || phase FROM device WHERE answer IS NULL AND NOT parked",
                ),
                (
                    "recordings",
                    "SELECT recording_id || ' ' || phase FROM recording WHERE phase IN ('starting', 'recording', 'stopping')",
                ),
            ] {
                let rows: Vec<String> = all(connection, sql, |row| row.get(0))?;
                found.extend(rows.into_iter().map(|row| format!("{name}: {what}: {row}")));
            }
            let log = log_ends(connection, "event_outbox")?.remove("controller");
            Ok((log, cursors(connection)?.remove("controller")))
        })?;
        if log != heard.get(name).copied() {
            found.push(format!("{name}: events {log:?}, applied {:?}", heard.get(name)));
        }
        if cursor != said.get(name).copied() {
            found.push(format!("{name}: commands {:?}, applied {cursor:?}", said.get(name)));
        }
    }
    Ok(found)
}

/// Devices that their users see run, though their host knows otherwise and has told so: what
/// a host finds out and the event that tells of it are one commit, on both sides. A question that
/// is still open, as a reboot whose saga waited too long, is nobody's belief.
///
/// # Errors
/// A database that cannot be read.
pub fn believed_wrongly(world: &World, except: &BTreeSet<String>) -> rusqlite::Result<Vec<String>> {
    let (runs, heard) = world.controller.read(|connection| {
        let sql = "SELECT d.device_id, d.host_id FROM device AS d
            JOIN host AS h ON h.host_id = d.host_id AND h.online AND h.conflict_with IS NULL
            LEFT JOIN saga_state AS s ON s.saga_id = d.saga_id
            WHERE d.deleted_at IS NULL AND d.status = 'RUNNING' AND (s.saga_id IS NULL OR s.ended_at IS NOT NULL)
                AND d.command_seq IS NULL AND NOT d.command_dirty
                AND d.answered_generation = d.generation AND d.answered_attempt = d.attempt";
        let runs: Vec<(String, String)> = all(connection, sql, |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok((runs, cursors(connection)?))
    })?;
    let mut found = Vec::new();
    for site in &world.sites {
        let name = site.id.as_str();
        let here = || runs.iter().filter(|(_, host)| host == name).map(|(device, _)| device);
        if except.contains(name) || here().next().is_none() {
            continue;
        }
        let known = site.agent.read(|connection| {
            let log = log_ends(connection, "event_outbox")?.remove("controller");
            if log != heard.get(name).copied() {
                return Ok(None);
            }
            let sql = "SELECT device_id, phase || iif(parked, ', parked', '') FROM device";
            let rows = all(connection, sql, |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(Some(rows.into_iter().collect::<BTreeMap<String, String>>()))
        })?;
        let Some(known) = known else { continue };
        found.extend(here().filter(|device| known.get(*device).is_none_or(|phase| phase != "running")).map(
            |device| {
                format!(
                    "{device} is RUNNING for its user, its host has told that it is {:?}",
                    known.get(device)
                )
            },
        ));
    }
    Ok(found)
}
