//! What the host's kernel brings, and what a phone does to its settings.

use super::report::Report;
use std::path::{Path, PathBuf};

/// Settings that a privileged phone is known to write at its boot: Android's init and
/// Redroid's `redroid.common.rc` (`kernel.modprobe` makes the host load no module any more).
const SETTINGS: [&str; 4] =
    ["kernel/modprobe", "kernel/perf_event_paranoid", "kernel/pid_max", "kernel/sysrq"];

/// Why most of this means nothing for the stand-in.
const STAND_IN: &str = "the image is a stand-in for Android and needs nothing of the kernel";

/// A machine, by its root.
#[derive(Clone, Debug)]
pub struct Machine {
    root: PathBuf,
}

impl Machine {
    /// The one that this runs on.
    pub fn here() -> Self {
        Self { root: PathBuf::from("/") }
    }

    fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.root.join(path)).ok().map(|text| text.trim().to_owned())
    }

    fn exists(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    /// The settings that phones are known to write, as they are now.
    pub fn settings(&self) -> Vec<(&'static str, Option<String>)> {
        SETTINGS.map(|name| (name, self.read(&format!("proc/sys/{name}")))).to_vec()
    }

    /// What Redroid needs of the kernel.
    pub fn check(&self, stand_in: bool, report: &mut Report<'_>) {
        let facts: [(&str, &str, &str, String, bool, bool); 7] = [
            self.binder(),
            Self::page_size(),
            self.pressure(),
            self.selinux(),
            self.heap(),
            self.inotify(),
            self.boot_config(),
        ];
        for (id, fact, expected, seen, holds, needed) in facts {
            match (stand_in, needed) {
                (true, _) => report.not_applicable(id, fact, STAND_IN),
                (false, true) => report.must(id, fact, expected, seen, holds),
                (false, false) => report.should(id, fact, expected, seen, holds),
            }
        }
    }

    fn binder(&self) -> (&'static str, &'static str, &'static str, String, bool, bool) {
        let listed = self.read("proc/filesystems").unwrap_or_default();
        let there = listed.split_whitespace().any(|word| word == "binder");
        let seen = if there { "binder" } else { "no binder: modprobe binder_linux, see docs/redroid.md" };
        (
            "host.binder",
            "the kernel has binderfs",
            "binder in /proc/filesystems",
            seen.to_owned(),
            there,
            true,
        )
    }

    fn page_size() -> (&'static str, &'static str, &'static str, String, bool, bool) {
        let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
        let seen = size.map_or_else(|| "unknown".to_owned(), |size| size.to_string());
        let holds = size == Some(4096);
        (
            "host.page-size",
            "memory has pages of 4096 bytes, as Android images expect",
            "4096",
            seen,
            holds,
            true,
        )
    }

    fn pressure(&self) -> (&'static str, &'static str, &'static str, String, bool, bool) {
        let there = self.read("proc/pressure/memory").is_some();
        let seen = if there { "there" } else { "missing: boot the kernel with psi=1" };
        let fact = "the kernel measures memory pressure (PSI), which Android's memory killer waits for";
        ("host.pressure", fact, "/proc/pressure/memory", seen.to_owned(), there, true)
    }

    fn selinux(&self) -> (&'static str, &'static str, &'static str, String, bool, bool) {
        let mode = self.read("sys/fs/selinux/enforce");
        let holds = mode.as_deref() != Some("1");
        let seen = if holds { "not enforcing" } else { "enforcing: setenforce 0" };
        ("host.selinux", "SELinux does not enforce", "not enforcing", seen.to_owned(), holds, true)
    }

    fn heap(&self) -> (&'static str, &'static str, &'static str, String, bool, bool) {
        let there = self.exists("dev/dma_heap/system") || self.exists("dev/ion");
        let seen = if there { "there" } else { "neither: from Android 12 on there may be no video encoder" };
        let fact = "there is memory for video encoders (CONFIG_DMABUF_HEAPS_SYSTEM)";
        ("host.dma-heap", fact, "/dev/dma_heap/system or /dev/ion", seen.to_owned(), there, false)
    }

    fn inotify(&self) -> (&'static str, &'static str, &'static str, String, bool, bool) {
        let most: Option<u64> =
            self.read("proc/sys/fs/inotify/max_user_instances").and_then(|text| text.parse().ok());
        let seen = most.map_or_else(|| "unknown".to_owned(), |most| most.to_string());
        let fact = "there are inotify instances for more than two phones; each takes up to 64";
        let expected = "fs.inotify.max_user_instances of 1024 or more; 8192 for a hundred phones";
        ("host.inotify", fact, expected, seen, most.is_some_and(|most| most >= 1024), false)
    }

    fn boot_config(&self) -> (&'static str, &'static str, &'static str, String, bool, bool) {
        let there = self.exists("proc/bootconfig");
        let seen = if there { "there: some images take the host's settings for theirs" } else { "absent" };
        let fact = "the kernel shows no boot configuration of its own";
        ("host.bootconfig", fact, "no /proc/bootconfig", seen.to_owned(), !there, false)
    }

    /// Whether the settings are what they were before the phone.
    pub fn compare(
        &self,
        before: &[(&'static str, Option<String>)],
        stand_in: bool,
        report: &mut Report<'_>,
    ) {
        let fact = "a phone leaves the host's kernel settings alone";
        if stand_in {
            return report.not_applicable("host.sysctl", fact, STAND_IN);
        }
        let changed: Vec<String> = before
            .iter()
            .zip(self.settings())
            .filter(|((_, was), (_, is))| was != is)
            .map(|((name, was), (_, is))| {
                let name = name.replace('/', ".");
                let was = was.as_deref().unwrap_or("?");
                format!("{name} is now {:?}; sysctl -w {name}={was}", is.unwrap_or_default())
            })
            .collect();
        let seen = if changed.is_empty() { "unchanged".to_owned() } else { changed.join("; ") };
        report.should("host.sysctl", fact, "unchanged", seen, changed.is_empty());
    }
}

/// The folder that stands for another machine, in tests.
impl From<&Path> for Machine {
    fn from(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::super::tests::options;
    use super::*;
    use std::fs;

    fn verdicts(report: &Report<'_>) -> Vec<(&'static str, Verdict)> {
        report.checks.iter().map(|check| (check.id, check.verdict)).collect()
    }

    #[test]
    fn a_machine_with_everything_and_one_with_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let machine = Machine::from(folder.path());
        let options = options("redroid/redroid:14.0.0-latest");
        let mut nothing = Report::new(&options, |_| ());
        machine.check(false, &mut nothing);
        assert!(verdicts(&nothing).contains(&("host.binder", Verdict::Differs)));
        assert!(verdicts(&nothing).contains(&("host.dma-heap", Verdict::Warning)));

        put("proc/filesystems", "nodev\tsysfs\nnodev\tbinder\n\text4\n");
        put("proc/pressure/memory", "some avg10=0.00\n");
        put("dev/dma_heap/system", "");
        put("proc/sys/fs/inotify/max_user_instances", "8192\n");
        let mut everything = Report::new(&options, |_| ());
        machine.check(false, &mut everything);
        let wrong: Vec<_> =
            everything.checks.iter().filter(|check| check.verdict != Verdict::Holds).collect();
        // The page size is that of the machine that runs this test.
        assert!(wrong.iter().all(|check| check.id == "host.page-size"), "{wrong:?}");

        let mut stand_in = Report::new(&options, |_| ());
        machine.check(true, &mut stand_in);
        assert_eq!(stand_in.count(Verdict::NotApplicable), 7);
    }

    #[test]
    fn a_setting_that_a_phone_wrote_is_told_with_its_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("proc/sys/kernel/modprobe");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "/sbin/modprobe\n").unwrap();
        let machine = Machine::from(folder.path());
        let before = machine.settings();
        let options = options("redroid/redroid:14.0.0-latest");
        let mut report = Report::new(&options, |_| ());
        machine.compare(&before, false, &mut report);
        fs::write(&file, "\n").unwrap();
        machine.compare(&before, false, &mut report);
        let [same, changed] = &report.checks[..] else { panic!("two checks") };
        assert_eq!((same.verdict, changed.verdict), (Verdict::Holds, Verdict::Warning));
        assert!(changed.seen.contains("sysctl -w kernel.modprobe=/sbin/modprobe"), "{}", changed.seen);
    }
}
