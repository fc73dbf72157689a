//! PID 1: boots the phone, keeps adbd alive, reaps, obeys orders, and ends the container.
//!
//! One loop waits for the next event of the agenda, for a dead child or for an order, and for
//! nothing else. Like the init of a privileged Redroid it does not heed SIGTERM: `docker stop`
//! ends in SIGKILL. Faults (see [`crate::fault`]) are events of the agenda too.

mod adbd;
mod agenda;
pub mod boot_plan;

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, syncfs};

use crate::adb;
use crate::boot_arguments;
use crate::console;
use crate::control::{Order, OrderSocket};
use crate::display;
use crate::fault::{Fault, Faults};
use crate::power::{EXIT_REBOOT, PowerAction};
use crate::properties::{Properties, service_property};
use crate::root::Root;
use adbd::Adbd;
use agenda::Agenda;
use boot_plan::{COMPLETION, DEFAULT_BOOT_MS, DEFAULT_PROPERTIES, EXIT_129_AT_PERCENT, STAGES};

/// How long adbd has to end when the phone is turned off.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);

/// Owner of the directory that shells may write to: Android's `shell`.
const SHELL_USER: u32 = 2000;

/// Why the phone cannot be run at all.
#[derive(Debug, thiserror::Error)]
enum InitError {
    #[error("cannot prepare {path}: {source}; the phone's root must be writable")]
    Prepare { path: String, source: io::Error },
    #[error("cannot read the boot line from /proc/self/cmdline: {0}; is /proc mounted?")]
    BootLine(io::Error),
    #[error("cannot set up {what}: {source}")]
    Kernel { what: &'static str, source: Errno },
}

/// What the agenda holds.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// Properties come true.
    Properties(&'static [(&'static str, &'static str)]),
    /// The last step of the boot, and what follows from it.
    BootCompleted,
    /// adbd is to run (again).
    StartAdbd,
    /// The fault `adb_offline` strikes.
    AdbdVanishes(Duration),
    /// The phone dies.
    Crash,
}

/// Runs as PID 1 until the phone ends; the exit code tells how (see [`crate::power`]).
pub fn run(root: &Root, _arguments: &[String]) -> ExitCode {
    match boot(root).map(|mut init| init.until_the_end()) {
        Ok(Ok(code)) => ExitCode::from(code),
        Ok(Err(error)) | Err(error) => {
            log(format_args!("fatal: {error}"));
            ExitCode::from(EXIT_REBOOT)
        }
    }
}

fn log(text: std::fmt::Arguments<'_>) {
    console::error(format_args!("init: {text}"));
}

struct Init {
    root: Root,
    properties: Properties,
    orders: OrderSocket,
    signals: SignalFd,
    adbd: Adbd,
    /// Whether adbd is started again when it dies.
    adbd_wanted: bool,
    agenda: Agenda<Event>,
    faults: Faults,
}

/// Prepares everything that exists before time starts, and enters the boot in the agenda.
fn boot(root: &Root) -> Result<Init, InitError> {
    let signals = take_signals()?;
    let prepare = |path: std::path::PathBuf| {
        move |source| InitError::Prepare { path: path.display().to_string(), source }
    };
    let properties = Properties::of(root);
    properties.reset().map_err(prepare(root.properties()))?;
    let orders = OrderSocket::bind(root).map_err(prepare(root.control_socket()))?;
    let boot_line = fs::read("/proc/self/cmdline").map_err(InitError::BootLine)?;
    set_first_properties(&properties, &boot_line);
    if let Err(error) = prepare_data(root) {
        // A phone with a broken disk still shows itself, as a real one would.
        log(format_args!("/data: {error}; it must be a writable directory"));
    }

    let boot_time = properties
        .number("ro.boot.phonesim_boot_ms")
        .unwrap_or(DEFAULT_BOOT_MS)
        // An hour is for ever, and keeps the sums of times far from any limit.
        .min(3_600_000);
    let boot_time = Duration::from_millis(boot_time);
    let faults = Faults::ordered(&properties);
    for stranger in &faults.unknown {
        log(format_args!("no such fault: '{stranger}'; the boot goes on without"));
    }
    if !adb::has_listener() {
        for fault in faults.known.iter().filter(|fault| fault.needs_own_adbd()) {
            log(format_args!("{fault:?} is beyond the real adbd; the boot goes on without"));
        }
    }
    log(format_args!("booting in {} ms, faults {:?}", boot_time.as_millis(), faults.known));
    Ok(Init {
        root: root.clone(),
        properties,
        orders,
        signals,
        adbd: Adbd::new(root),
        adbd_wanted: true,
        agenda: plan(boot_time, &faults),
        faults,
    })
}

/// Blocks every signal that could end PID 1, and has the death of children told by a
/// descriptor. Blocked and not ignored: children would inherit that.
fn take_signals() -> Result<SignalFd, InitError> {
    let mut blocked = SigSet::empty();
    for signal in [
        Signal::SIGCHLD,
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
    ] {
        blocked.add(signal);
    }
    blocked.thread_block().map_err(|source| InitError::Kernel { what: "the signal mask", source })?;
    let mut told = SigSet::empty();
    told.add(Signal::SIGCHLD);
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    SignalFd::with_flags(&told, flags).map_err(|source| InitError::Kernel { what: "a signalfd", source })
}

fn set_first_properties(properties: &Properties, boot_line: &[u8]) {
    for (name, value) in boot_arguments::properties(boot_line) {
        if let Err(error) = properties.set(&name, &value) {
            log(format_args!("boot line: {error}"));
        }
    }
    let density = display::physical_density(properties).to_string();
    let derived = [("ro.sf.lcd_density", density.as_str())];
    for (name, value) in DEFAULT_PROPERTIES.iter().chain(&derived) {
        // A property that the boot line gave stays as it is.
        let _ = properties.set(name, value);
    }
}

/// Makes what the phone needs on its disk and counts the boot.
fn prepare_data(root: &Root) -> io::Result<()> {
    let shell_directory = root.shell_directory();
    fs::create_dir_all(&shell_directory)?;
    // As on a phone. A test that is not root owns the directory itself.
    let _ = chown(&shell_directory, Some(SHELL_USER), Some(SHELL_USER));
    fs::set_permissions(&shell_directory, Permissions::from_mode(0o771))?;

    fs::create_dir_all(root.kept())?;
    let counter = root.kept().join("boots");
    let boots = match fs::read_to_string(&counter) {
        Ok(text) => text.trim().parse().unwrap_or(0),
        Err(_) => 0_u64,
    };
    let draft = root.kept().join("boots.new");
    let mut file = File::create(&draft)?;
    writeln!(file, "{}", boots.saturating_add(1))?;
    file.sync_all()?;
    fs::rename(draft, counter)
}

fn plan(boot_time: Duration, faults: &Faults) -> Agenda<Event> {
    let start = Instant::now();
    let at = |percent: u32| start + boot_time * percent / 100;
    let mut agenda = Agenda::new();
    agenda.enter(start, Event::StartAdbd);
    for stage in STAGES {
        agenda.enter(at(stage.at_percent), Event::Properties(stage.properties));
    }
    if faults.has(Fault::Exit129) {
        agenda.enter(at(EXIT_129_AT_PERCENT), Event::Crash);
    }
    if !faults.has(Fault::BootHang) {
        agenda.enter(at(100), Event::BootCompleted);
    }
    agenda
}

impl Init {
    /// The loop; returns the exit code.
    fn until_the_end(&mut self) -> Result<u8, InitError> {
        loop {
            while let Some(event) = self.agenda.take_due(Instant::now()) {
                if let Event::Crash = event {
                    log(format_args!("crash, as ordered"));
                    return Ok(EXIT_REBOOT);
                }
                self.happen(event);
            }
            self.wait(self.agenda.next_at())?;
            self.reap();
            while let Some(order) = self.orders.next() {
                match order {
                    Order::Power(action) => return self.end(action),
                    Order::Start(service) => self.start_service(&service),
                    Order::Stop(service) => self.stop_service(&service),
                }
            }
        }
    }

    /// Sleeps until a child died, an order came, or the time is there.
    fn wait(&self, until: Option<Instant>) -> Result<(), InitError> {
        let timeout = match until {
            None => PollTimeout::NONE,
            Some(at) => {
                // Rounded up: to wake a little early would only mean to sleep again.
                let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            }
        };
        let mut descriptors = [
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.orders.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut descriptors, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(source) => Err(InitError::Kernel { what: "poll", source }),
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Properties(properties) => self.set_all(properties),
            Event::BootCompleted => self.boot_completed(),
            Event::StartAdbd => self.start_adbd(),
            Event::AdbdVanishes(time) => {
                log(format_args!("adbd away for {} s, as ordered", time.as_secs()));
                self.adbd_wanted = false;
                self.adbd.signal(Signal::SIGKILL);
                self.agenda.enter(Instant::now() + time, Event::StartAdbd);
            }
            // Ends the loop, which is why the loop itself sees to it.
            Event::Crash => {}
        }
    }

    fn boot_completed(&mut self) {
        self.set_all(COMPLETION);
        log(format_args!("boot completed"));
        let now = Instant::now();
        for fault in &self.faults.known {
            match *fault {
                Fault::AdbOffline(time) => self.agenda.enter(now, Event::AdbdVanishes(time)),
                Fault::CrashAfter(time) => self.agenda.enter(now + time, Event::Crash),
                _ => {}
            }
        }
    }

    fn start_adbd(&mut self) {
        self.adbd_wanted = true;
        match self.adbd.start() {
            Ok(()) => self.set(&service_property("adbd"), "running"),
            Err(error) => {
                log(format_args!(
                    "cannot start {}: {error}; the phone has no adb",
                    self.root.adbd().display()
                ));
                self.set(&service_property("adbd"), "stopped");
            }
        }
    }

    /// Collects every dead child, adbd and orphans alike.
    fn reap(&mut self) {
        // What the descriptor says only wakes; how many died is asked of the kernel.
        while let Ok(Some(_)) = self.signals.read_signal() {}
        loop {
            let status = match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(status) => status,
            };
            let Some(pid) = status.pid() else { return };
            if self.adbd.ended(pid) {
                log(format_args!("adbd ended: {status:?}"));
                if self.adbd_wanted {
                    self.set(&service_property("adbd"), "restarting");
                    self.agenda.enter(self.adbd.next_start(), Event::StartAdbd);
                } else {
                    self.set(&service_property("adbd"), "stopped");
                }
            }
        }
    }

    fn start_service(&mut self, service: &str) {
        if service == "adbd" {
            self.start_adbd();
        } else if self.knows(service) {
            self.set(&service_property(service), "running");
        }
    }

    fn stop_service(&mut self, service: &str) {
        if service == "adbd" {
            self.adbd_wanted = false;
            self.adbd.signal(Signal::SIGTERM);
        } else if self.knows(service) {
            self.set(&service_property(service), "stopped");
        }
    }

    /// Services are known once they were started.
    fn knows(&self, service: &str) -> bool {
        let known = self.properties.get(&service_property(service)).is_some();
        if !known {
            log(format_args!("no such service: '{service}'"));
        }
        known
    }

    /// Stops the services, has the disk written, and gives the exit code.
    fn end(&mut self, action: PowerAction) -> Result<u8, InitError> {
        log(format_args!("{action:?}"));
        for (name, _) in self.properties.all() {
            if name.starts_with("init.svc.") && name != service_property("adbd") {
                self.set(&name, "stopped");
            }
        }
        self.adbd_wanted = false;
        self.adbd.signal(Signal::SIGTERM);
        let patience = Instant::now() + SHUTDOWN_GRACE;
        while self.adbd.runs() && Instant::now() < patience {
            self.wait(Some(patience))?;
            self.reap();
            // Orders that come now are too late, and would only keep waking the loop.
            while self.orders.next().is_some() {}
        }
        self.adbd.signal(Signal::SIGKILL);
        // Only the phone's own file system: a full sync would wait for the whole host.
        if let Err(error) =
            File::open(self.root.data()).and_then(|data| syncfs(data).map_err(io::Error::from))
        {
            log(format_args!("/data could not be synced: {error}"));
        }
        Ok(action.exit_code())
    }

    fn set_all(&self, properties: &[(&str, &str)]) {
        for (name, value) in properties {
            self.set(name, value);
        }
    }

    fn set(&self, name: &str, value: &str) {
        if let Err(error) = self.properties.set(name, value) {
            log(format_args!("{error}"));
        }
    }
}
