//! Faults, as they happen, and their end.

use super::World;
use super::agent::Identity;
use super::daemon::Daemon;
use super::machine_id;
use crate::scenario::{CallFault, Fault, Side, host_name};
use phonefleet_tests::simulation::machine::Call;
use phonefleet_tests::simulation::{EngineFault, Machine};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::sleep;

/// Until what a killed daemon had begun is dropped, its lock with it.
const DEAD: Duration = Duration::from_millis(100);
const CALLS: [Call; 6] = [Call::Create, Call::Start, Call::Kill, Call::Remove, Call::Inspect, Call::List];

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

impl World {
    fn client(&self, side: Side) -> String {
        self.daemon(side).name.clone()
    }

    /// Lets one fault happen, and returns when it is over. `entry` names it.
    pub async fn suffer(&self, entry: usize, fault: Fault) {
        self.trace.say(format_args!("#{entry} fault {fault:?}"));
        self.watch.touch(fault.touches_phones());
        match fault {
            Fault::Kill(side, 0) => self.daemon(side).kill(),
            Fault::Kill(side, lasts) => {
                let daemon = self.daemon(side);
                let _alone = daemon.surgery.lock().await;
                daemon.stop();
                sleep(ms(lasts)).await;
                daemon.release();
            }
            Fault::CrashAt(side, nth) => self.daemon(side).crash.arm(nth),
            Fault::BrokerForgets => self.network.forget(),
            Fault::BrokerAway(lasts, forgets) => {
                let clients: Vec<_> = std::iter::once(&self.controller)
                    .chain(self.sites.iter().map(|site| &site.agent))
                    .map(|daemon| daemon.name.clone())
                    .collect();
                for client in &clients {
                    self.network.cut(client);
                }
                sleep(ms(lasts)).await;
                if forgets {
                    self.network.forget();
                }
                for client in &clients {
                    self.network.heal(client);
                }
            }
            Fault::Cut(side, lasts) => {
                let client = self.client(side);
                self.network.cut(&client);
                sleep(ms(lasts)).await;
                self.network.heal(&client);
            }
            Fault::Lossy(lasts, percent) => {
                let phase = self.network.begin_lossy(percent);
                sleep(ms(lasts)).await;
                self.network.end_lossy(phase);
            }
            Fault::DiskFull(side, lasts) => {
                self.daemon(side).set_full(true);
                sleep(ms(lasts)).await;
                self.daemon(side).set_full(false);
            }
            Fault::ClockJumps(side, seconds) => self.daemon(side).clock.jump(seconds),
            Fault::Restored(side, later) => self.restored(side, ms(later)).await,
            _ => self.suffer_on_machine(fault).await,
        }
        self.trace.whisper(format_args!("#{entry} is over"));
    }

    /// What befalls a machine.
    async fn suffer_on_machine(&self, fault: Fault) {
        match fault {
            Fault::EngineDown(host, lasts) => {
                let machine = self.sites[host].machine();
                machine.set_engine_down(true);
                sleep(ms(lasts)).await;
                machine.set_engine_down(false);
            }
            Fault::EngineSlow(host, longer, lasts) => {
                let machine = self.sites[host].machine();
                machine.set_slow(ms(longer));
                sleep(ms(lasts)).await;
                machine.set_slow(Duration::ZERO);
            }
            Fault::EngineFails(host, call, nth, how) => {
                let how = match how {
                    CallFault::Unavailable => EngineFault::Unavailable,
                    CallFault::Done => EngineFault::DoneButUnavailable,
                    CallFault::Hang(seconds) => EngineFault::Hang(Duration::from_secs(seconds)),
                };
                self.sites[host].machine().fail(CALLS[call % CALLS.len()], nth, how);
            }
            Fault::PortsStolen(host, from, count, lasts) => {
                let machine = self.sites[host].machine();
                (from..from.saturating_add(count)).for_each(|port| machine.occupy(port));
                sleep(ms(lasts)).await;
                machine.vacate();
            }
            Fault::AdbOffline(host, lasts) => {
                let machine = self.sites[host].machine();
                let hang = |hung| {
                    let devices = machine.phones().into_iter().filter_map(|phone| phone.container.device());
                    devices.for_each(|device| machine.set_hung(device, hung));
                };
                hang(true);
                sleep(ms(lasts)).await;
                hang(false);
            }
            Fault::PhoneDies(target) => {
                let device = self.office.known(target).and_then(|known| known.id.parse().ok());
                if let Some(device) = device {
                    self.sites.iter().for_each(|site| site.machine().die(device, 139));
                }
            }
            Fault::HostReplaced(host) => self.replaced(host).await,
            Fault::DatabaseLost(host) => {
                let agent = &self.sites[host].agent;
                let _alone = agent.surgery.lock().await;
                agent.stop();
                sleep(DEAD).await;
                agent.erase();
                self.watch.forget();
                agent.release();
            }
            Fault::Twin(host, lasts) => {
                let twin = self.twin(host);
                sleep(ms(lasts)).await;
                drop(twin);
                sleep(DEAD).await;
            }
            // The others were handled before.
            _ => {}
        }
    }

    async fn restored(&self, side: Side, later: Duration) {
        let daemon = self.daemon(side);
        let backup = daemon.backup();
        sleep(later).await;
        let _alone = daemon.surgery.lock().await;
        daemon.stop();
        sleep(DEAD).await;
        if let Err(error) = daemon.restore(&backup) {
            self.trace.say(format_args!("the backup of {} cannot be written: {error}", daemon.name));
        }
        self.trace.say(format_args!("{} is restored from {} ms before", daemon.name, later.as_millis()));
        self.watch.forget();
        daemon.release();
    }

    async fn replaced(&self, host: usize) {
        let site = &self.sites[host];
        let _alone = site.agent.surgery.lock().await;
        site.agent.stop();
        sleep(DEAD).await;
        site.agent.erase();
        let machine = self.machine(host);
        let old = {
            let mut identity = site.identity.lock().unwrap_or_else(PoisonError::into_inner);
            identity.machine_id = machine_id(&format!("{}-again", identity.machine_id));
            std::mem::replace(&mut identity.machine, machine)
        };
        old.on_change(|_, _| {});
        let devices: Vec<_> = old.phones().iter().filter_map(|phone| phone.container.device()).collect();
        self.watch.machine_gone(&devices);
        self.watch.forget();
        site.agent.release();
    }

    /// A second agent with a host's id, on a machine of its own.
    fn twin(&self, host: usize) -> Daemon {
        // What the twin says of its own machine is true of no other.
        self.watch.forget();
        let id = self.sites[host].id.clone();
        let client = format!("{}-twin", host_name(host));
        let machine_id = machine_id(&format!("machine-of-{client}"));
        let identity = Identity { host: id, client: client.clone(), machine_id, machine: Machine::default() };
        self.agent(&client, Arc::new(Mutex::new(identity)))
    }

    /// Nothing is broken any more that does not heal by itself.
    pub fn heal(&self) {
        self.trace.say("everything heals");
        for site in &self.sites {
            let machine = site.machine();
            machine.clear_faults();
            machine.set_slow(Duration::ZERO);
            machine.set_engine_down(false);
            machine.vacate();
            // A container that was created while others were hung, or the other way round.
            let devices = machine.phones().into_iter().filter_map(|phone| phone.container.device());
            devices.for_each(|device| machine.set_hung(device, false));
            site.agent.crash.disarm();
        }
        self.controller.crash.disarm();
    }
}
