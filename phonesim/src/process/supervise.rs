//! `supervise`: the parent of one phone. It says one line on standard output, then nothing:
//!
//! | line | |
//! |---|---|
//! | `started` | the phone runs, its port is held |
//! | `running` | another supervisor has this phone already; this one ends |
//! | `port-taken WORDS` | somebody else has the port |
//! | `refused WORDS` | it cannot run here |
//!
//! It belongs to a session of its own, so that the end of the agent is none of its business.
//! When the phone ends it writes down how and ends, too. When it is killed the kernel kills
//! the phone with it. Standard error is the phone's console.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{dup2_stdout, getegid, geteuid, setsid};

use super::{Arguments, enter};
use crate::console;
use crate::root::Root;

/// The name of this applet.
pub const NAME: &str = "supervise";

/// Why there is no phone.
#[derive(Debug, thiserror::Error)]
enum SuperviseError {
    #[error("running")]
    Running,
    #[error("port-taken {0}")]
    PortTaken(io::Error),
    #[error("refused cannot listen on {address}: {source}")]
    Listen { address: String, source: io::Error },
    #[error("refused {what}: {source}")]
    Files { what: String, source: io::Error },
    #[error(
        "refused this machine lets no namespaces be made ({0}): run the agent as root with \
         CAP_SYS_ADMIN (systemd: drop-in process.conf), or allow user namespaces \
         (sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces)"
    )]
    Namespaces(Errno),
    #[error("refused {0}")]
    Enter(String),
}

/// Runs the phone to its end.
pub fn run(_root: &Root, arguments: &[String]) -> ExitCode {
    let arguments = match Arguments::parse(arguments) {
        Ok(arguments) => arguments,
        Err(fault) => {
            console::line(format_args!("refused {fault}; usage: {NAME} {}", Arguments::USAGE));
            return ExitCode::FAILURE;
        }
    };
    // It fails for the leader of a group, which a test may have made of it: as good.
    let _ = setsid();
    match start(&arguments) {
        Ok((lock, child)) => {
            console::line(format_args!("started"));
            forget_agent();
            let ended = stay(&arguments.folder, child);
            // Whoever sees the lock free also sees how it ended.
            drop(lock);
            ended
        }
        Err(error) => {
            console::line(format_args!("{error}"));
            if matches!(error, SuperviseError::Running) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
    }
}

fn start(arguments: &Arguments) -> Result<(File, Child), SuperviseError> {
    let folder = &arguments.folder;
    let lock = lock(&folder.join("lock"))?;
    let listener = TcpListener::bind(&arguments.listen).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => SuperviseError::PortTaken(source),
        _ => SuperviseError::Listen { address: arguments.listen.clone(), source },
    })?;
    own_namespace()?;
    let mut child = spawn(arguments, listener)?;
    // Closed without a word when PID 1 becomes the phone's init.
    let mut words = String::new();
    let heard = child.stdout.take().map(|mut pipe| pipe.read_to_string(&mut words));
    if let Some(Err(error)) = heard {
        words = error.to_string();
    }
    if !words.is_empty() {
        let _ = child.kill();
        let _ = child.wait();
        return Err(SuperviseError::Enter(words.trim().to_owned()));
    }
    match note_start(folder, child.id()) {
        Ok(()) => Ok((lock, child)),
        Err(source) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(SuperviseError::Files { what: format!("cannot write to {}", folder.display()), source })
        }
    }
}

/// Takes the phone for this process. The lock goes with the process, however it ends, and
/// does not pass to its children.
fn lock(path: &Path) -> Result<File, SuperviseError> {
    let opened = File::options().write(true).create(true).truncate(false).open(path);
    let file = opened.map_err(|source| SuperviseError::Files {
        what: format!("cannot open {}", path.display()),
        source,
    })?;
    let whole = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    match fcntl(&file, FcntlArg::F_SETLK(&whole)) {
        Ok(_) => Ok(file),
        Err(Errno::EACCES | Errno::EAGAIN) => Err(SuperviseError::Running),
        Err(error) => Err(SuperviseError::Files {
            what: format!("cannot lock {}", path.display()),
            source: error.into(),
        }),
    }
}

/// The next child will be PID 1 of a namespace. Without the right to that, a user namespace
/// gives it: there one is root, and nobody else.
fn own_namespace() -> Result<(), SuperviseError> {
    let (user, group) = (geteuid(), getegid());
    match unshare(CloneFlags::CLONE_NEWPID) {
        Ok(()) => return Ok(()),
        Err(Errno::EPERM) => {}
        Err(error) => return Err(SuperviseError::Namespaces(error)),
    }
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID).map_err(SuperviseError::Namespaces)?;
    for (file, text) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {user} 1")),
        ("gid_map", format!("0 {group} 1")),
    ] {
        let path = Path::new("/proc/self").join(file);
        fs::write(&path, text).map_err(|source| SuperviseError::Files {
            what: format!("cannot write {}", path.display()),
            source,
        })?;
    }
    Ok(())
}

fn spawn(arguments: &Arguments, listener: TcpListener) -> Result<Child, SuperviseError> {
    let cannot = |source| SuperviseError::Files { what: "cannot start phonesim".to_owned(), source };
    let program = std::env::current_exe().map_err(cannot)?;
    Command::new(program)
        .arg(enter::NAME)
        .args(arguments.to_words())
        .env_clear()
        // As from an inetd: adbd finds its socket there.
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(Stdio::piped())
        .spawn()
        .map_err(cannot)
}

/// From here on the phone counts as started.
fn note_start(folder: &Path, pid: u32) -> io::Result<()> {
    let start_time = start_time(pid).ok_or_else(|| io::Error::other("the phone is gone already"))?;
    match fs::remove_file(folder.join("ended")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    write(&folder.join("init"), &format!("{pid} {start_time}\n"))
}

/// Field 22 of `stat`; the name in the second may hold anything, the last bracket ends it.
/// A zombie has it, too.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Nobody reads what is said from now on; a pipe would keep the agent waiting for its end.
fn forget_agent() {
    if let Ok(nothing) = File::options().write(true).open("/dev/null") {
        let _ = dup2_stdout(nothing);
    }
}

fn stay(folder: &Path, mut child: Child) -> ExitCode {
    let code = match child.wait() {
        Ok(status) => status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(255),
        Err(error) => {
            console::error(format_args!("supervise: cannot wait for the phone: {error}"));
            255
        }
    };
    console::error(format_args!("supervise: the phone ended with {code}"));
    match write(&folder.join("ended"), &format!("{code}\n")) {
        Ok(()) => ExitCode::SUCCESS,
        // The agent takes a phone without a note for one that was killed.
        Err(error) => {
            console::error(format_args!("supervise: that cannot be written down: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Writes a file whole: a reader sees the old one or the new one.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = File::create(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(draft, path)
}
