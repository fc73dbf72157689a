//! `shell:` and `exec:`: one command for a host, and what becomes of it when the host goes.
//!
//! As with the real one: with the shell protocol and without a terminal, the shell has pipes
//! and gets SIGHUP when its stream closes. Everything else has a terminal, a raw one where
//! the host wanted none, so that what never reads nor writes hears of the end, too.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use rustix::termios::{Winsize, tcsetwinsize};

use super::shell_packet::{self, Assembly, CLOSE_STDIN, EXIT, STDERR, STDIN, STDOUT, TooLong, WINDOW_SIZE};
use crate::adb::connection::{Channel, Closed};
use crate::adb::{session_leader, thread};

/// Output is sent in pieces of this many bytes at most.
const PIECE_BYTES: usize = 32 * 1024;

/// The shell.
const SHELL: &str = "/bin/sh";

/// What a command has as input and output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Pipes.
    Raw,
    /// A terminal.
    Terminal,
    /// A terminal that changes no byte.
    RawTerminal,
}

/// What a host asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Whether the host speaks the shell protocol.
    protocol: bool,
    kind: Kind,
    terminal_type: Option<String>,
    /// Empty: a shell to talk to.
    command: String,
}

impl Request {
    /// Reads `shell[,v2][,TERM=…][,raw|pty]:COMMAND` and `exec:COMMAND`.
    pub fn parse(service: &str) -> Option<Self> {
        if let Some(command) = service.strip_prefix("exec:") {
            let command = command.to_owned();
            return Some(Self { protocol: false, kind: Kind::RawTerminal, terminal_type: None, command });
        }
        let (options, command) = service.strip_prefix("shell")?.split_once(':')?;
        if !options.is_empty() && !options.starts_with(',') {
            return None;
        }
        let (mut protocol, mut raw, mut terminal_type) = (false, !command.is_empty(), None);
        for option in options.split(',').skip(1) {
            match option {
                "v2" => protocol = true,
                "raw" => raw = true,
                "pty" => raw = false,
                // Options of later hosts are none of ours.
                other => terminal_type = other.strip_prefix("TERM=").map(str::to_owned).or(terminal_type),
            }
        }
        let kind = match (raw, protocol) {
            (true, true) => Kind::Raw,
            (true, false) => Kind::RawTerminal,
            (false, _) => Kind::Terminal,
        };
        Some(Self { protocol, kind, terminal_type, command: command.to_owned() })
    }
}

/// Runs what was asked for, to its end or the host's.
pub fn serve(channel: &Channel, request: &Request) {
    let sender = Sender { channel: channel.clone(), protocol: request.protocol };
    let result = match request.kind {
        Kind::Raw => with_pipes(channel, &sender, request),
        Kind::Terminal => with_terminal(channel, &sender, request, false),
        Kind::RawTerminal => with_terminal(channel, &sender, request, true),
    };
    if let Err(error) = result {
        // A host that has gone does not hear it.
        let _ = sender.data(STDERR, format!("adbd: cannot run a shell: {error}\n").as_bytes());
        let _ = sender.exit(1);
    }
}

/// How output goes to the host.
#[derive(Debug, Clone)]
struct Sender {
    channel: Channel,
    protocol: bool,
}

impl Sender {
    fn data(&self, kind: u8, data: &[u8]) -> Result<(), Closed> {
        if self.protocol {
            self.channel.send(&shell_packet::packet(kind, data))
        } else {
            self.channel.send(data)
        }
    }

    fn exit(&self, status: u8) -> Result<(), Closed> {
        if self.protocol { self.channel.send(&shell_packet::packet(EXIT, &[status])) } else { Ok(()) }
    }

    /// Sends all that can be read. What the host does not want is left unread: whoever
    /// writes it then hears that nobody listens.
    fn pump(&self, mut from: impl Read, kind: u8) {
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            match from.read(&mut buffer) {
                // A terminal whose last user has gone gives an error.
                Ok(0) => return,
                Ok(length) => {
                    if self.data(kind, &buffer[..length]).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

fn with_pipes(channel: &Channel, sender: &Sender, request: &Request) -> io::Result<()> {
    let mut command = command(request, session_leader::NO_TERMINAL);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let running = Running::watch(child, channel, HangUp::Shell)?;
    if let Some(input) = input {
        let input = Input { channel: channel.clone(), protocol: request.protocol, to: To::Pipe(input) };
        thread("input", move || input.feed())?;
    }
    let sends_errors = errors.map(|errors| {
        let sender = sender.clone();
        thread("errors", move || sender.pump(errors, STDERR))
    });
    if let Some(output) = output {
        sender.pump(output, STDOUT);
    }
    if let Some(thread) = sends_errors {
        // It cannot panic; if it did, its output would be short, no more.
        let _ = thread?.join();
    }
    let _ = sender.exit(running.wait());
    Ok(())
}

fn with_terminal(channel: &Channel, sender: &Sender, request: &Request, raw: bool) -> io::Result<()> {
    let Terminal { master, slave } = Terminal::open(raw)?;
    let mut command = command(request, session_leader::TERMINAL);
    command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
    let child = command.spawn()?;
    // With it go the last copies of the slave on this side: the command's end is then seen.
    drop(command);
    let running = Running::watch(child, channel, HangUp::Session)?;
    let output = master.try_clone()?;
    let input = Input { channel: channel.clone(), protocol: request.protocol, to: To::Terminal(master) };
    thread("input", move || input.feed())?;
    sender.pump(output, STDOUT);
    let _ = sender.exit(running.wait());
    Ok(())
}

/// This very program, also where an upgrade has put another one in its place meanwhile: the
/// name that it was started by may lead nowhere then.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// The command line of a request, in a session of its own.
fn command(request: &Request, terminal: &str) -> Command {
    let mut command = Command::new(THIS_PROGRAM);
    // By name: in the phone this program is called /init.
    command.arg0(session_leader::NAME).args([terminal, SHELL]);
    if request.command.is_empty() {
        command.arg("-");
    } else {
        command.args(["-c", &request.command]);
    }
    if let Some(kind) = &request.terminal_type {
        command.env("TERM", kind);
    }
    command.envs([("HOME", "/data"), ("TMPDIR", "/data/local/tmp"), ("USER", "root"), ("SHELL", SHELL)]);
    command
}

/// Both ends of a new terminal. Neither may pass to a command that another thread starts.
struct Terminal {
    master: File,
    slave: File,
}

impl Terminal {
    fn open(raw: bool) -> io::Result<Self> {
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let slave = File::options()
            .read(true)
            .write(true)
            .custom_flags(OFlag::O_NOCTTY.bits())
            .open(ptsname_r(&master)?)?;
        if raw {
            let mut settings = tcgetattr(&slave)?;
            cfmakeraw(&mut settings);
            tcsetattr(&slave, SetArg::TCSANOW, &settings)?;
        }
        Ok(Self { master: File::from(OwnedFd::from(master)), slave })
    }
}

/// Where a command's input goes.
enum To {
    Pipe(ChildStdin),
    Terminal(File),
}

/// What the host types, on its way to the command.
struct Input {
    channel: Channel,
    protocol: bool,
    to: To,
}

impl Input {
    /// Until the host or the command has no more of it. Data that nobody reads is dropped.
    fn feed(mut self) {
        let mut assembly = Assembly::default();
        while let Some(data) = self.channel.take() {
            if !self.protocol {
                if self.write(&data).is_err() {
                    return self.drain();
                }
                continue;
            }
            assembly.push(&data);
            loop {
                match assembly.next() {
                    Ok(Some((STDIN, data))) => {
                        if self.write(&data).is_err() {
                            return self.drain();
                        }
                    }
                    // A terminal has no end that could be closed alone.
                    Ok(Some((CLOSE_STDIN, _))) if matches!(self.to, To::Pipe(_)) => return self.drain(),
                    Ok(Some((WINDOW_SIZE, data))) => self.resize(&data),
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(TooLong) => return self.channel.close(),
                }
            }
        }
    }

    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        match &mut self.to {
            To::Pipe(pipe) => pipe.write_all(data),
            To::Terminal(terminal) => terminal.write_all(data),
        }
    }

    fn resize(&self, text: &[u8]) {
        if let To::Terminal(terminal) = &self.to
            && let Some((ws_row, ws_col)) = shell_packet::window_size(text)
        {
            // A terminal that is gone needs no size.
            let _ = tcsetwinsize(terminal, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 });
        }
    }

    /// Closes the command's input; the host is still to be listened to, or it would wait.
    fn drain(self) {
        let Self { channel, to, .. } = self;
        drop(to);
        while channel.take().is_some() {}
    }
}

/// Who gets SIGHUP when the host goes.
#[derive(Clone, Copy)]
enum HangUp {
    /// The shell alone: what it started hears of it by its pipes.
    Shell,
    /// Everything in the shell's own group, as when a line drops.
    Session,
}

/// A command that runs, and is hung up on when its stream closes.
struct Running {
    child: Child,
    /// Once it is `true` the number may be another process's.
    reaped: Arc<Mutex<bool>>,
}

impl Running {
    fn watch(child: Child, channel: &Channel, hang_up: HangUp) -> io::Result<Self> {
        let pid = Pid::from_raw(child.id() as i32);
        let reaped = Arc::new(Mutex::new(false));
        let (own, seen) = (channel.clone(), Arc::clone(&reaped));
        thread("hang-up", move || {
            own.wait_for_close();
            let reaped = seen.lock().unwrap_or_else(PoisonError::into_inner);
            if !*reaped {
                // It may be dead and not yet reaped: then there is nothing to do.
                let _ = match hang_up {
                    HangUp::Shell => kill(pid, Signal::SIGHUP),
                    HangUp::Session => killpg(pid, Signal::SIGHUP),
                };
            }
        })?;
        Ok(Self { child, reaped })
    }

    /// Waits for its end; its exit status, 128 and the signal for one that was killed.
    fn wait(mut self) -> u8 {
        let pid = Pid::from_raw(self.child.id() as i32);
        while waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(Errno::EINTR) {}
        let mut reaped = self.reaped.lock().unwrap_or_else(PoisonError::into_inner);
        *reaped = true;
        let status = self.child.wait();
        drop(reaped);
        status.map_or(1, |status| {
            let signal = || status.signal().map(|signal| 128 + signal);
            status.code().or_else(signal).and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_old_and_new_are_understood() {
        let request = |protocol, kind, terminal: Option<&str>, command: &str| {
            let (terminal_type, command) = (terminal.map(str::to_owned), command.to_owned());
            Some(Request { protocol, kind, terminal_type, command })
        };
        for (service, expected) in [
            ("shell,v2,TERM=xterm,raw:ls a:b", request(true, Kind::Raw, Some("xterm"), "ls a:b")),
            ("shell,v2,raw:x", request(true, Kind::Raw, None, "x")),
            ("shell,v2,TERM=xterm,pty:", request(true, Kind::Terminal, Some("xterm"), "")),
            ("shell,v2,new:x", request(true, Kind::Raw, None, "x")),
            ("shell:", request(false, Kind::Terminal, None, "")),
            ("shell:x", request(false, Kind::RawTerminal, None, "x")),
            ("exec:a 'b'", request(false, Kind::RawTerminal, None, "a 'b'")),
            ("shellfish:x", None),
            ("shell", None),
        ] {
            assert_eq!(Request::parse(service), expected, "{service}");
        }
    }
}
