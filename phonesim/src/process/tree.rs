//! The root of a phone that is a process: its own `/data`, `/dev`, `/proc` and `/tmp`, the
//! names of phonesim in `/system/bin`, and below `/usr` (read-only) the programs of the host,
//! among them the shell. Nothing else of the host is in sight.
//!
//! All of it is mounted in the phone's own mount namespace: the kernel takes it away with the
//! phone's last process.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{chdir, pivot_root};

/// Where phonesim's commands are found by name.
const COMMANDS: [&str; 14] = [
    "adbd",
    "am",
    "getprop",
    "input",
    "pm",
    "reboot",
    "screencap",
    "screenrecord",
    "setprop",
    "settings",
    "start",
    "stop",
    "svc",
    "wm",
];

/// Folders with the programs of the host. Most are links into `/usr`.
const HOST_FOLDERS: [&str; 7] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// What of the host's `/etc` programs need to find each other.
const HOST_SETTINGS: [&str; 2] = ["etc/ld.so.cache", "etc/alternatives"];

/// Devices of the host that every program counts on.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Room for everything outside `/data`. Memory, and used only as it is filled.
const ROOM: &str = "mode=755,size=64m";

const USERS: &str = "root:x:0:0:root:/data:/bin/sh\nshell:x:2000:2000:shell:/data:/bin/sh\n";
const GROUPS: &str = "root:x:0:\nshell:x:2000:\n";

/// What could not be made of the root.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A file, folder or link.
    #[error("cannot make {path} of the phone's root: {source}")]
    File {
        /// Below the root.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// A mount.
    #[error("cannot mount {path} of the phone's root: {source}")]
    Mount {
        /// Below the root.
        path: PathBuf,
        /// What the kernel said.
        source: nix::errno::Errno,
    },
}

/// Builds the root at an empty folder and makes it this process's root. The mount namespace
/// must be its own.
pub fn build_and_enter(root: &Path, data: &Path) -> Result<(), TreeError> {
    let nothing: Option<&str> = None;
    // From now on nothing that is mounted here is seen by the host, nor the other way.
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)
        .map_err(cannot_mount("/"))?;
    let none = MsFlags::empty();
    mount(Some("tmpfs"), root, Some("tmpfs"), none, Some(ROOM)).map_err(cannot_mount("/"))?;
    let tree = Tree(root);
    tree.programs()?;
    tree.settings()?;
    tree.devices()?;
    for (folder, mode) in [("tmp", 0o1777), ("proc", 0o555), ("data", 0o771)] {
        tree.folder(folder, mode)?;
    }
    let kept = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), &root.join("proc"), Some("proc"), kept, nothing).map_err(cannot_mount("proc"))?;
    mount(Some(data), &root.join("data"), nothing, MsFlags::MS_BIND, nothing)
        .map_err(cannot_mount("data"))?;
    tree.link("data/local/tmp", "sdcard")?;

    // The new root over the old one, and the old one away: no path leads back.
    chdir(root).map_err(cannot_mount("/"))?;
    pivot_root(".", ".").map_err(cannot_mount("/"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(cannot_mount("/"))?;
    chdir("/").map_err(cannot_mount("/"))
}

struct Tree<'a>(&'a Path);

impl Tree<'_> {
    fn programs(&self) -> Result<(), TreeError> {
        for name in HOST_FOLDERS {
            let host = Path::new("/").join(name);
            let Ok(found) = fs::symlink_metadata(&host) else { continue };
            if found.is_symlink() {
                let target = fs::read_link(&host).map_err(cannot_make(name))?;
                symlink(target, self.0.join(name)).map_err(cannot_make(name))?;
            } else {
                self.folder(name, 0o755)?;
                self.bind_read_only(&host, name)?;
            }
        }
        self.folder("system/bin", 0o755)?;
        for name in COMMANDS {
            self.link("../../init", &format!("system/bin/{name}"))?;
        }
        self.link("../../bin/sh", "system/bin/sh")?;
        let program = std::env::current_exe().map_err(cannot_make("init"))?;
        self.file("init", "")?;
        self.bind_read_only(&program, "init")
    }

    fn settings(&self) -> Result<(), TreeError> {
        self.folder("etc", 0o755)?;
        self.file("etc/passwd", USERS)?;
        self.file("etc/group", GROUPS)?;
        for name in HOST_SETTINGS {
            let host = Path::new("/").join(name);
            let Ok(found) = host.metadata() else { continue };
            if found.is_dir() {
                self.folder(name, 0o755)?;
            } else {
                self.file(name, "")?;
            }
            self.bind_read_only(&host, name)?;
        }
        Ok(())
    }

    fn devices(&self) -> Result<(), TreeError> {
        self.folder("dev", 0o755)?;
        for name in DEVICES {
            let name = format!("dev/{name}");
            self.file(&name, "")?;
            self.bind(&Path::new("/").join(&name), &name)?;
        }
        for (target, name) in [
            ("/proc/self/fd", "fd"),
            ("fd/0", "stdin"),
            ("fd/1", "stdout"),
            ("fd/2", "stderr"),
            ("pts/ptmx", "ptmx"),
        ] {
            self.link(target, &format!("dev/{name}"))?;
        }
        self.folder("dev/shm", 0o1777)?;
        self.folder("dev/pts", 0o755)?;
        let options = Some("newinstance,ptmxmode=0666,mode=0620");
        mount(Some("devpts"), &self.0.join("dev/pts"), Some("devpts"), MsFlags::MS_NOSUID, options)
            .map_err(cannot_mount("dev/pts"))
    }

    fn folder(&self, path: &str, mode: u32) -> Result<(), TreeError> {
        let full = self.0.join(path);
        fs::create_dir_all(&full)
            .and_then(|()| fs::set_permissions(&full, Permissions::from_mode(mode)))
            .map_err(cannot_make(path))
    }

    fn file(&self, path: &str, text: &str) -> Result<(), TreeError> {
        let write = || io::Write::write_all(&mut File::create_new(self.0.join(path))?, text.as_bytes());
        write().map_err(cannot_make(path))
    }

    fn link(&self, target: &str, path: &str) -> Result<(), TreeError> {
        symlink(target, self.0.join(path)).map_err(cannot_make(path))
    }

    fn bind(&self, host: &Path, path: &str) -> Result<(), TreeError> {
        let (nothing, flags): (Option<&str>, _) = (None, MsFlags::MS_BIND | MsFlags::MS_REC);
        mount(Some(host), &self.0.join(path), nothing, flags, nothing).map_err(cannot_mount(path))
    }

    fn bind_read_only(&self, host: &Path, path: &str) -> Result<(), TreeError> {
        self.bind(host, path)?;
        let full = self.0.join(path);
        let nothing: Option<&str> = None;
        let kept = statvfs(&full).map_or(MsFlags::empty(), |found| kept(found.flags()));
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | kept;
        mount(nothing, &full, nothing, flags, nothing).map_err(cannot_mount(path))
    }
}

fn cannot_make(path: &str) -> impl FnOnce(io::Error) -> TreeError + use<> {
    let path = PathBuf::from(path);
    move |source| TreeError::File { path, source }
}

fn cannot_mount(path: &str) -> impl FnOnce(nix::errno::Errno) -> TreeError + use<> {
    let path = PathBuf::from(path);
    move |source| TreeError::Mount { path, source }
}

/// The flags of a mount that a user namespace must not take away.
fn kept(flags: FsFlags) -> MsFlags {
    let pairs = [
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ];
    pairs.iter().filter(|(of, _)| flags.contains(*of)).fold(MsFlags::empty(), |all, (_, flag)| all | *flag)
}
