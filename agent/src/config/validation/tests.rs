//! What operators get wrong, and what they are told.

use super::*;
use phonefleet_settings::Loader;

fn around() -> Surroundings {
    Surroundings {
        ephemeral: Some(PortRange::new(32_768, 60_999)),
        reserved: vec![PortRange::new(40_000, 40_009)],
        docker_host: None,
    }
}

fn checked(text: &str, around: &Surroundings) -> Result<Checked, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agent.toml");
    std::fs::write(&file, text).unwrap();
    let loaded = Loader::new(crate::config::PREFIX)
        .file(Some(&file))
        .environment(vec![])
        .load::<Config>()
        .map_err(|error| error.to_string())?;
    check(&loaded, around).map_err(|error| error.to_string().replace(&*file.to_string_lossy(), "FILE"))
}

#[test]
fn a_host_id_is_all_that_is_needed() {
    let checked = checked("host_id = \"h1\"\n", &around()).unwrap();
    assert_eq!(checked.host.as_str(), "h1");
    assert_eq!(checked.engine_socket, Path::new("/var/run/docker.sock"));
    assert!(checked.warnings.is_empty());
}

#[test]
fn each_fault_names_its_key_and_line() {
    for (text, key, words) in [
        ("", "host_id (default)", "host id must be 1 to 63 of a-z, 0-9 and -"),
        ("host_id = \"H 1\"", "host_id (FILE:1)", "host id must be"),
        ("host_id = \"selftest-h1\"", "host_id (FILE:1)", "choose one without"),
        ("state_dir = \"var\"", "state_dir", "absolute"),
        ("mqtt.url = \"broker:1883\"", "mqtt.url", "mqtt://host:port"),
        ("mqtt.url = \"mqtt://u:p@h\"", "mqtt.url", "set mqtt.username"),
        ("mqtt.username = \"u\"", "mqtt.username", "set both"),
        ("mqtt.ca_file = \"/nonexistent\"", "mqtt.ca_file", "write mqtts://"),
        ("mqtt.url = \"mqtts://h\"\nmqtt.ca_file = \"/nonexistent\"", "mqtt.ca_file", "cannot be read"),
        ("runtime.kind = \"process\"", "runtime.image", "set image = \"phonesim\""),
        ("runtime = { kind = \"process\", phonesim = \"bin/x\" }", "runtime.phonesim", "absolute"),
        ("runtime.image = \"\"", "runtime.image", "image must be"),
        ("runtime.allowed_images = [\"a\", \"b c\"]", "runtime.allowed_images", "\"b c\""),
        ("runtime.docker_host = \"tcp://1.2.3.4:2375\"", "runtime.docker_host", "unix socket"),
        ("ports.adb = \"5500-5555\"", "ports.adb", "5555-5555"),
        ("ports.adb = \"30000-33000\"", "ports.adb", "32768-33000"),
        ("ports.adb = \"1000-1100\"", "ports.adb", "below 1024"),
        ("ports.webrtc = \"20999-21500\"", "ports.webrtc", "must not overlap"),
        ("ports.adb = \"30000-30100\"", "ports.adb", "local_api.listen"),
        ("capacity.cpu_cores = -1.0", "capacity.cpu_cores", "above 0"),
        ("boot.timeout_seconds = 0", "boot.timeout_seconds", "0 is not from 1 to 3600"),
        ("recording.keep_days = 0", "recording.keep_days", "0 is not from 1 to 3650"),
        ("content.listen = \"0.0.0.0:30011\"", "content.listen", "set both"),
        ("content.advertise_url = \"ftp://h\"", "content.advertise_url (FILE:1)", "http://host:port"),
        ("content.advertise_url = \"http://h/?x=1\"", "content.advertise_url (FILE:1)", "http://host:port"),
        ("content.advertise_url = \"http:///x\"", "content.advertise_url (FILE:1)", "http://host:port"),
        ("content.listen = \"0.0.0.0:20007\"", "ports.adb", "content.listen"),
        ("local_api.listen = \"0.0.0.0:30010\"", "local_api.listen", "not a loopback"),
    ] {
        let error = checked(text, &around()).unwrap_err();
        let line = error.lines().find(|line| line.contains(key)).unwrap_or_default();
        assert!(line.contains(words), "{text}: {error}");
        assert!(!error.contains(":p@"), "{error}");
    }
}

#[test]
fn values_of_the_wrong_kind_say_what_is_allowed() {
    for (text, words) in [
        ("runtime.privilege = \"all\"", "expected one of `privileged`, `reduced`, `none`"),
        ("ports.adb = \"20000\"", "such as \\\"20000-20999\\\""),
        ("ports.bind = \"localhost\"", "IP address"),
        ("boot.timeout = 3", "in [boot] there are timeout_seconds"),
    ] {
        let error = checked(text, &around()).unwrap_err();
        assert!(error.replace('"', "\\\"").contains(words), "{text}: {error}");
    }
}

#[test]
fn reserved_ports_are_no_ephemeral_ports() {
    assert!(checked("host_id = \"h\"\nports.adb = \"40000-40009\"", &around()).is_ok());
    assert!(checked("host_id = \"h\"\nports.adb = \"40000-40010\"", &around()).is_err());
    assert_eq!(reserved("8080,9000-9002\n"), [PortRange::new(8080, 8080), PortRange::new(9000, 9002)]);
    assert_eq!(reserved("\n"), []);
}

#[test]
fn a_public_bind_is_allowed_and_said_loudly() {
    let checked = checked("host_id = \"h\"\nports.bind = \"0.0.0.0\"", &around()).unwrap();
    assert!(checked.warnings[0].contains("root shell"));
}

#[test]
fn the_environment_names_the_engine_when_the_file_does_not() {
    let mut around = around();
    around.docker_host = Some("unix:///run/x.sock".into());
    assert_eq!(checked("host_id = \"h\"", &around).unwrap().engine_socket, Path::new("/run/x.sock"));
    let text = "host_id = \"h\"\nruntime.docker_host = \"unix:///y\"";
    assert_eq!(checked(text, &around).unwrap().engine_socket, Path::new("/y"));
    around.docker_host = Some("tcp://h:1".into());
    assert!(checked("host_id = \"h\"", &around).unwrap_err().contains("from DOCKER_HOST"));
    let without = "host_id = \"h\"\nruntime = { kind = \"process\", image = \"phonesim\" }";
    assert!(checked(without, &around).is_ok(), "no engine, so it does not matter");
}
