//! What the machine has: programs, free ports, and the repository that images are built from.

use super::claim::Claim;
use crate::failure::Failure;
use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where the daemons listen unless somebody is there.
const CONTROLLER: u16 = 30_002;
const AGENT: u16 = 30_010;
const BROKER: u16 = 30_083;
/// First ADB port; those for WebRTC are a thousand above.
const ADB: u16 = 20_000;
/// Ports of one kind: more than phones can be asked for.
const RANGE: u16 = 100;

/// The ports of one demo, all on loopback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The controller's API.
    pub controller: u16,
    /// The agent's own API.
    pub agent: u16,
    /// The broker.
    pub broker: u16,
    /// ADB of phones.
    pub adb: RangeInclusive<u16>,
    /// WebRTC of phones.
    pub webrtc: RangeInclusive<u16>,
    /// What is not where it usually is.
    pub notes: Vec<String>,
}

impl Ports {
    /// The usual ones, and free ones in place of those that are taken. No other demo takes them
    /// as long as the claims live.
    ///
    /// # Errors
    /// Machines where nothing is free.
    pub fn find() -> Result<(Self, Vec<Claim>), Failure> {
        let ephemeral = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
        let mut claims = Vec::new();
        let ports = Self::find_with(
            |ports| {
                // Claimed first: of two demos that look at the same moment one gets no further.
                let Some(claim) = Claim::take(&format!("port {}", ports.start())) else { return false };
                let free = ports.clone().all(is_free);
                if free {
                    claims.push(claim);
                }
                free
            },
            range(&ephemeral),
        )?;
        Ok((ports, claims))
    }

    /// `take` has every port of a range, or none.
    fn find_with(
        mut take: impl FnMut(RangeInclusive<u16>) -> bool,
        ephemeral: RangeInclusive<u16>,
    ) -> Result<Self, Failure> {
        let none =
            |what: &str| Failure::Failed(format!("there are no free ports for {what}: end what holds them"));
        let mut notes = Vec::new();
        let mut single = |what: &str, usual: u16| {
            let others = [CONTROLLER, AGENT, BROKER];
            let mut candidates = (usual..usual + 500).filter(|port| *port == usual || !others.contains(port));
            let found = candidates.find(|port| take(*port..=*port)).ok_or_else(|| none(what))?;
            if found != usual {
                notes.push(format!("port {usual} is taken: {what} is at {found}"));
            }
            Ok::<u16, Failure>(found)
        };
        let (controller, agent) = (single("the controller", CONTROLLER)?, single("the agent", AGENT)?);
        let broker = single("the broker", BROKER)?;
        let mut many = |what: &str, usual: u16| {
            let block = |first: u16| first..=first + (RANGE - 1);
            let fits = |block: &RangeInclusive<u16>| {
                let outside = block.end() < ephemeral.start() || block.start() > ephemeral.end();
                outside && take(block.clone())
            };
            // Ten blocks, so that the two kinds cannot meet.
            let found =
                (0..10).map(|number| block(usual + number * RANGE)).find(fits).ok_or_else(|| none(what))?;
            if *found.start() != usual {
                notes
                    .push(format!("ports from {usual} on are not free: {what} is from {} on", found.start()));
            }
            Ok::<_, Failure>(found)
        };
        let (adb, webrtc) = (many("ADB of phones", ADB)?, many("WebRTC of phones", ADB + 1000)?);
        Ok(Self { controller, agent, broker, adb, webrtc, notes })
    }

    /// Those that somebody listens on.
    pub fn busy(&self) -> Vec<u16> {
        let single = [self.controller, self.agent, self.broker];
        let all = single.into_iter().chain(self.adb.clone()).chain(self.webrtc.clone());
        all.filter(|port| !is_free(*port)).collect()
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Two numbers, as the kernel prints them.
fn range(text: &str) -> RangeInclusive<u16> {
    let mut numbers = text.split_whitespace().filter_map(|word| word.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(first), Some(last)) => first..=last,
        _ => 32_768..=60_999,
    }
}

/// A program of this project: beside this one, or in PATH.
///
/// # Errors
/// Says how it is built.
pub fn own_program(name: &str) -> Result<PathBuf, Failure> {
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join(name)));
    beside.filter(|path| is_program(path)).or_else(|| program(name)).ok_or_else(|| {
        Failure::Failed(format!("{name} is neither beside this program nor in PATH; build it: make build"))
    })
}

/// A program of the system; also where a plain login does not look.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = search_path();
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|path| path.is_absolute() && is_program(path))
}

/// PATH with the folders of system programs.
pub fn search_path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(if path.is_empty() { "/usr/sbin:/sbin:/usr/bin:/bin" } else { ":/usr/sbin:/sbin" });
    path
}

/// A program that must be there.
///
/// # Errors
/// Says which package brings it.
pub fn needed(name: &str, package: &str) -> Result<PathBuf, Failure> {
    program(name).ok_or_else(|| {
        Failure::Failed(format!("{name} is missing: apt-get install {package} (./demo in the project's repository does it by itself)"))
    })
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// The script that builds the image of the simulated phone, if the repository is near: above
/// the current folder, or above this program.
pub fn image_script() -> Option<PathBuf> {
    let places = [std::env::current_dir().ok(), std::env::current_exe().ok()];
    let above = places.iter().flatten().flat_map(|place| place.ancestors());
    above.map(|folder| folder.join("phonesim/image/build")).find(|path| is_program(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes what is in nobody's hands, and remembers it.
    fn taking(mut taken: Vec<u16>) -> impl FnMut(RangeInclusive<u16>) -> bool {
        move |ports| {
            let free = !ports.clone().any(|port| taken.contains(&port));
            if free {
                taken.extend(ports);
            }
            free
        }
    }

    #[test]
    fn usual_ports_or_the_next_free_ones() {
        let usual = Ports::find_with(taking(Vec::new()), 32_768..=60_999).unwrap();
        assert_eq!((usual.controller, usual.agent, usual.broker), (30_002, 30_010, 30_083));
        assert_eq!((usual.adb, usual.webrtc), (20_000..=20_099, 21_000..=21_099));
        assert!(usual.notes.is_empty());
        let busy = vec![30_002, 30_003, 30_010, 20_050, 21_000, 21_199];
        let other = Ports::find_with(taking(busy), 32_768..=60_999).unwrap();
        assert_eq!((other.controller, other.agent, other.broker), (30_004, 30_011, 30_083));
        assert_eq!((other.adb, other.webrtc), (20_100..=20_199, 21_200..=21_299));
        assert_eq!(other.notes.len(), 4, "{:?}", other.notes);
    }

    #[test]
    fn what_one_demo_has_chosen_no_other_chooses() {
        let (first, claims) = Ports::find().unwrap();
        let (second, _) = Ports::find().unwrap();
        let all = |ports: &Ports| -> std::collections::BTreeSet<u16> {
            let single = [ports.controller, ports.agent, ports.broker].into_iter();
            single.chain(ports.adb.clone()).chain(ports.webrtc.clone()).collect()
        };
        assert!(all(&first).is_disjoint(&all(&second)), "{first:?} {second:?}");
        drop(claims);
    }

    #[test]
    fn ports_of_outgoing_connections_are_left_alone() {
        let ports = Ports::find_with(|_| true, 15_000..=20_450).unwrap();
        assert_eq!(ports.adb, 20_500..=20_599);
        assert!(Ports::find_with(|_| true, 1024..=65_000).is_err());
        assert!(Ports::find_with(|_| false, 32_768..=60_999).is_err());
        assert_eq!(range("1\t5\n"), 1..=5);
        assert_eq!(range(""), 32_768..=60_999);
    }
}
