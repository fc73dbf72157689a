//! Hellos: the first one registers a host; a second living agent makes it a conflict.

use crate::saga::Engine;
use crate::store::host::{self as table, HostRow};
use crate::store::{Result, Tx, saga};
use phonefleet_protocol::id::{FleetId, HostId};
use phonefleet_protocol::stream::{Admission, Hello};
use phonefleet_protocol::time::Timestamp;
use std::time::Duration;

/// How long after the last word of a second agent a host stays in conflict.
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
    let introduction = &hello.introduction;
    let refuse = |why: String| Ok(Admission::Refused(why));
    if introduction.host_id != *host {
        return refuse(format!("the hello on the topic of host {host} names host {}", introduction.host_id));
    }
    if let Some(theirs) = introduction.fleet_id.as_ref().filter(|theirs| *theirs != fleet) {
        return refuse(format!("host {host} belongs to fleet {theirs}, this is fleet {fleet}"));
    }
    let (Some(machine), Some(report)) = (&introduction.machine_id, &introduction.report) else {
        return refuse(format!("the hello of host {host} names no machine or no report"));
    };
    let known = table::find(tx, host)?;
    if let Some(known) = &known {
        if known.machine_id != machine.as_str() {
            let alive = known.last_seen_at.after(presence) > now;
            if alive || known.conflict_until > now {
                let until = now.after(CONFLICT_LASTS);
                table::set_conflict(tx, host, machine.as_str(), until)?;
                tracing::error!(%host, registered = known.machine_id, other = %machine, "two agents with one host id");
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

/// Sagas of a host look again, because it came or went: what they wait for has a new name.
/// Each in a transaction of its own: one that cannot go on must not keep its host away.
pub fn wake_waiting(tx: &mut Tx<'_>, host: &HostId, now: Timestamp) -> Result<()> {
    for saga in saga::waiting_on(tx, host)? {
        Engine::nudge(tx, &saga, now)?;
    }
    Ok(())
}
