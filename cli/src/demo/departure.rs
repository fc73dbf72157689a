//! The end of the demo: phones deleted through the API, daemons ended, and then looked for
//! whatever might still be there.
//!
//! Everything found here that should have gone by itself is ended *and* told: the machine is
//! to be clean in any case, and a demo that hides a leak would be worse than none.

use super::child::{descendants, end_descendants};
use super::engine::Runtime;
use super::house::{House, Part, text};
use super::own_engine;
use super::voice::Voice;
use crate::client::Client;
use crate::client::address::path;
use crate::client::call::Call;
use crate::failure::Failure;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// From the first deletion to the end of the last one.
const DELETION: Duration = Duration::from_secs(90);
/// After it, until host and controller have nothing on their books.
const BOOKS: Duration = Duration::from_secs(15);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// How long processes may take to end, and the kernel to give ports back.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was looked at, and what of it was left.
#[derive(Default)]
struct Proof {
    clean: Vec<String>,
    leaks: Vec<String>,
}

impl Proof {
    fn look(&mut self, what: &str, left: impl IntoIterator<Item = String>) {
        let before = self.leaks.len();
        self.leaks.extend(left.into_iter().map(|one| format!("{what}: {one}")));
        if self.leaks.len() == before {
            self.clean.push(what.to_owned());
        }
    }
}

/// Takes everything down; returns what was left behind.
pub async fn run(house: &mut House, voice: &mut Voice) -> Vec<String> {
    let began = Instant::now();
    voice.heading("Everything is taken down");
    let mut proof = Proof::default();
    house.remove(Part::Builder).await;
    if house.was_online {
        phones(house, voice, &mut proof).await;
    }
    for part in [Part::Agent, Part::Controller, Part::Adb, Part::Broker] {
        voice.live(&format!("{} ends", part.name()));
        if !house.remove(part).await {
            proof.leaks.push(format!("processes: {} does not end", part.name()));
        }
    }
    containers(house, voice, &mut proof).await;
    processes(house, voice, &mut proof).await;
    if house.own_engine {
        voice.live("the container engine ends");
        let gone = house.remove(Part::Engine).await;
        proof.look("processes of the engine", (!gone).then(|| "dockerd does not end".to_owned()));
        proof.look(
            "network and control groups of the engine",
            // Another engine that was started meanwhile has taken the bridge over.
            own_engine::remove_traces(house.lodging.name(), !own_engine::runs_here()).await,
        );
    }
    ports(house, &mut proof).await;
    let kept = house.lodging.record.keep.then(|| format!("The folder stays: {}", house.folder().display()));
    proof.look("files", house.leave());
    voice.quiet();
    voice.line(&format!("  looked for, and not there: {}", proof.clean.join(", ")));
    if let Some(kept) = kept {
        voice.line(&format!("  {kept}"));
    }
    let (count, seconds) = (proof.leaks.len(), began.elapsed().as_secs_f64());
    voice.line(&match count {
        0 => format!("  nothing is left, after {seconds:.1} s"),
        _ => format!("  {count} things were left, after {seconds:.1} s"),
    });
    proof.leaks
}

/// Deletes every phone as a user would, and asks both daemons what they have on their books.
async fn phones(house: &mut House, voice: &mut Voice, proof: &mut Proof) {
    // It may have been interrupted while one of them was dead.
    let revived = house.revive();
    let users = match revived {
        Err(failure) => Err(failure),
        Ok(_) => deleted(house, voice).await,
    };
    let users = match users {
        Ok(users) => users,
        Err(failure) => return proof.leaks.push(format!("phones: they could not be deleted: {failure}")),
    };
    let began = Instant::now();
    loop {
        voice.live("controller and agent are asked what is on their books");
        let left = match books(house, &users).await {
            Ok(left) => left,
            Err(failure) => vec![failure.to_string()],
        };
        if left.is_empty() || began.elapsed() > BOOKS {
            return proof.look("phones, leases, quota, sagas and orphans on the books", left);
        }
        sleep(LOOK).await;
    }
}

/// Deletes until there is nothing to delete any more; returns whose the phones were.
async fn deleted(house: &mut House, voice: &mut Voice) -> Result<BTreeSet<String>, Failure> {
    let client = house.session()?.client.clone();
    let began = Instant::now();
    let mut users = BTreeSet::from([super::house::USER.to_owned()]);
    let mut asked = BTreeSet::new();
    let mut none = false;
    loop {
        let devices = match client.list("/devices", &[]).await {
            Ok(devices) => devices,
            // Started again a moment ago.
            Err(Failure::Unreachable(_)) if began.elapsed() < DELETION => {
                house.revive()?;
                sleep(LOOK).await;
                continue;
            }
            Err(failure) => return Err(failure),
        };
        // Twice, as an order may have been on its way when the show was interrupted.
        if devices.is_empty() && std::mem::replace(&mut none, devices.is_empty()) {
            voice.quiet();
            voice.line(&format!(
                "  {} deleted through the API",
                crate::output::time::count(asked.len() as u64, "phone")
            ));
            return Ok(users);
        }
        for device in &devices {
            users.insert(text(device, "userId").to_owned());
            if !asked.contains(text(device, "id")) {
                client.data(Call::delete(path(&["devices", text(device, "id")]))).await?;
                asked.insert(text(device, "id").to_owned());
            }
        }
        if began.elapsed() > DELETION {
            let seconds = DELETION.as_secs();
            return Err(Failure::TimedOut(format!("{} are still there after {seconds} s", devices.len())));
        }
        voice.bar(asked.len() - devices.len().min(asked.len()), asked.len(), "phones are deleted");
        sleep(LOOK).await;
    }
}

/// What controller and agent still know of.
async fn books(house: &House, users: &BTreeSet<String>) -> Result<Vec<String>, Failure> {
    let (controller, agent) = (&house.session()?.client, house.agent_api()?);
    let mut left = Vec::new();
    for device in controller.list("/devices", &[]).await? {
        left.push(format!("device {} is {}", text(&device, "name"), text(&device, "status")));
    }
    for lease in controller.json(Call::get("/ports/allocated")).await?.as_array().into_iter().flatten() {
        left.push(format!("port {} is leased", lease["port"]));
    }
    for user in users {
        let usage = controller.data(Call::get(path(&["quotas", user, "usage"]))).await?;
        let taken = ["devices", "concurrentDevices", "cpuCores", "memoryMB", "storageMB"]
            .into_iter()
            .filter(|name| usage[*name].as_f64() != Some(0.0))
            .map(|name| format!("{user} has {name} {}", usage[name]));
        left.extend(taken);
    }
    for saga in controller.list("/sagas", &[]).await? {
        if !matches!(text(&saga, "status"), "COMPLETED" | "COMPENSATED" | "FAILED" | "TIMEOUT") {
            left.push(format!("saga {} is {}", text(&saga, "sagaId"), text(&saga, "status")));
        }
    }
    left.extend(of_agent(&agent).await?);
    Ok(left)
}

async fn of_agent(agent: &Client) -> Result<Vec<String>, Failure> {
    let status = agent.json(Call::get("/status")).await?;
    let snapshot = &status["snapshot"];
    let Some(devices) = snapshot["devices"].as_array() else {
        return Ok(vec![format!("the agent cannot tell: {}", text(&status, "fault"))]);
    };
    let mut left = Vec::new();
    let mut count = |number: u64, what: &str| {
        if number > 0 {
            left.push(format!("the agent has {number} {what}"));
        }
    };
    count(devices.len() as u64, "devices");
    count(snapshot["portsLeased"].as_u64().unwrap_or_default(), "leased ports");
    count(snapshot["outboxPending"].as_u64().unwrap_or_default(), "events that nobody has");
    count(snapshot["recordings"].as_array().map_or(0, Vec::len) as u64, "recordings that go on");
    let orphans = agent.json(Call::get("/orphans")).await?;
    for orphan in orphans["orphans"].as_array().into_iter().flatten() {
        left.push(format!(
            "orphan {} {}: {}",
            text(orphan, "kind"),
            text(orphan, "what"),
            text(orphan, "why")
        ));
    }
    Ok(left)
}

/// Containers with the label of this host, whatever the agent says.
async fn containers(house: &House, voice: &mut Voice, proof: &mut Proof) {
    let Some(Runtime::Engine(engine)) = &house.runtime else { return };
    voice.live("the engine is asked for containers");
    let mut left = Vec::new();
    match engine.containers(&house.host).await {
        Ok(found) => {
            for id in found {
                let removed = engine.remove(&id).await;
                let how =
                    removed.map_or_else(|failure| failure.to_string(), |()| "removed by force".to_owned());
                left.push(format!("{id} ({how})"));
            }
        }
        Err(failure) => left.push(failure.to_string()),
    }
    proof.look("containers", left);
}

/// Processes that came of this one. The agent's adb server outlives it on purpose; phones
/// that are processes do as well, but these were deleted.
async fn processes(house: &House, voice: &mut Voice, proof: &mut Proof) {
    voice.live("what is left of processes ends");
    let without: BTreeSet<i32> = house.pids().into_iter().collect();
    let phones = async {
        loop {
            let left: Vec<_> =
                descendants(&without).into_iter().filter(|one| one.what.contains("phonesim")).collect();
            if left.is_empty() {
                return;
            }
            sleep(LOOK).await;
        }
    };
    let mut left = Vec::new();
    if timeout(PATIENCE, phones).await.is_err() {
        let still = descendants(&without).into_iter().filter(|one| one.what.contains("phonesim"));
        left.extend(still.map(|one| format!("{} {} (ended by force)", one.pid, one.what)));
    }
    let stubborn = end_descendants(&without, PATIENCE).await;
    left.extend(stubborn.into_iter().map(|one| format!("{} {}", one.pid, one.what)));
    proof.look("processes", left);
}

async fn ports(house: &House, proof: &mut Proof) {
    let Some(ports) = &house.ports else { return };
    let began = Instant::now();
    let left = loop {
        let busy = ports.busy();
        if busy.is_empty() || began.elapsed() > PATIENCE {
            break busy;
        }
        sleep(LOOK).await;
    };
    proof.look("ports", left.into_iter().map(|port| format!("{port} is still taken")));
}
