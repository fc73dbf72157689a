//! One run: the scenario is played, everything heals, virtual time passes, and it is looked
//! whether all promises were kept. Then a fresh order must work, and everything must go.

use crate::check;
use crate::history::Asked;
use crate::moment::restless;
use crate::observe::{Observation, observe};
use crate::scenario::{Order, Scenario, Target, Wanted, What};
use crate::trace::{Detail, Trace};
use crate::world::World;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Once};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// Longest that the world may take to come to rest: more than a saga's deadline.
const PATIENCE: Duration = Duration::from_secs(1200);
/// The same where clocks were set: deadlines are held up for as long.
const PATIENCE_WITH_CLOCKS: Duration = Duration::from_secs(3 * 3600);
/// How long it must be at rest: longer than hosts and sagas look again by themselves.
const REST: Duration = Duration::from_secs(70);
/// How soon it must be at rest where no clock was set: repeated messages come within 30 s,
/// conflicts end within 60 s, and a phone that dies is given up within minutes.
const SOON: Duration = Duration::from_secs(240);
/// Entry number of the first order that comes after all others.
const LAST_ORDERS: usize = 1_000_000;

/// What became of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was wrong; empty for a healthy run.
    pub found: Vec<String>,
    /// What happened.
    pub story: String,
    /// Of all that happened, to the byte.
    pub hash: u64,
    /// Virtual time that passed.
    pub passed: Duration,
}

thread_local! {
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Panics are findings, wherever they are caught.
fn notice_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            PANICS.with_borrow_mut(|panics| panics.push(format!("panic: {info}")));
        }));
    });
}

/// Plays a scenario. `templates`: see [`crate::world::templates`].
pub fn run(scenario: &Scenario, templates: &Path, detail: Detail) -> Outcome {
    notice_panics();
    PANICS.with_borrow_mut(Vec::clear);
    let played = catch_unwind(AssertUnwindSafe(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        match runtime {
            Ok(runtime) => runtime.block_on(async {
                let trace = Trace::new(detail);
                let began = Instant::now();
                let mut found = play(scenario, templates, trace.clone()).await;
                for words in &found {
                    trace.say(format_args!("FOUND {words}"));
                }
                found.sort();
                found.dedup();
                let (story, hash) = trace.end();
                Outcome { found, story, hash, passed: began.elapsed() }
            }),
            Err(error) => failed(format!("no runtime: {error}")),
        }
    }));
    let mut outcome = played.unwrap_or_else(|_| failed("the run itself panicked".to_owned()));
    outcome.found.extend(PANICS.take());
    outcome
}

fn failed(why: String) -> Outcome {
    Outcome { found: vec![why], story: String::new(), hash: 0, passed: Duration::ZERO }
}

async fn play(scenario: &Scenario, templates: &Path, trace: Trace) -> Vec<String> {
    let world = match World::new(scenario.seed, scenario.hosts, templates, trace) {
        Ok(world) => Arc::new(world),
        Err(error) => return vec![format!("no world: {error}")],
    };
    // Every host says hello before it begins.
    if let Err(left) = rest(&world, scenario, Duration::ZERO).await {
        return vec![format!("the hosts never came: {left:?}")];
    }
    let observer = {
        let world = Arc::clone(&world);
        tokio::spawn(async move { world.office.observe(Duration::from_secs(5)).await })
    };
    let listener = {
        let (world, restored) = (Arc::clone(&world), check::excuse::rows_restored(scenario));
        tokio::spawn(async move { world.listen(Duration::from_millis(500), &restored).await })
    };
    let start = Instant::now();
    let mut under_way = JoinSet::new();
    for entry in &scenario.entries {
        sleep_until(start + entry.at).await;
        let (world, entry) = (Arc::clone(&world), entry.clone());
        under_way.spawn(async move {
            match &entry.what {
                What::Order(order) => world.office.order(entry.number, order).await,
                What::Fault(fault) => world.suffer(entry.number, *fault).await,
            }
        });
    }
    // Clients that insist need a healthy world, faults only their time: whoever waits for whom.
    sleep(Duration::from_secs(120)).await;
    world.heal();
    while under_way.join_next().await.is_some() {}
    world.heal();
    let mut found = Vec::new();
    let healed = Instant::now();
    if let Err(left) = rest(&world, scenario, REST).await {
        found.push(format!("liveness: never came to rest: {left:?}"));
    }
    // What only a saga's deadline sets going again was lost on the way.
    let took = healed.elapsed().saturating_sub(REST);
    world.trace.say(format_args!("at rest since {} s after all healed", took.as_secs()));
    if took > SOON && !check::excuse::clock_jumped(scenario) {
        found.push(format!("liveness: took {} s to come to rest", took.as_secs()));
    }
    for device in world.office.devices() {
        world.office.look(&device).await;
    }
    found.extend(looked(&world, scenario, check::at_rest));
    // A broken world is looked at as it broke.
    if found.is_empty() {
        found.extend(last_orders(&world, scenario).await);
    }
    observer.abort();
    listener.abort();
    found.extend(world.watch.violations());
    found
}

fn looked(world: &World, scenario: &Scenario, check: fn(&Observation) -> Vec<String>) -> Vec<String> {
    match observe(world, scenario) {
        Ok(seen) => check(&seen),
        Err(error) => vec![format!("cannot look: {error}")],
    }
}

/// A fresh order works, and then everything can be deleted without a trace.
async fn last_orders(world: &World, scenario: &Scenario) -> Vec<String> {
    world.trace.say("fresh orders");
    for host in 0..scenario.hosts {
        world.office.order(LAST_ORDERS + host, &Order::Cordon { host, on: false }).await;
    }
    let fresh = LAST_ORDERS + 10;
    let user = scenario.users;
    let wanted = Wanted {
        name: 77,
        boot_ms: 500,
        tenths_of_core: 10,
        memory_mb: 128,
        fault: None,
        missing_image: false,
        host: None,
    };
    world.office.order(fresh, &Order::Create { user, wanted, keyed: true, twice: false }).await;
    let mut found = Vec::new();
    let target = Target { entry: fresh, index: 0 };
    let status = match world.office.known(target) {
        None => "refused".to_owned(),
        Some(known) => {
            let deadline = Instant::now() + Duration::from_secs(60);
            loop {
                let look = world.office.look(&known.id).await;
                let status = look.data()["status"].as_str().unwrap_or_default().to_owned();
                if status == "RUNNING" || Instant::now() >= deadline {
                    break status;
                }
                sleep(Duration::from_millis(500)).await;
            }
        }
    };
    // A host may be full of devices that nobody has deleted yet.
    let full = status == "refused" && is_full(world);
    if status != "RUNNING" && !full {
        found.push(format!("liveness: a fresh order is {status}"));
    }
    world.trace.say("everything is deleted");
    let living = match observe(world, scenario) {
        Ok(seen) => seen.controller.devices,
        Err(error) => return vec![format!("cannot look: {error}")],
    };
    for (id, _) in living.into_iter().filter(|(_, device)| !device.deleted) {
        world.office.delete(&id).await;
    }
    if let Err(left) = rest(world, scenario, REST).await {
        found.push(format!("liveness: never came to rest after the deletions: {left:?}"));
    }
    found.extend(looked(world, scenario, check::at_the_end));
    found
}

/// The newest order was refused for want of room.
fn is_full(world: &World) -> bool {
    let history = world.office.history();
    let last = history.iter().rfind(|call| matches!(call.asked, Asked::Create { .. }));
    last.is_some_and(|call| call.status() == Some(503))
}

/// Waits until nothing moves, and has not for `long`.
async fn rest(world: &World, scenario: &Scenario, long: Duration) -> Result<(), Vec<String>> {
    let began = Instant::now();
    let patience = if check::excuse::clock_jumped(scenario) { PATIENCE_WITH_CLOCKS } else { PATIENCE };
    let mut since: Option<Instant> = None;
    let (mut pulse, mut left) = (None, Vec::new());
    loop {
        if pulse.replace(world.pulse()) != Some(world.pulse()) {
            left = match restless(world) {
                Ok(left) => left,
                Err(error) => {
                    // A daemon that is down has perhaps no database yet.
                    pulse = None;
                    vec![error.to_string()]
                }
            };
        }
        if left.is_empty() {
            let since = *since.get_or_insert_with(Instant::now);
            if since.elapsed() >= long {
                return Ok(());
            }
        } else {
            since = None;
            if began.elapsed() > patience {
                return Err(left);
            }
        }
        let pause = if began.elapsed() < Duration::from_secs(300) { 2 } else { 20 };
        sleep(Duration::from_secs(pause)).await;
    }
}
