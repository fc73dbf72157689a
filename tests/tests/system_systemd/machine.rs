//! One machine with systemd as its first process, an engine, a broker and both daemons, in a
//! container of the environment's engine.

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use phonefleet_tests::real::program::{built, run};
use phonefleet_tests::real::until;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub const AGENT: &str = "phonefleet-agent";
pub const CONTROLLER: &str = "phonefleet-controller";
/// In place of the minute of the units, to be waited for.
pub const WATCHDOG: Duration = Duration::from_secs(10);
/// For anything: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// One machine at a time.
static TURN: Mutex<()> = Mutex::new(());
const IMAGE: &str = "phonefleet/systemd-host:test";

/// What phones are on a machine, and what differs there from the configuration that is installed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Phones {
    Containers,
    Processes,
}

impl Phones {
    const fn agent_env(self) -> &'static str {
        match self {
            Self::Containers => {
                "PHONEFLEET_AGENT__HOST_ID=host-1\n\
                 PHONEFLEET_AGENT__RUNTIME__IMAGE=phonefleet/phonesim:dev\n\
                 PHONEFLEET_AGENT__RUNTIME__PRIVILEGE=none\n"
            }
            Self::Processes => "PHONEFLEET_AGENT__HOST_ID=host-1\n",
        }
    }

    /// One a line: device, state, first process, start.
    const fn list(self) -> &'static str {
        match self {
            Self::Containers => {
                "ids=$(docker ps -aq --filter label=phonefleet.host=host-1); [ -z \"$ids\" ] || docker inspect -f \
                 '{{index .Config.Labels \"phonefleet.device\"}} {{.State.Status}} {{.State.Pid}} {{.State.StartedAt}}' \
                 $ids | sort"
            }
            Self::Processes => {
                "cd /var/lib/phonefleet/processes 2>/dev/null || exit 0\n\
                 for phone in phonefleet-*; do [ -e \"$phone\" ] || continue\n\
                 pid='' since=''; [ ! -e $phone/init ] || read -r pid since <$phone/init\n\
                 state=exited; [ \"$(cut -d ' ' -f 22 /proc/$pid/stat 2>/dev/null)\" != \"$since\" ] || state=running\n\
                 echo ${phone#phonefleet-} $state $pid $since; done"
            }
        }
    }
}

/// The machine; gone with this value.
pub struct Machine {
    name: String,
    phones: Phones,
    _turn: MutexGuard<'static, ()>,
}

/// What systemd says of a unit.
pub struct Unit(BTreeMap<String, String>);

impl Unit {
    pub fn get(&self, property: &str) -> &str {
        self.0.get(property).map_or("", String::as_str)
    }

    pub fn number(&self, property: &str) -> u64 {
        self.get(property).parse().unwrap_or_else(|_| panic!("{property} of {:?}", self.0))
    }

    pub fn pid(&self) -> u64 {
        self.number("MainPID")
    }
}

impl Machine {
    /// Boots one, with everything installed and nothing started. `None`, and a line that says
    /// so, where `make test-systemd` did not prepare it.
    pub fn boot(name: &str) -> Option<Self> {
        let machine = Self::boot_bare(name, Phones::Containers)?;
        machine.install();
        machine.shell("/phonesim/image/build --import /phonesim.tar");
        Some(machine)
    }

    /// As `boot`, on a machine without a container engine.
    pub fn boot_without_engine(name: &str) -> Option<Self> {
        let machine = Self::boot_bare(name, Phones::Processes)?;
        machine.systemctl("mask --now docker.service docker.socket containerd.service");
        let told = machine.shell("/repository/systemd/install --processes /programs");
        assert!(told.starts_with("Installed."), "{told}");
        Some(machine)
    }

    fn boot_bare(name: &str, phones: Phones) -> Option<Self> {
        let given = |variable| std::env::var(variable).ok();
        let (Some(_), Some(root), Some(phonesim)) = (
            given("PHONEFLEET_TEST_ENVIRONMENT"),
            given("PHONEFLEET_TEST_SYSTEMD_HOST"),
            given("PHONEFLEET_TEST_ROOTFS"),
        ) else {
            println!("skipped: run it with \"make test-systemd\"");
            return None;
        };
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let machine = Self { name: format!("machine-{name}"), phones, _turn: turn };
        if run(["docker", "image", "inspect", IMAGE]).is_err() {
            run(["docker", "import", "-c", "ENV container=docker", &root, IMAGE]).expect("the image");
        }
        machine.create(&phonesim);
        run(["docker", "start", &machine.name]).expect("the machine boots");
        machine.wait_for_boot();
        Some(machine)
    }

    /// Installs, or upgrades, as a person would.
    pub fn install(&self) {
        let told = self.shell("/repository/systemd/install /programs");
        assert!(told.contains("systemctl enable --now phonefleet-agent"), "{told}");
    }

    fn create(&self, phonesim: &str) {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the tree");
        let program = |name: &str| format!("{}:/programs/{name}:ro", built(name).display());
        let mounts = [
            program(AGENT),
            program(CONTROLLER),
            program("phonefleet"),
            program("phonesim"),
            format!("{phonesim}:/phonesim.tar:ro"),
            format!("{}/phonesim/image:/phonesim/image:ro", repository.display()),
            format!("{}/systemd:/repository/systemd:ro", repository.display()),
            "/var/lib/docker".to_owned(),
        ];
        // Of its own control groups it may have everything; on hosts without
        // CAP_SYS_RESOURCE, only "nores" can give privileges.
        let mut command: Vec<&str> = "docker create --runtime nores --privileged --cgroupns private \
            --tmpfs /run --tmpfs /run/lock --tmpfs /tmp --stop-signal SIGRTMIN+3"
            .split_whitespace()
            .collect();
        for mount in &mounts {
            command.extend(["-v", mount]);
        }
        command.extend(["--name", &self.name, IMAGE, "/sbin/init"]);
        run(command).expect("the machine is made");

        let files = tempfile::tempdir().expect("a folder");
        let etc = files.path().join("etc");
        let write = |path: &str, text: &str| {
            let path = etc.join(path);
            std::fs::create_dir_all(path.parent().expect("below etc")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        };
        write("phonefleet/agent.env", self.phones.agent_env());
        let shorter = format!("[Service]\nWatchdogSec={}\n", WATCHDOG.as_secs());
        for name in [AGENT, CONTROLLER] {
            write(&format!("systemd/system/{name}.service.d/test.conf"), &shorter);
        }
        let etc = format!("{}/.", etc.display());
        run(["docker", "cp", &etc, &format!("{}:/etc", self.name)]).expect("files are copied");
    }

    fn wait_for_boot(&self) {
        until("the machine is up", PATIENCE, || {
            // Fails with every state but "running".
            self.run(["systemctl", "is-system-running"]).map_err(|state| {
                let failed = self.run(["systemctl", "--failed", "--no-pager"]);
                format!("{state} {failed:?}")
            })
        });
    }

    /// In order, as by "reboot".
    pub fn reboot(&self) {
        run(["docker", "restart", "-t", "60", &self.name]).expect("it restarts");
        self.wait_for_boot();
    }

    /// Everything dies at once; files stay.
    pub fn cut_power(&self) {
        run(["docker", "kill", &self.name]).expect("it dies");
        run(["docker", "start", &self.name]).expect("it boots");
        self.wait_for_boot();
    }

    /// A command on the machine.
    pub fn run<'a>(&'a self, words: impl IntoIterator<Item = &'a str>) -> Result<String, String> {
        let text = run(["docker", "exec", &self.name].into_iter().chain(words))?;
        Ok(text.trim().to_owned())
    }

    /// A script that must succeed.
    pub fn shell(&self, script: &str) -> String {
        self.run(["sh", "-c", script]).unwrap_or_else(|error| panic!("{error}\n{}", self.journal()))
    }

    pub fn systemctl(&self, words: &str) {
        self.shell(&format!("systemctl {words}"));
    }

    /// The last words of both daemons and of systemd about them.
    pub fn journal(&self) -> String {
        let units = ["-u", AGENT, "-u", CONTROLLER, "-n", "80"];
        self.run(["journalctl", "--no-pager", "-o", "short-monotonic"].into_iter().chain(units))
            .unwrap_or_default()
    }

    pub fn unit(&self, name: &str) -> Unit {
        let text = self.shell(&format!(
            "systemctl show {name} -p ActiveState,SubState,StatusText,MainPID,NRestarts,Result,WatchdogTimestampMonotonic"
        ));
        Unit(
            text.lines()
                .filter_map(|line| line.split_once('='))
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
        )
    }

    /// Waits for a unit to be as wanted.
    pub fn unit_is(&self, name: &str, what: &str, wanted: impl Fn(&Unit) -> bool) -> Unit {
        let found = phonefleet_tests::real::within(PATIENCE, || {
            let unit = self.unit(name);
            if wanted(&unit) { Ok(unit) } else { Err(format!("{:?}", unit.0)) }
        });
        found.unwrap_or_else(|last| panic!("{name} is not {what}: {last}\n{}", self.journal()))
    }

    /// Waits for another process of a unit, ready.
    pub fn began_anew(&self, name: &str, before: &Unit) -> Unit {
        self.unit_is(name, "running anew", |unit| {
            unit.get("ActiveState") == "active"
                && unit.get("SubState") == "running"
                && unit.pid() != before.pid()
        })
    }

    /// A call of the controller's API; its answer, or the data in it.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let url = format!("http://127.0.0.1:30002{path}");
        let body = body.map(Value::to_string);
        let mut words = vec!["curl", "-sS", "--fail-with-body", "-m", "20", "-X", method, &url];
        if let Some(body) = &body {
            words.extend(["-H", "Content-Type: application/json", "-d", body]);
        }
        let text = self.run(words)?;
        let answer = serde_json::from_str::<Value>(&text).map_err(|error| format!("{error}: {text}"))?;
        Ok(answer.get("data").cloned().unwrap_or(answer))
    }

    pub fn must(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        self.call(method, path, body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}\n{}", self.journal()))
    }

    /// Waits for the status of a device or recording.
    pub fn becomes(&self, path: &str, status: &str) -> Value {
        let found = phonefleet_tests::real::within(PATIENCE, || {
            let now = self.call("GET", path, None)?;
            if now["status"] == status { Ok(now) } else { Err(now.to_string()) }
        });
        found.unwrap_or_else(|last| panic!("{path} is not {status}: {last}\n{}", self.journal()))
    }

    /// Every phone of the host: device, state, first process, start.
    pub fn phones(&self) -> String {
        self.shell(self.phones.list())
    }

    /// Every adb server of the agent: process and start time.
    pub fn adb_servers(&self) -> String {
        self.shell("pgrep -f '^adb -L localfilesystem:/var/lib/phonefleet/adb.sock' | xargs -r ps -o pid=,lstart= -p")
    }

    /// Stops one thread of a daemon, and nothing else of it, until the process dies.
    pub fn wedge(&self, program: &str, thread: &str) -> Wedged {
        let processes = run(["docker", "top", &self.name, "-eo", "pid,args"]).expect("docker top");
        let process = processes
            .lines()
            .find(|line| line.contains(&format!("/usr/local/bin/{program} ")))
            .and_then(|line| line.split_whitespace().next())
            .unwrap_or_else(|| panic!("{program} is not in {processes}"));
        let threads = std::fs::read_dir(format!("/proc/{process}/task")).expect("its threads");
        let found = threads
            .filter_map(Result::ok)
            .find(|task| {
                std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == thread)
            })
            .unwrap_or_else(|| panic!("{program} has no thread {thread}"));
        let number = found.file_name().to_string_lossy().parse().expect("a thread's number");
        let thread = Pid::from_raw(number);
        ptrace::seize(thread, ptrace::Options::empty()).expect("a debugger may have it");
        ptrace::interrupt(thread).expect("it stops");
        Wedged(thread)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Nothing to be done about a failure: the environment ends everything.
        let _ = run(["docker", "rm", "-f", "-v", &self.name]);
    }
}

/// A thread that stands still. Only the thread that stopped it can hear of its end.
pub struct Wedged(Pid);

impl Wedged {
    /// Waits for its end; until somebody took notice, the process cannot be gone.
    pub fn died(self) {
        until("the process of the thread dies", PATIENCE, || {
            let flags = WaitPidFlag::__WALL | WaitPidFlag::WNOHANG;
            match waitpid(self.0, Some(flags)) {
                Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) | Err(nix::Error::ECHILD) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }
}
