//! The image that phones are made of: a real Redroid where engine and kernel have what it
//! needs, and otherwise the simulated phone, built when it is missing.

use super::child::{Child, last_lines};
use super::engine::Runtime;
use super::engine_socket::EngineSocket;
use super::house::{House, Part};
use super::surroundings::{image_script, needed};
use super::voice::Voice;
use crate::failure::Failure;
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// The simulated phone.
const PHONESIM: &str = "phonefleet/phonesim:dev";
/// How the names of Redroid images begin.
const REDROID: &str = "redroid/redroid:";
/// How often the progress of a build is shown.
const TICK: Duration = Duration::from_millis(200);

/// What phones are made of.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its name.
    pub name: String,
    /// `[runtime] privilege`.
    pub privilege: &'static str,
    /// What each phone is given: processors, and memory in MiB.
    pub cpu: f64,
    /// Memory of each phone, MiB.
    pub memory: u64,
}

/// Finds or builds it.
///
/// # Errors
/// An image that is missing and cannot be built.
pub async fn find(runtime: &Runtime, house: &mut House, voice: &mut Voice) -> Result<Image, Failure> {
    let simulated = |name: &str| Image { name: name.to_owned(), privilege: "none", cpu: 0.2, memory: 128 };
    let Runtime::Engine(engine) = runtime else {
        voice.line("Phones: simulated (phonesim), as an Android image needs an engine");
        return Ok(simulated("phonesim"));
    };
    let binder = has_binder();
    let android = engine.images(REDROID).await?.pop();
    if let (true, Some(name)) = (binder, &android) {
        voice.line(&format!("Phones: Android ({name}; the kernel has binder)"));
        return Ok(Image { name: name.clone(), privilege: "privileged", cpu: 2.0, memory: 2048 });
    }
    let why = match (binder, android) {
        (false, Some(_)) => "this kernel has no binder, which Android needs",
        (true, None) => "the engine has no image redroid/redroid",
        _ => "Android needs an image redroid/redroid and a kernel with binder",
    };
    voice.line(&format!("Phones: simulated ({PHONESIM}: {why})"));
    if !engine.images(PHONESIM).await?.iter().any(|name| name == PHONESIM) {
        build(engine, house, voice).await?;
    }
    Ok(simulated(PHONESIM))
}

fn has_binder() -> bool {
    let devices = ["/dev/binder", "/dev/binderfs/binder"];
    let filesystem = || std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    devices.iter().any(|path| Path::new(path).exists())
        || filesystem().lines().any(|line| line.trim_start_matches("nodev").trim() == "binder")
}

async fn build(engine: &EngineSocket, house: &mut House, voice: &mut Voice) -> Result<(), Failure> {
    let script = image_script().ok_or_else(|| {
        Failure::Failed(format!(
            "the engine has no image {PHONESIM}, and it can only be built in the project's repository: \
             run this there, or load the image (phonesim/image/build)"
        ))
    })?;
    needed("docker", "docker.io")?;
    needed("jq", "jq")?;
    let began = Instant::now();
    let folder = house.folder().to_owned();
    let variables = [("DOCKER_HOST", engine.url().into()), ("TMPDIR", folder.clone().into_os_string())];
    house.add(Part::Builder, Child::start("image-build", &[script.into_os_string()], &variables, &folder)?);
    let log = folder.join("image-build.log");
    let ended = loop {
        let Some(child) = house.child(Part::Builder) else {
            return Err(Failure::Failed("the build of the image is gone".to_owned()));
        };
        if let Ok(ended) = timeout(TICK, child.wait()).await {
            break ended?;
        }
        voice.live(&format!(
            "the image is built, {} s: {}",
            began.elapsed().as_secs(),
            last_lines(&log, 1).trim()
        ));
    };
    house.remove(Part::Builder).await;
    if !ended.success() {
        return Err(Failure::Failed(format!(
            "the image cannot be built ({ended}):\n{}",
            last_lines(&log, 8)
        )));
    }
    voice.line(&format!("  built or taken from the cache in {:.1} s", began.elapsed().as_secs_f64()));
    if !house.own_engine {
        voice.line(&format!(
            "  it stays in the engine for the next demo; docker image rm {PHONESIM} removes it"
        ));
    }
    Ok(())
}
