//! Hellos: the first one registers a host; a second living agent makes it a conflict.

use crate::saga::Engine;
use crate::store::host::{self as table, HostRow};
use crate::store::{Result, Tx, saga};
use phonefleet_protocol::host::HostReport;
use phonefleet_protocol::id::{FleetId, HostId, MachineId};
use phonefleet_protocol::stream::{Admission, Hello};
use phonefleet_protocol::time::Timestamp;
use std::time::Duration;

/// How long after the last word of either agent a host stays in conflict.
pub const CONFLICT_LASTS: Duration = Duration::from_secs(60);

/// Decides about a hello, and writes down who spoke.
pub fn admit(
    tx: &mut Tx<'_>,
    fleet: &FleetId,
    host: &HostId,
    hello: &Hello,
    presence: Duration,
    now: Timestamp,
) -> Result<Admission> {
    let (machine, report) = match credentials(fleet, host, hello) {
        Ok(credentials) => credentials,
        Err(why) => return Ok(Admission::Stranger(why)),
    };
    let introduction = &hello.introduction;
    let refuse = |why: String| Ok(Admission::Refused(why));
    let known = table::find(tx, host)?;
    if let Some(known) = &known {
        if known.machine_id != machine.as_str() {
            // Who holds the id keeps it for as long as it is heard. In a conflict it takes longer
            // to be sure of its silence; but it must end, though the other one speaks on.
            let conflict = known.conflict_with.is_some();
            let patience = if conflict { presence.max(CONFLICT_LASTS) } else { presence };
            if known.last_seen_at.after(patience) > now {
                let until = now.after(CONFLICT_LASTS);
                table::set_conflict(tx, host, machine.as_str(), until)?;
                return refuse(format!(
                    "host id {host} belongs to machine {} and machine {machine} uses it too; give one of them another host_id",
                    known.machine_id
                ));
            }
            tracing::warn!(%host, from = known.machine_id, to = %machine, "the host id moves to another machine");
        } else if known.conflict_until > now {
            return refuse(format!(
                "host id {host} is used by machine {} too, until it is silent for {} s",
                known.conflict_with.as_deref().unwrap_or("unknown"),
                CONFLICT_LASTS.as_secs()
            ));
        }
    } else {
        tracing::info!(%host, %machine, "host registered");
    }
    let returned = known.as_ref().is_some_and(|known| !known.online);
    table::upsert(
        tx,
        &HostRow {
            host_id: host.clone(),
            machine_id: machine.as_str().to_owned(),
            software: introduction.software.clone(),
            report: report.clone(),
            heartbeat: None,
            online: true,
            last_seen_at: now,
            cordoned: false,
            conflict_with: None,
            conflict_until: Timestamp(0),
            forgotten_at: None,
            registered_at: known.map_or(now, |known| known.registered_at),
        },
    )?;
    if returned {
        wake_waiting(tx, host, now)?;
    }
    Ok(Admission::Welcome)
}

/// The machine and the report of an agent of this fleet; otherwise why it can be none. Does
/// not ask the database: strangers get no rows.
pub fn credentials<'a>(
    fleet: &FleetId,
    host: &HostId,
    hello: &'a Hello,
) -> std::result::Result<(&'a MachineId, &'a HostReport), String> {
    let introduction = &hello.introduction;
    if introduction.host_id != *host {
        return Err(format!("the hello on the topic of host {host} names host {}", introduction.host_id));
    }
    if let Some(theirs) = introduction.fleet_id.as_ref().filter(|theirs| *theirs != fleet) {
        return Err(format!("host {host} belongs to fleet {theirs}, this is fleet {fleet}"));
    }
    match (&introduction.machine_id, &introduction.report) {
        (Some(machine), Some(report)) => Ok((machine, report)),
        _ => Err(format!("the hello of host {host} names no machine or no report")),
    }
}

/// Sagas of a host look again, because it came or went: what they wait for has a new name.
/// Each in a transaction of its own: one that cannot go on must not keep its host away.
pub fn wake_waiting(tx: &mut Tx<'_>, host: &HostId, now: Timestamp) -> Result<()> {
    for saga in saga::waiting_on(tx, host)? {
        Engine::nudge(tx, &saga, now)?;
    }
    Ok(())
}
