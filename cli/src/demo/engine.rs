//! What runs the phones: the engine that the user named, that of the machine, one of the
//! demo's own, or none: then phones are processes. It says which, and why.

use super::engine_socket::{EngineSocket, Running};
use super::house::House;
use super::own_engine;
use super::surroundings::own_program;
use super::voice::Voice;
use crate::failure::Failure;
use std::path::{Path, PathBuf};

/// Where an engine listens unless somebody says otherwise.
const USUAL: &str = "/var/run/docker.sock";

/// What runs phones.
#[derive(Clone, Debug)]
pub enum Runtime {
    /// Containers of an engine.
    Engine(EngineSocket),
    /// Processes of this machine, each this program.
    Processes(PathBuf),
}

impl Runtime {
    /// What is the same as long as nobody touched a phone: its process, and since when.
    ///
    /// # Errors
    /// An engine that does not answer.
    pub async fn running(&self, container: &str, agent_state: &Path) -> Result<Option<Running>, Failure> {
        match self {
            Self::Engine(engine) => engine.running(container).await,
            Self::Processes(_) => Ok(process_of(container, &agent_state.join("processes"))),
        }
    }

    /// Whether a phone is a container, beside being a process.
    pub const fn has_containers(&self) -> bool {
        matches!(self, Self::Engine(_))
    }
}

/// Finds what runs phones here.
///
/// # Errors
/// A `DOCKER_HOST` that cannot be used: it is never replaced. And machines where nothing can.
pub async fn find(house: &mut House, voice: &mut Voice) -> Result<Runtime, Failure> {
    if let Some(given) = std::env::var("DOCKER_HOST").ok().filter(|given| !given.is_empty()) {
        return named(&given, voice).await;
    }
    let mut why = Vec::new();
    if Path::new(USUAL).exists() {
        let usual = EngineSocket::new(Path::new(USUAL));
        match usual.version().await {
            Ok(version) => {
                voice.line(&format!("Engine: Docker {version} of this machine ({USUAL} answers)"));
                return Ok(Runtime::Engine(usual));
            }
            Err(failure) => why.push(failure.to_string()),
        }
    } else {
        why.push(format!("there is no {USUAL}"));
    }
    match own_engine::obstacle() {
        Some(obstacle) => why.push(obstacle),
        None => match own_engine::start(house, voice).await {
            Ok((engine, version)) => {
                voice.line(&format!("Engine: Docker {version}, started by the demo in its own folder"));
                reasons(voice, &why);
                return Ok(Runtime::Engine(engine));
            }
            Err(failure) => why.push(failure.to_string()),
        },
    }
    let phonesim = own_program("phonesim").map_err(|failure| {
        let why = why.join("; ");
        Failure::Failed(format!("there is no container engine ({why}), and {failure}"))
    })?;
    voice.line("Engine: none, phones are processes of this machine");
    reasons(voice, &why);
    Ok(Runtime::Processes(phonesim))
}

/// Why it is not what it could have been.
fn reasons(voice: &mut Voice, why: &[String]) {
    for reason in why {
        voice.line(&format!("  because {reason}"));
    }
}

async fn named(given: &str, voice: &mut Voice) -> Result<Runtime, Failure> {
    let hint = "unset DOCKER_HOST, and the demo looks for another or starts its own";
    let Some(path) = given.strip_prefix("unix://").filter(|path| path.starts_with('/')) else {
        return Err(Failure::Usage(format!(
            "DOCKER_HOST is {given}: an agent needs its engine's unix socket on the same machine \
             (unix:///PATH); {hint}"
        )));
    };
    let engine = EngineSocket::new(Path::new(path));
    let version = engine.version().await.map_err(|failure| {
        Failure::Unreachable(format!("DOCKER_HOST names an engine that does not answer: {failure}; {hint}"))
    })?;
    voice.line(&format!("Engine: Docker {version} (DOCKER_HOST names it: {given})"));
    Ok(Runtime::Engine(engine))
}

/// A phone that is a process: in the folder that holds its id, `init` has number and time.
fn process_of(id: &str, folder: &Path) -> Option<Running> {
    for entry in std::fs::read_dir(folder).ok()?.flatten() {
        let place = entry.path();
        let names = |file: std::fs::DirEntry| {
            let path = file.path();
            path.extension().is_some_and(|end| end == "json")
                && std::fs::read_to_string(path).is_ok_and(|text| text.contains(id))
        };
        if std::fs::read_dir(&place).ok()?.flatten().any(names) {
            let text = std::fs::read_to_string(place.join("init")).ok()?;
            let (pid, since) = text.trim().split_once(' ')?;
            let alive = Path::new("/proc").join(pid).exists();
            return alive.then_some(Running { pid: pid.parse().ok()?, since: since.to_owned() });
        }
    }
    None
}
