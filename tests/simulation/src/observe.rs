//! What is there in the end: on machines, in agents' databases, in the controller's. Read
//! beside the daemons, and never asked of them.

use crate::history::Call;
use crate::scenario::Scenario;
use crate::watch::PhoneLog;
use crate::world::World;
use phonefleet_agent::runtime::LABEL_HOST;
use phonefleet_store::rusqlite::{self, Connection, Row};
use std::collections::BTreeMap;

/// All of it.
#[derive(Clone, Debug)]
pub struct Observation {
    /// The controller's side.
    pub controller: ControllerSide,
    /// Each host's.
    pub hosts: Vec<HostSide>,
    /// What users asked and were told.
    pub history: Vec<Call>,
    /// What became of every phone's container.
    pub phones: BTreeMap<String, PhoneLog>,
    /// What happened.
    pub scenario: Scenario,
}

/// The controller's rows.
#[derive(Clone, Debug)]
pub struct ControllerSide {
    /// Devices by id, also those of the past.
    pub devices: BTreeMap<String, DeviceRow>,
    /// Sagas, oldest first.
    pub sagas: Vec<SagaRow>,
    /// Reservations: owner and kind.
    pub reservations: Vec<(String, String)>,
    /// Recordings.
    pub recordings: Vec<RecordingRow>,
    /// Devices that only a host knows: host and device.
    pub strays: Vec<(String, String)>,
    /// How far each host's events are applied.
    pub cursors: BTreeMap<String, Position>,
    /// The log of commands for each host.
    pub logs: BTreeMap<String, Position>,
    /// Items that were refused, with the reason.
    pub dead_letters: Vec<String>,
    /// Hosts and users whose kept totals are not what their rows add up to.
    pub wrong_totals: Vec<String>,
}

/// A place in a log: epoch, number, chain.
pub type Position = (i64, i64, i64);

/// A device of the controller.
#[derive(Clone, Debug)]
pub struct DeviceRow {
    /// Whose.
    pub user: String,
    /// Where.
    pub host: String,
    /// What users see.
    pub status: String,
    /// Generation and attempt.
    pub asked: (i64, i64),
    /// What it shall be.
    pub wish: String,
    /// Which data it shall have.
    pub data_epoch: u32,
    /// What its host knows.
    pub phase: Option<String>,
    /// ADB and WebRTC.
    pub ports: Option<(u16, u16)>,
    /// Its container.
    pub container: Option<String>,
    /// A command is on its way.
    pub pending: bool,
    /// Its phone was ordered with a fault.
    pub faulty: bool,
    /// Its newest saga.
    pub saga: Option<String>,
    /// It is history.
    pub deleted: bool,
}

/// A saga.
#[derive(Clone, Debug)]
pub struct SagaRow {
    /// Its id.
    pub id: String,
    /// Its type.
    pub kind: String,
    /// Its status.
    pub status: String,
    /// About which device.
    pub device: String,
    /// What it waits for.
    pub waits_for: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
    /// From when, by the controller's clock, ms.
    pub started: i64,
    /// Until when.
    pub ended: Option<i64>,
}

/// A recording of the controller.
#[derive(Clone, Debug)]
pub struct RecordingRow {
    /// Its id.
    pub id: String,
    /// Of which device.
    pub device: String,
    /// What users see.
    pub status: String,
    /// It is over.
    pub over: bool,
    /// What it takes of the quota.
    pub quota_bytes: i64,
}

/// One host: its machine, and its agent's rows.
#[derive(Clone, Debug)]
pub struct HostSide {
    /// Its id.
    pub id: String,
    /// Containers of this host.
    pub containers: Vec<ContainerSeen>,
    /// Everybody else's: name, whether it runs.
    pub foreign: Vec<(String, bool)>,
    /// Devices with data, and its epoch.
    pub data: Vec<(String, u32)>,
    /// Ports that containers of this host hold.
    pub bound: Vec<u16>,
    /// Recorders that run, by recording.
    pub recorders: Vec<String>,
    /// The agent's devices by id.
    pub devices: BTreeMap<String, AgentRow>,
    /// Leased ports: port, kind, device.
    pub leases: Vec<(u16, String, String)>,
    /// Recordings that are not over.
    pub recordings: Vec<String>,
    /// The log of events.
    pub log: Position,
    /// How far the controller's commands are applied.
    pub cursor: Option<Position>,
    /// Items that were refused, with the reason.
    pub dead_letters: Vec<String>,
}

/// A container as the engine has it.
#[derive(Clone, Debug)]
pub struct ContainerSeen {
    /// Its id.
    pub id: String,
    /// Whose phone it says it is.
    pub device: String,
    /// It runs.
    pub runs: bool,
    /// Its phone has booted.
    pub booted: bool,
    /// The ADB port that it publishes.
    pub port: u16,
}

/// A device of an agent.
#[derive(Clone, Debug)]
pub struct AgentRow {
    /// Generation and attempt.
    pub asked: (i64, i64),
    /// What it shall be.
    pub wish: String,
    /// How far it is.
    pub phase: String,
    /// Left alone until the controller names it.
    pub parked: bool,
    /// The question is answered.
    pub answered: bool,
    /// Its container.
    pub container: Option<String>,
}

pub(crate) fn all<T>(
    connection: &Connection,
    sql: &str,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    connection.prepare_cached(sql)?.query_map([], read)?.collect()
}

fn position(row: &Row<'_>) -> rusqlite::Result<Position> {
    Ok((row.get(1)?, row.get(2)?, row.get(3)?))
}

/// The end of a log: its newest row, or its floor.
pub(crate) fn log_ends(connection: &Connection, table: &str) -> rusqlite::Result<BTreeMap<String, Position>> {
    let sql = format!(
        "SELECT l.log, l.epoch, coalesce(max(o.seq), l.floor),
            coalesce((SELECT chain FROM {table} AS n WHERE n.log = l.log ORDER BY n.seq DESC LIMIT 1), l.floor_chain)
         FROM stream_log AS l LEFT JOIN {table} AS o ON o.log = l.log GROUP BY l.log"
    );
    Ok(all(connection, &sql, |row| Ok((row.get(0)?, position(row)?)))?.into_iter().collect())
}

pub(crate) fn cursors(connection: &Connection) -> rusqlite::Result<BTreeMap<String, Position>> {
    let sql = "SELECT peer, epoch, through, chain FROM inbox_cursor";
    Ok(all(connection, sql, |row| Ok((row.get(0)?, position(row)?)))?.into_iter().collect())
}

const DEAD_LETTERS: &str = "SELECT kind || ': ' || reason FROM inbox_dead_letter
    UNION ALL SELECT kind || ': unknown' FROM inbox_unknown";

fn controller(connection: &Connection) -> rusqlite::Result<ControllerSide> {
    let devices = all(
        connection,
        "SELECT device_id, user_id, host_id, status, generation, attempt, wish, data_epoch, phase, adb_port,
            webrtc_port, container_id, command_seq IS NOT NULL OR command_dirty, saga_id, deleted_at IS NOT NULL,
            instr(spec, 'phonesim_fault')
         FROM device",
        |row| {
            let device = DeviceRow {
                user: row.get(1)?,
                host: row.get(2)?,
                status: row.get(3)?,
                asked: (row.get(4)?, row.get(5)?),
                wish: row.get(6)?,
                data_epoch: row.get(7)?,
                phase: row.get(8)?,
                ports: row.get::<_, Option<u16>>(9)?.zip(row.get(10)?),
                container: row.get(11)?,
                pending: row.get(12)?,
                saga: row.get(13)?,
                deleted: row.get(14)?,
                faulty: row.get(15)?,
            };
            Ok((row.get(0)?, device))
        },
    )?;
    let sagas = all(
        connection,
        "SELECT saga_id, type, status, coalesce(device_id, ''), wait_reason, error_message, started_at, ended_at
         FROM saga_state ORDER BY started_at, saga_id",
        |row| {
            Ok(SagaRow {
                id: row.get(0)?,
                kind: row.get(1)?,
                status: row.get(2)?,
                device: row.get(3)?,
                waits_for: row.get(4)?,
                error: row.get(5)?,
                started: row.get(6)?,
                ended: row.get(7)?,
            })
        },
    )?;
    let recordings = all(
        connection,
        "SELECT recording_id, device_id, status, over_at IS NOT NULL, quota_bytes FROM recording",
        |row| {
            Ok(RecordingRow {
                id: row.get(0)?,
                device: row.get(1)?,
                status: row.get(2)?,
                over: row.get(3)?,
                quota_bytes: row.get(4)?,
            })
        },
    )?;
    let two = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    Ok(ControllerSide {
        devices: devices.into_iter().collect(),
        sagas,
        reservations: all(connection, "SELECT owner, kind FROM quota_reservation", two)?,
        recordings,
        strays: all(connection, "SELECT host_id, device_id FROM stray_device", two)?,
        cursors: cursors(connection)?,
        logs: log_ends(connection, "command_outbox")?,
        dead_letters: all(connection, DEAD_LETTERS, |row| row.get(0))?,
        wrong_totals: phonefleet_controller::store::totals::wrong(connection)?,
    })
}

fn host(world: &World, index: usize) -> rusqlite::Result<HostSide> {
    world.sites[index].agent.read(|connection| host_of(world, index, connection))
}

fn host_of(world: &World, index: usize, connection: &Connection) -> rusqlite::Result<HostSide> {
    let site = &world.sites[index];
    let machine = site.machine();
    let id = site.id.as_str().to_owned();
    let (own, others): (Vec<_>, Vec<_>) =
        machine.phones().into_iter().partition(|phone| phone.container.labels.get(LABEL_HOST) == Some(&id));
    let containers: Vec<_> = own
        .iter()
        .map(|phone| ContainerSeen {
            id: phone.container.id.clone(),
            device: phone.container.device().map(|device| device.to_string()).unwrap_or_default(),
            runs: phone.is_running(),
            booted: phone.has_booted(),
            port: phone.spec.adb_port,
        })
        .collect();
    let recorders = machine.recordings().into_iter().filter(|(_, folder)| folder.runs());
    let devices = all(
        connection,
        "SELECT device_id, generation, attempt, wish, phase, parked, answer IS NOT NULL, container_id FROM device",
        |row| {
            let device = AgentRow {
                asked: (row.get(1)?, row.get(2)?),
                wish: row.get(3)?,
                phase: row.get(4)?,
                parked: row.get(5)?,
                answered: row.get(6)?,
                container: row.get(7)?,
            };
            Ok((row.get(0)?, device))
        },
    )?;
    let leases =
        "SELECT port, kind, coalesce(device_id, '') FROM port_lease WHERE state = 'LEASED' ORDER BY port";
    let active = "SELECT recording_id FROM recording WHERE phase IN ('starting', 'recording', 'stopping')";
    Ok(HostSide {
        bound: containers.iter().filter(|seen| seen.runs).map(|seen| seen.port).collect(),
        containers,
        foreign: others.iter().map(|phone| (phone.container.name.clone(), phone.is_running())).collect(),
        data: machine.data().into_iter().map(|(device, epoch)| (device.to_string(), epoch)).collect(),
        recorders: recorders.map(|(recording, _)| recording.to_string()).collect(),
        devices: devices.into_iter().collect(),
        leases: all(connection, leases, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?,
        recordings: all(connection, active, |row| row.get(0))?,
        log: log_ends(connection, "event_outbox")?.remove("controller").unwrap_or_default(),
        cursor: cursors(connection)?.remove("controller"),
        dead_letters: all(connection, DEAD_LETTERS, |row| row.get(0))?,
        id,
    })
}

/// Looks at everything.
///
/// # Errors
/// A database that cannot be read.
pub fn observe(world: &World, scenario: &Scenario) -> rusqlite::Result<Observation> {
    Ok(Observation {
        controller: world.controller.read(controller)?,
        hosts: (0..world.sites.len()).map(|index| host(world, index)).collect::<rusqlite::Result<_>>()?,
        history: world.office.history(),
        phones: world.watch.phones(),
        scenario: scenario.clone(),
    })
}
