//! What reads bytes of others, as functions from bytes. They panic where a promise is broken.

use crate::saga_kit::World;
use phonefleet_agent::adb::client::Client;
use phonefleet_agent::adb::{Adb, AdbError};
use phonefleet_agent::config::validation::Surroundings;
use phonefleet_agent::recording::mp4::Check;
use phonefleet_agent::recording::script;
use phonefleet_agent::runtime::Privilege;
use phonefleet_agent::runtime::redroid::{self, ContainerSettings};
use phonefleet_controller::api::body::{parse, parse_optional};
use phonefleet_controller::api::devices::NewDeviceBody;
use phonefleet_controller::api::devices_batch::BatchBody;
use phonefleet_controller::api::problem::Code;
use phonefleet_controller::api::quotas::QuotaBody;
use phonefleet_controller::api::recordings::NewRecordingBody;
use phonefleet_protocol::byte_range;
use phonefleet_protocol::command::Command;
use phonefleet_protocol::desired::{DesiredDevice, Wish};
use phonefleet_protocol::event::Event;
use phonefleet_protocol::facts::Ports;
use phonefleet_protocol::id::DeviceId;
use phonefleet_protocol::item::{Decoded, Item};
use phonefleet_protocol::limits;
use phonefleet_protocol::recording::RecordingSpec;
use phonefleet_protocol::spec::DeviceSpec;
use phonefleet_protocol::stream::message::Message;
use phonefleet_settings::Loader;
use serde_json::value::RawValue;
use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

/// A message of the broker. What can be read can be written, and then reads the same.
pub fn frame(bytes: &[u8]) {
    let Ok(message) = Message::decode(bytes) else { return };
    if let Message::Frame(frame) = &message {
        assert!(frame.first > 0 && frame.items.len() <= limits::FRAME_ITEMS);
        assert!(frame.last() >= frame.first - 1);
    }
    let written = message.encode().expect("what was read can be written");
    // A hello that came with less white space than it goes out with may be too long now.
    let Ok(again) = Message::decode(&written) else {
        assert!(written.len() > limits::HELLO_BYTES, "not read again: {}", String::from_utf8_lossy(&written));
        return;
    };
    assert_eq!(again.encode().expect("the same"), written);
}

/// An item of a stream, known or not, read as `T`: what is read is written and read the same.
fn item<T: Item + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> Option<(T, Box<RawValue>)> {
    let raw: Box<RawValue> = serde_json::from_slice(bytes).ok()?;
    match T::decode(&raw) {
        Ok(Decoded::Known(item)) => {
            // Escapes that were not needed, and defaults that were left out, change its size.
            if let Ok(written) = item.encode() {
                match T::decode(&written) {
                    Ok(Decoded::Known(again)) => assert_eq!(again, item, "it reads differently"),
                    other => panic!("{written} is not read again: {other:?}"),
                }
            }
            Some((item, raw))
        }
        Ok(Decoded::Unknown { kind }) => {
            assert!(!T::KINDS.contains(&kind.as_str()) && kind.chars().count() <= limits::TEXT_CHARACTERS);
            None
        }
        Err(_) => None,
    }
}

/// An item from a controller; what it asks for can be built, or is refused for its fields.
pub fn command(bytes: &[u8]) {
    let Some((command, _)) = item::<Command>(bytes) else { return };
    match command {
        Command::Desire(desired) => build(&desired),
        Command::SnapshotDevices { devices } => {
            for desired in devices {
                build(&desired);
            }
        }
        Command::Record(desired) => record(&desired.spec),
        Command::SnapshotRecordings { recordings } => {
            for desired in recordings {
                record(&desired.spec);
            }
        }
        Command::SnapshotBegin {} | Command::SnapshotEnd {} => {}
    }
}

fn record(spec: &RecordingSpec) {
    let faults = spec.faults();
    assert!(faults.iter().all(|fault| fault.pointer.starts_with('/')));
    let _ = spec.expected_bytes(); // of any spec: it is asked before the faults are looked at
}

/// What a container is made of says what the order said, one argument for each.
fn build(desired: &DesiredDevice) {
    let device = desired.device_id;
    let Some(spec) = desired.spec.as_ref().filter(|spec| spec.faults().is_empty()) else { return };
    let settings = ContainerSettings {
        host: "host".parse().expect("a host id"),
        default_image: "phonefleet/phonesim:dev".to_owned(),
        privilege: Privilege::None,
        bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    let ports = Ports { adb: 20_000, webrtc: 21_000 };
    let built = redroid::container_spec(&settings, device, 1, spec, ports, Path::new("/data/of-it"));
    let serial = format!("androidboot.serialno={}", redroid::serial(device));
    assert!(built.command.contains(&serial), "{:?}", built.command);
    let again = built.command.iter().filter(|argument| argument.starts_with("androidboot.serialno=")).count();
    assert_eq!(again, 1, "an order gave itself another phone's serial: {:?}", built.command);
    assert!(!built.command.iter().any(|argument| argument.contains('\0')), "{:?}", built.command);
}

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// An item from a host. A controller with a phone and a recording applies it; the database
/// takes what the types let through.
pub fn event(bytes: &[u8]) {
    let Some((_, raw)) = item::<Event>(bytes) else { return };
    WORLD.with_borrow_mut(|world| {
        let world = world.get_or_insert_with(|| {
            let mut world = World::new();
            let device = world.create("phone").device.device_id;
            world.settle();
            world.record(device);
            world.settle();
            world
        });
        world.offer(&raw);
    });
}

/// A body of a call. What is refused is refused with the place of it.
pub fn api_body(bytes: &[u8]) {
    let refusals = [
        parse::<NewDeviceBody>(bytes, Code::InvalidSpec).err(),
        parse::<BatchBody>(bytes, Code::InvalidBody).err(),
        parse::<QuotaBody>(bytes, Code::InvalidBody).err(),
        parse_optional::<NewRecordingBody>(bytes).err(),
    ];
    for refusal in refusals.into_iter().flatten() {
        assert!(serde_json::to_string(&refusal.document()).is_ok());
    }
    if let Ok(spec) = serde_json::from_slice::<DeviceSpec>(bytes) {
        build(&DesiredDevice {
            device_id: DeviceId(uuid::Uuid::nil()),
            generation: 1,
            attempt: 1,
            question: None,
            wish: Wish::Running,
            spec: Some(spec),
            boot_count: 0,
            data_epoch: 0,
        });
    }
}

/// A `Range` header, of files of several lengths.
pub fn byte_range(bytes: &[u8]) {
    let Ok(header) = std::str::from_utf8(bytes) else { return };
    for length in [0, 1, 10, u64::MAX] {
        match byte_range::asked(header, length) {
            byte_range::Asked::Part(part) => {
                assert!(part.start < part.end && part.end <= length, "{header} of {length}: {part:?}");
            }
            byte_range::Asked::Whole | byte_range::Asked::Beyond => {}
        }
    }
}

thread_local! {
    static FOLDER: tempfile::TempDir = tempfile::tempdir().expect("a temporary folder");
}

fn config_file<T>(bytes: &[u8], read: impl FnOnce(&Path) -> T) -> T {
    FOLDER.with(|folder| {
        let path = folder.path().join("config.toml");
        std::fs::write(&path, bytes).expect("the temporary folder can be written");
        read(&path)
    })
}

/// An agent's configuration file.
pub fn agent_config(bytes: &[u8]) {
    config_file(bytes, |path| {
        let loader = Loader::new("FUZZ").file(Some(path)).environment(Vec::new());
        match loader.load::<phonefleet_agent::config::Config>() {
            Ok(loaded) => {
                assert!(!loaded.print(&[]).is_empty());
                let surroundings = Surroundings::default();
                if phonefleet_agent::config::validation::check(&loaded, &surroundings).is_ok() {
                    let ports = loaded.value.port_settings(&surroundings);
                    assert!(!ports.adb.is_empty() && !ports.webrtc.is_empty(), "{ports:?}");
                    let _ = (loaded.value.recording_settings(), loaded.value.protocol_capacity());
                }
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    });
}

/// A controller's configuration file.
pub fn controller_config(bytes: &[u8]) {
    config_file(bytes, |path| match phonefleet_controller::config::load(Some(path)) {
        Ok(loaded) => {
            assert!(!loaded.print(&[]).is_empty());
            let _ = loaded.value.saga.deadlines();
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    });
}

/// A file that a phone's recorder left. The check asks for bytes of the file only, few at a
/// time, and comes to an end.
pub fn mp4(bytes: &[u8]) {
    let length = bytes.len() as u64;
    let mut check = Check::new(length);
    for _ in 0..5000 {
        match check.wants() {
            Ok(range) => {
                assert!(
                    !range.is_empty() && range.end - range.start <= 64 && range.end <= length,
                    "{range:?}"
                );
                check.give(&bytes[range.start as usize..range.end as usize]);
            }
            Err(Ok(movie)) => {
                assert!(movie.duration_ms > 0);
                return;
            }
            Err(Err(flaw)) => {
                assert!(!flaw.code().is_empty());
                return;
            }
        }
    }
    panic!("the check never ends");
}

struct AdbServer {
    runtime: tokio::runtime::Runtime,
    listener: UnixListener,
    client: Client,
    _folder: tempfile::TempDir,
}

thread_local! {
    static ADB_SERVER: AdbServer = {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = folder.path().join("adb");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let listener = {
            let _inside = runtime.enter();
            UnixListener::bind(&socket).expect("a socket")
        };
        AdbServer { client: Client::new(&socket), runtime, listener, _folder: folder }
    };
}

/// What an adb server, or a phone through it, says. The first byte chooses the question; the
/// rest is the answer, after which the connection ends.
pub fn adb_answer(bytes: &[u8]) {
    let Some((question, answer)) = bytes.split_first() else { return };
    ADB_SERVER.with(|server| {
        let began = Instant::now();
        server.runtime.block_on(async {
            let speak = async {
                loop {
                    let Ok((mut stream, _)) = server.listener.accept().await else { return };
                    let _ = stream.write_all(answer).await;
                    let _ = stream.shutdown().await;
                    // Until the client has what it wants: a reset would drop what it has not read.
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                }
            };
            tokio::select! {
                () = speak => {}
                () = ask(&server.client, *question) => {}
            }
        });
        assert!(began.elapsed() < Duration::from_secs(8), "an answer that ended was waited for");
    });
}

async fn ask(client: &Client, question: u8) {
    let address = SocketAddr::from(([127, 0, 0, 1], 20_000));
    let soon = Duration::from_secs(5);
    let shown = |error: AdbError| assert!(!error.to_string().is_empty());
    match question % 5 {
        0 => _ = client.version(soon).await.map_err(shown),
        1 => _ = client.state(address).await.map_err(shown),
        2 => match client.shell(address, "true", soon).await {
            Ok(output) => assert!(output.stdout.chars().count() <= 64 * 1024),
            Err(error) => shown(error),
        },
        3 => {
            let file = tokio::fs::File::from_std(tempfile::tempfile().expect("a temporary file"));
            match client.pull(address, "/data/video.mp4", file, 1000, soon).await {
                Ok(Some(bytes)) => assert!(bytes <= 1000),
                Ok(None) => {}
                Err(error) => shown(error),
            }
        }
        _ => _ = client.disconnect(address).await.map_err(shown),
    }
}

/// What a phone's shell printed.
pub fn phone_answer(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let script::Answer::Told(lines) = script::answer(&text) {
        let _ = script::sighting(&lines);
        let _ = script::leftovers(&lines);
    }
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let _ = script::sighting(&lines);
    for leftover in script::leftovers(&lines) {
        // What is read here is put into a command again.
        let serial = "0123456789abcdef";
        let end = leftover.process.map(|process| script::end(serial, process));
        for command in end.into_iter().chain([script::remove(serial, leftover.recording)]) {
            assert!(!command.contains('\n') || !text.contains(&command), "{command}");
        }
    }
}
