//! Everything that must fit together when the world is at rest, asked from those who know:
//! the engine, the kernel, the disk, both databases. Never what a daemon believes of itself.

use super::processes::Processes;
use super::world::{Host, World, text};
use super::{adb, process_table, within};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// From the last saga's end to everything in its place. An adb server looks for a phone
/// that was away every ten seconds.
const REST: Duration = Duration::from_secs(60);

/// Whether adb servers may still wait for a phone that was away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdbMay {
    /// Every phone that runs is a `device`.
    NotBeOffline,
    /// It may be `offline`, too.
    BeOffline,
}

impl World {
    /// Waits until no saga runs and everything fits together.
    ///
    /// # Panics
    /// With everything that does not, when it takes too long.
    pub fn at_rest(&self) {
        fits("at rest", || self.misfits(AdbMay::NotBeOffline));
    }

    /// The same, but an adb server may still wait for phones that were away for a moment:
    /// it looks for them every ten seconds.
    pub fn nearly_at_rest(&self) {
        fits("at rest", || self.misfits(AdbMay::BeOffline));
    }

    /// Waits until nothing is left of any device.
    pub fn clean(&self) {
        fits("clean", || {
            let mut faults = self.misfits(AdbMay::NotBeOffline);
            faults.extend(self.devices().iter().map(|device| format!("a device is left: {device}")));
            for host in &self.hosts {
                let sql = "SELECT device_id || ' ' || phase FROM device WHERE phase <> 'absent'";
                faults.extend(host.column(sql).into_iter().map(|row| format!("{}: row {row}", host.id)));
            }
            faults
        });
    }

    /// What does not fit together at this moment.
    pub fn misfits(&self, adb: AdbMay) -> Vec<String> {
        let mut faults = Vec::new();
        faults.extend(self.of_controller());
        let devices = self.devices();
        for host in &self.hosts {
            let own: Vec<_> = devices.iter().filter(|device| device["hostId"] == host.id.as_str()).collect();
            faults.extend(self.of_host(host, &own, adb));
        }
        faults.extend(self.of_quota(&devices));
        faults
    }

    fn of_controller(&self) -> Vec<String> {
        let mut faults = self.controller_column(
            "SELECT saga_id || ' ' || type || ' ' || status || ' at ' || current_step || ', waits for '
                || coalesce(wait_reason, '-') || ', error ' || coalesce(error_message, '-')
             FROM saga_state WHERE ended_at IS NULL",
        );
        for (what, sql) in [
            ("dead letters", "SELECT count(*) FROM inbox_dead_letter"),
            ("unknown events", "SELECT count(*) FROM inbox_unknown"),
            (
                "unacknowledged commands",
                "SELECT count(*) FROM device WHERE command_seq IS NOT NULL OR command_dirty",
            ),
            ("devices that only a host knows", "SELECT count(*) FROM stray_device"),
            (
                "devices that were created twice",
                "SELECT count(*) FROM (SELECT 1 FROM event_outbox WHERE event_type = 'device.created'
                 GROUP BY aggregate_id HAVING count(*) > 1)",
            ),
            (
                "devices that were deleted twice",
                "SELECT count(*) FROM (SELECT 1 FROM event_outbox WHERE event_type = 'device.deleted'
                 GROUP BY aggregate_id HAVING count(*) > 1)",
            ),
        ] {
            let rows: i64 = self.controller_row(sql);
            if rows != 0 {
                faults.push(format!("controller: {rows} {what}"));
            }
        }
        faults
    }

    /// One reservation for each device, and the right to run for each that may run.
    fn of_quota(&self, devices: &[Value]) -> Vec<String> {
        let exist: BTreeSet<String> = devices.iter().map(|device| text(&device["id"])).collect();
        let run: BTreeSet<String> = devices
            .iter()
            .filter(|device| device["status"] != "STOPPED")
            .map(|device| text(&device["id"]))
            .collect();
        let reserved = |kind: &str| -> BTreeSet<String> {
            self.controller_column(&format!("SELECT owner FROM quota_reservation WHERE kind = '{kind}'"))
                .into_iter()
                .collect()
        };
        let mut faults = Vec::new();
        differ(&mut faults, "quota of devices", &reserved("device"), &exist);
        differ(&mut faults, "quota of running devices", &reserved("running"), &run);
        faults
    }

    fn of_host(&self, host: &Host, devices: &[&Value], adb: AdbMay) -> Vec<String> {
        let mut faults = Vec::new();
        let fault = &mut faults;
        let ids: BTreeSet<String> = devices.iter().map(|device| text(&device["id"])).collect();

        // Containers, data, rows.
        let containers = match host.states() {
            Ok(containers) => containers,
            Err(error) => return vec![format!("{}: the engine: {error}", host.id)],
        };
        let held: BTreeSet<String> = containers.iter().map(|(device, _)| device.clone()).collect();
        if held.len() != containers.len() {
            fault.push(format!("two containers of one device: {containers:?}"));
        }
        differ(fault, "containers", &held, &ids);
        differ(fault, "data directories", &data_directories(host), &ids);
        let rows = host.column("SELECT device_id FROM device WHERE phase <> 'absent'").into_iter().collect();
        differ(fault, "rows of the agent", &rows, &ids);
        for device in devices {
            let (id, status) = (text(&device["id"]), text(&device["status"]));
            let state = containers.iter().find(|(owner, _)| *owner == id).map(|(_, state)| state.as_str());
            if (status == "RUNNING") != (state == Some("running")) {
                fault.push(format!("device {id} is {status}, its container {state:?}"));
            }
        }

        // Ports: the agent's leases, what the controller tells, and who listens.
        let leased: BTreeSet<String> = host
            .column("SELECT port || ' ' || kind || ' ' || device_id FROM port_lease WHERE state = 'LEASED'")
            .into_iter()
            .collect();
        let told: BTreeSet<String> = devices
            .iter()
            .flat_map(|device| {
                let id = text(&device["id"]);
                let ports = &device["ports"];
                [format!("{} adb {id}", ports["adb"]), format!("{} webrtc {id}", ports["webrtc"])]
            })
            .collect();
        differ(fault, "port leases", &leased, &told);
        let allocated = self.api.call("GET", &format!("/ports/allocated?hostId={}", host.id), None).json();
        let allocated: BTreeSet<String> = allocated
            .as_array()
            .into_iter()
            .flatten()
            .map(|port| format!("{} {} {}", port["port"], text(&port["kind"]), text(&port["deviceId"])))
            .collect();
        differ(fault, "allocated ports", &allocated, &told);
        let running: BTreeSet<u16> = devices
            .iter()
            .filter(|device| device["status"] == "RUNNING")
            .filter_map(|device| device["ports"]["adb"].as_u64()?.try_into().ok())
            .collect();
        if !host.far {
            let listening: BTreeSet<u16> = process_table::listening_ports()
                .into_iter()
                .filter(|port| host.adb_ports.contains(port))
                // An engine that was killed in mid-start or mid-stop may hold on to a port for
                // as long as it lives. That is its fault, and for the agent a stranger's port.
                .filter(|port| running.contains(port) || !host.engine.was_killed())
                .collect();
            differ(fault, "listening ports", &listening, &running);
            for port in listening.difference(&running) {
                fault.push(format!("port {port} is held by {:?}", process_table::holders(*port)));
            }
        }

        // Processes: one adb server, and no other child.
        faults.extend(processes(host));
        faults.extend(adb_entries(host, &running, adb));
        faults.extend(self.stream(host));
        for fault in &mut faults {
            fault.insert_str(0, &format!("{}: ", host.id));
        }
        faults
    }

    /// Every event was applied, once: the controller's cursor is where the log ends.
    fn stream(&self, host: &Host) -> Vec<String> {
        let mut faults = Vec::new();
        let dead: i64 = host.row("SELECT count(*) FROM inbox_dead_letter");
        if dead != 0 {
            faults.push(format!("{dead} dead letters"));
        }
        let log = "SELECT coalesce((SELECT l.epoch || ' ' || max(o.seq) FROM stream_log l
                   JOIN event_outbox o ON o.log = l.log GROUP BY l.log), '')";
        let written: String = host.row(log);
        let applied: String = self.controller_row(&format!(
            "SELECT coalesce((SELECT epoch || ' ' || through FROM inbox_cursor WHERE peer = '{}'), '')",
            host.id
        ));
        // A log without rows has no number to compare.
        if !written.is_empty() && written != applied {
            faults.push(format!("the log ends at {written}, applied is {applied}"));
        }
        faults
    }
}

fn fits(what: &str, look: impl Fn() -> Vec<String>) {
    let last = within(REST, || {
        let faults = look();
        if faults.is_empty() { Ok(()) } else { Err(faults.join("\n  ")) }
    });
    if let Err(faults) = last {
        panic!("not {what} within {REST:?}:\n  {faults}");
    }
}

/// The agent's only child is its adb server, which may also be that of an earlier agent;
/// without an engine, the supervisors of its phones are, too.
fn processes(host: &Host) -> Vec<String> {
    let agent = host.agent.pid();
    let listens = format!("localfilesystem:{}", host.adb_socket().display());
    let all = process_table::processes();
    let servers: Vec<_> = all.iter().filter(|one| one.is("adb") && one.mentions(&listens)).collect();
    let supervisors = host.processes.as_ref().map(Processes::supervisors).unwrap_or_default();
    let strange: Vec<_> = all
        .iter()
        .filter(|one| one.parent == agent && !servers.contains(one) && !supervisors.contains(one))
        .collect();
    let mut faults = Vec::new();
    if let Some(processes) = &host.processes {
        let running = processes.containers().iter().filter(|phone| phone.state == "running").count();
        if supervisors.len() != running {
            faults.push(format!("{running} phones run under {supervisors:?}"));
        }
        // Nothing half made or half removed, either.
        let (entries, phones) = (processes.entries(), processes.containers());
        if entries.len() != phones.len() {
            faults.push(format!("{entries:?} hold {} phones", phones.len()));
        }
    }
    if servers.len() != 1 {
        faults.push(format!("{} adb servers: {servers:?}", servers.len()));
    }
    if !strange.is_empty() {
        faults.push(format!("children of the agent: {strange:?}"));
    }
    faults
}

/// The agent's adb server knows the phones that run, and no other.
fn adb_entries(host: &Host, running: &BTreeSet<u16>, may: AdbMay) -> Vec<String> {
    let mut entries: BTreeMap<String, String> = match adb::listed_by(&host.adb_socket()) {
        Ok(entries) => entries.into_iter().collect(),
        Err(error) => return vec![format!("the adb server: {error}")],
    };
    let expected: BTreeMap<String, String> =
        running.iter().map(|port| (format!("127.0.0.1:{port}"), "device".to_owned())).collect();
    if may == AdbMay::BeOffline {
        for state in entries.values_mut() {
            "device".clone_into(state);
        }
    }
    if entries == expected {
        return Vec::new();
    }
    vec![format!("adb lists {entries:?}, but running are {running:?}")]
}

fn data_directories(host: &Host) -> BTreeSet<String> {
    let Ok(entries) = std::fs::read_dir(host.state.join("phones")) else { return BTreeSet::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}

fn differ<T: Ord + std::fmt::Debug>(
    faults: &mut Vec<String>,
    what: &str,
    found: &BTreeSet<T>,
    expected: &BTreeSet<T>,
) {
    if found != expected {
        let more: Vec<_> = found.difference(expected).collect();
        let less: Vec<_> = expected.difference(found).collect();
        faults.push(format!("{what}: too many {more:?}, missing {less:?}"));
    }
}
