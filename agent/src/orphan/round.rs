//! Looks for orphans, tells of each once, applies the remedies, and counts what is gone.

use super::judgement::{Remedy, Sighting, Thing, is_gone, judge, there};
use super::{Kind, Orphan, Report};
use crate::phone::context::{Context, Hindrance};
use crate::phone::desire;
use crate::store::device::DeviceRow;
use crate::store::{Notice, device, port_lease};
use phonefleet_protocol::facts::Phase;
use phonefleet_protocol::id::DeviceId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Between two looks.
const EVERY: Duration = Duration::from_hours(1);
/// Until the next look when not everything could be looked at, or something is being removed.
const AGAIN: Duration = Duration::from_secs(10);
/// A look for somebody who waits for the answer.
const PATIENCE: Duration = Duration::from_secs(4);

/// Identity of an orphan from one look to the next.
type Mark = (Kind, String);

#[derive(Default)]
struct Memory {
    report: Report,
    told: BTreeSet<Mark>,
    removing: BTreeSet<Thing>,
    removed: BTreeMap<Kind, u64>,
}

/// Looks for the orphans of this host. One look at a time.
pub(crate) struct Inspector {
    context: Arc<Context>,
    looking: tokio::sync::Mutex<()>,
    memory: Mutex<Memory>,
}

impl Inspector {
    pub fn new(context: Arc<Context>) -> Self {
        Self { context, looking: tokio::sync::Mutex::default(), memory: Mutex::default() }
    }

    /// Runs for ever.
    ///
    /// # Errors
    /// The text of a database failure that the agent cannot go on after.
    pub async fn run(&self) -> Result<(), String> {
        loop {
            match self.look().await {
                Ok(()) | Err(Hindrance::Trouble(_)) => {}
                Err(Hindrance::Fatal(why)) => return Err(why),
            }
            let calm = self.with(|memory| memory.report.fault.is_none() && memory.removing.is_empty());
            sleep(if calm { EVERY } else { AGAIN }).await;
        }
    }

    /// What is there now; or, from an engine that takes its time, what was there before.
    pub async fn report_now(&self) -> Report {
        let looked = timeout(PATIENCE, self.look()).await;
        let mut report = self.report();
        if looked.is_err() && report.fault.is_none() {
            report.fault = Some(format!("no result within {} s; this is older", PATIENCE.as_secs()));
        }
        report
    }

    /// What was found last.
    pub fn report(&self) -> Report {
        let mut report =
            self.with(|memory| Report { removed: memory.removed.clone(), ..memory.report.clone() });
        // Recorders are ended where they are found.
        let recorders = self.context.tally.counts().orphans;
        if recorders > 0 {
            report.removed.insert(Kind::Recorder, recorders);
        }
        report
    }

    fn with<T>(&self, work: impl FnOnce(&mut Memory) -> T) -> T {
        work(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn look(&self) -> Result<(), Hindrance> {
        let _one = self.looking.lock().await;
        let sighting = match self.sight().await {
            Ok(sighting) => sighting,
            Err(Hindrance::Trouble(reason)) => {
                self.with(|memory| memory.report.fault = Some(reason.to_string()));
                return Err(Hindrance::Trouble(reason));
            }
            Err(fatal) => return Err(fatal),
        };
        let settings = &self.context.settings;
        let judged = judge(&settings.container.host, &settings.ports, &sighting);
        self.tell(&judged, &there(&sighting));
        for (orphan, remedy) in judged {
            if let Err(Hindrance::Fatal(why)) = self.remedy(&orphan, remedy).await {
                return Err(Hindrance::Fatal(why));
            }
        }
        Ok(())
    }

    /// The rows come first: what none of them knows then is no newborn, for a row is written
    /// before anything is made. Likewise the leases, which are read with them.
    async fn sight(&self) -> Result<Sighting, Hindrance> {
        let context = &self.context;
        let read = |connection: &phonefleet_store::rusqlite::Connection| {
            Ok((device::all(connection)?, port_lease::all(connection)?))
        };
        let (rows, _) = context.read(read).await?;
        let parked_before = rows.iter().filter(|row| row.parked).map(DeviceRow::id).collect();
        let unavailable =
            |error: crate::runtime::EngineError| Hindrance::trouble("ENGINE_UNAVAILABLE", &error);
        let containers = context.engine.list(&context.settings.container.host).await.map_err(unavailable)?;
        let published = context.engine.published().await.map_err(unavailable)?;
        let with_data = context.kernel.devices_with_data().await;
        let with_data = with_data.map_err(|error| Hindrance::trouble("DATA_UNAVAILABLE", &error))?;
        // Once more: a removal that ended in between is no orphan, nor is what was just made.
        let (later, leases) = context.read(read).await?;
        let mut rows: BTreeMap<DeviceId, _> = rows.into_iter().map(|row| (row.id(), row)).collect();
        for row in later {
            if !is_gone(&row) || !rows.contains_key(&row.id()) {
                rows.insert(row.id(), row);
            }
        }
        Ok(Sighting { rows, leases, containers, published, with_data, parked_before })
    }

    /// A line for what is new, and for what is gone; what was removed is counted once it is not
    /// there any more.
    fn tell(&self, judged: &[(Orphan, Remedy)], there: &BTreeMap<Thing, bool>) {
        let mut now: BTreeSet<Mark> =
            judged.iter().map(|(orphan, _)| (orphan.kind, orphan.what.clone())).collect();
        let at = self.context.now();
        self.with(|memory| {
            for (orphan, _) in judged {
                if !memory.told.contains(&(orphan.kind, orphan.what.clone())) {
                    let (kind, what) = (orphan.kind.name(), &orphan.what);
                    tracing::warn!(kind, what, why = orphan.why, removing = orphan.removing, "an orphan");
                }
            }
            let mut removing = BTreeSet::new();
            for thing in std::mem::take(&mut memory.removing) {
                let mark = (thing.0, thing.1.clone());
                match there.get(&thing) {
                    _ if now.contains(&mark) => {}
                    None => *memory.removed.entry(thing.0).or_default() += 1,
                    Some(true) => {
                        now.insert(mark);
                        removing.insert(thing);
                    }
                    // Its controller wants it back.
                    Some(false) => {}
                }
            }
            memory.removing = removing;
            for (kind, what) in memory.told.difference(&now) {
                tracing::info!(kind = kind.name(), what, "an orphan is no more");
            }
            memory.told = now;
            memory.report.at = Some(at);
            memory.report.fault = None;
            memory.report.orphans = judged.iter().map(|(orphan, _)| orphan.clone()).collect();
        });
    }

    async fn remedy(&self, orphan: &Orphan, remedy: Remedy) -> Result<(), Hindrance> {
        let done = match remedy {
            Remedy::Keep => return Ok(()),
            Remedy::FinishRemoval(device) => self.finish_removal(device).await,
            Remedy::RemoveContainer(id) => {
                let removed = self.context.engine.remove(&id).await;
                removed.map_err(|error| Hindrance::trouble("ENGINE_UNAVAILABLE", &error))
            }
            Remedy::ReleasePort(port) => self.release(port, orphan.device).await,
            Remedy::Forget(device) => self.forget(device).await,
        };
        match done {
            Ok(()) => {
                let thing = (orphan.kind, orphan.what.clone(), orphan.device);
                self.with(|memory| memory.removing.insert(thing));
                Ok(())
            }
            Err(Hindrance::Trouble(reason)) => {
                tracing::warn!(kind = orphan.kind.name(), what = orphan.what, %reason, "an orphan cannot be removed yet");
                Err(Hindrance::Trouble(reason))
            }
            fatal => fatal,
        }
    }

    /// The device's own task removes it once more: in its turn, and not if its controller
    /// wants it back by now.
    async fn finish_removal(&self, device: DeviceId) -> Result<(), Hindrance> {
        self.context
            .write(move |tx| {
                let Some(mut row) = device::get(tx, device)?.filter(is_gone) else {
                    return Ok(());
                };
                row.phase = Phase::Stopping;
                device::put(tx, &row)?;
                tx.announce(Notice::Device(device));
                Ok(())
            })
            .await
    }

    async fn forget(&self, device: DeviceId) -> Result<(), Hindrance> {
        let now = self.context.now();
        let released = self.context.write(move |tx| desire::forget(tx, device, now)).await?;
        tracing::info!(%device, ?released, "a parked device of which nothing is left is forgotten");
        for port in released {
            self.context.ports.free(port);
        }
        Ok(())
    }

    async fn release(&self, port: u16, device: Option<DeviceId>) -> Result<(), Hindrance> {
        let Some(device) = device else { return Ok(()) };
        let released = self
            .context
            .write(move |tx| match device::get(tx, device)? {
                Some(_) => Ok(Vec::new()),
                None => port_lease::release(tx, device),
            })
            .await?;
        tracing::debug!(port, ?released, "leases of nobody");
        for port in released {
            self.context.ports.free(port);
        }
        Ok(())
    }
}
