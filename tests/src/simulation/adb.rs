//! The agent's adb trait over the phones of a simulated machine: a tiny shell that knows
//! what an agent asks.

use super::machine::{Machine, Phone};
use async_trait::async_trait;
use phonefleet_agent::adb::{Adb, AdbError, ShellOutput};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Until adbd listens in a container that was started.
const ADBD_UP: Duration = Duration::from_millis(100);

/// Access to the machine's phones.
#[derive(Clone, Debug)]
pub struct SimulatedAdb {
    machine: Machine,
}

impl SimulatedAdb {
    /// Access to the phones of `machine`.
    pub fn new(machine: Machine) -> Self {
        Self { machine }
    }

    /// The running phone whose adbd answers at `address`.
    pub(super) fn reach(&self, address: SocketAddr) -> Option<Phone> {
        let phone = self.machine.phone_at(address.port())?;
        let started = phone.started?;
        let offline = phone.fault("adb_offline").is_some_and(|seconds| {
            let from = started + phone.boot_time();
            let until = from + Duration::from_secs(seconds.unwrap_or(10));
            (from..until).contains(&Instant::now())
        });
        (started.elapsed() >= ADBD_UP && !offline && !phone.hung).then_some(phone)
    }

    fn run(&self, phone: &Phone, command: &str) -> ShellOutput {
        let mut output = ShellOutput::default();
        for part in command.split([';', '\n']).flat_map(|part| part.split("&&")) {
            let words: Vec<&str> = part.split_whitespace().collect();
            match words.as_slice() {
                [] => {}
                ["getprop", name] => {
                    output.stdout.push_str(&property(phone, name));
                    output.stdout.push('\n');
                }
                ["pm", "path", "android"] if phone.has_booted() => {
                    output.stdout.push_str("package:/system/framework/framework-res.apk\n");
                }
                ["pm", ..] => output.status = 1,
                ["echo", rest @ ..] => {
                    output.stdout.push_str(&rest.join(" "));
                    output.stdout.push('\n');
                }
                ["svc", "power", "shutdown"] | ["setprop", "sys.powerctl", ..] => {
                    let (machine, id, started) =
                        (self.machine.clone(), phone.container.id.clone(), phone.started);
                    tokio::spawn(async move {
                        sleep(Duration::from_millis(300)).await;
                        machine.exit(&id, started, 130);
                    });
                }
                _ => {
                    output.status = 127;
                    output.stderr = format!("{part}: not found");
                }
            }
        }
        output
    }
}

fn property(phone: &Phone, name: &str) -> String {
    match name {
        "sys.boot_completed" | "dev.bootcomplete" if phone.has_booted() => "1".to_owned(),
        "ro.serialno" | "ro.boot.serialno" => {
            phone.argument("androidboot.serialno").unwrap_or_default().to_owned()
        }
        "init.svc.adbd" | "init.svc.servicemanager" | "init.svc.zygote" => "running".to_owned(),
        _ => String::new(),
    }
}

#[async_trait]
impl Adb for SimulatedAdb {
    async fn connect(&self, address: SocketAddr, deadline: Duration) -> Result<(), AdbError> {
        let reached = async {
            while self.reach(address).is_none() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(deadline, reached)
            .await
            .map_err(|_| AdbError::Offline(format!("failed to connect to {address}")))
    }

    async fn disconnect(&self, _: SocketAddr) -> Result<(), AdbError> {
        Ok(())
    }

    async fn shell(&self, address: SocketAddr, command: &str, _: Duration) -> Result<ShellOutput, AdbError> {
        sleep(Duration::from_millis(5)).await;
        let phone = self.reach(address).ok_or_else(|| AdbError::Offline("device not found".to_owned()))?;
        Ok(self.run(&phone, command))
    }

    async fn pull(
        &self,
        _: SocketAddr,
        path: &str,
        _: tokio::fs::File,
        _: u64,
        _: Duration,
    ) -> Result<Option<u64>, AdbError> {
        Err(AdbError::Offline(format!("{path}: a simulated phone has no files")))
    }
}
