//! What a daemon's operator meets: layers, origins, and errors that name the key.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use phonefleet_settings::{Loader, Origin, Secret, SettingsError};
use serde::{Deserialize, Serialize};

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    host_id: String,
    mqtt: Mqtt,
    limits: Limits,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Mqtt {
    url: String,
    password: Option<Secret>,
    images: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Limits {
    devices: Option<u16>,
    ratio: f64,
    kind: Kind,
}

impl Default for Limits {
    fn default() -> Self {
        Self { devices: None, ratio: 0.5, kind: Kind::Docker }
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Docker,
    Process,
}

struct Case {
    folder: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

impl Case {
    fn new(text: &str, environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.toml"), text).unwrap();
        let environment =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { folder, environment }
    }

    fn load(&self) -> Result<phonefleet_settings::Loaded<Settings>, SettingsError> {
        Loader::new("TEST")
            .file(Some(&self.folder.path().join("a.toml")))
            .environment(self.environment.clone())
            .alias("OLD_RATIO", "limits.ratio")
            .load()
    }

    fn faults(&self) -> String {
        let text = self.load().unwrap_err().to_string();
        text.replace(&self.folder.path().display().to_string(), "DIR")
    }
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_defaults() {
    let case = Case::new(
        "host_id = \"a\"\n\n[mqtt]\nurl = \"mqtt://file\"\nimages = [\"x\"]\n[limits]\ndevices = 3\n",
        &[
            ("TEST__HOST_ID", "007"),
            ("TEST__LIMITS__DEVICES", "9"),
            ("TEST__MQTT__IMAGES", "[\"y\", \"z\"]"),
            ("TEST__LIMITS__KIND", "process"),
            ("TEST_OTHER", "not ours"),
            ("HOME", "/"),
        ],
    );
    let loaded = case.load().unwrap();
    assert_eq!(loaded.value.host_id, "007");
    assert_eq!(loaded.value.mqtt.url, "mqtt://file");
    assert_eq!(loaded.value.mqtt.images, ["y", "z"]);
    assert_eq!(loaded.value.limits.devices, Some(9));
    assert_eq!(loaded.value.limits.kind, Kind::Process);
    assert_eq!(loaded.origin("mqtt.url"), Origin::File(case.folder.path().join("a.toml"), 4));
    assert_eq!(loaded.origin("host_id"), Origin::Environment("TEST__HOST_ID".into()));
    assert_eq!(loaded.origin("limits.ratio"), Origin::Default);
}

#[test]
fn an_alias_is_taken_and_the_proper_name_wins() {
    let loaded = Case::new("", &[("OLD_RATIO", "0.25")]).load().unwrap();
    assert!((loaded.value.limits.ratio - 0.25).abs() < 1e-9);
    let loaded = Case::new("", &[("TEST__LIMITS__RATIO", "2.5"), ("OLD_RATIO", "0.25")]).load().unwrap();
    assert!((loaded.value.limits.ratio - 2.5).abs() < 1e-9);
    assert_eq!(loaded.origin("limits.ratio"), Origin::Environment("TEST__LIMITS__RATIO".into()));
}

#[test]
fn every_fault_names_its_key_its_place_and_what_is_allowed() {
    let case = Case::new(
        "hostid = \"a\"\n[mqtt]\nurl = 5\nuser = \"x\"\n[limits]\nkind = \"dockr\"\ndevices = 70000\n[limit]\na = 1\n",
        &[("TEST__LIMITS__RATIO", "much"), ("TEST__MQTT__URI", "x"), ("TEST__MQTT", "x")],
    );
    assert_eq!(
        case.faults(),
        "the configuration cannot be used:\n  \
         hostid (DIR/a.toml:1): unknown key; at the top there are host_id, limits, mqtt\n  \
         limit (DIR/a.toml:8): unknown key; at the top there are host_id, limits, mqtt\n  \
         mqtt.user (DIR/a.toml:4): unknown key; in [mqtt] there are images, password, url\n  \
         mqtt (environment variable TEST__MQTT): unknown key; at the top there are host_id, limits, mqtt\n  \
         mqtt.uri (environment variable TEST__MQTT__URI): unknown key; in [mqtt] there are images, password, url\n  \
         limits.devices (DIR/a.toml:7): invalid value: integer `70000`, expected u16\n  \
         limits.kind (DIR/a.toml:6): unknown variant `dockr`, expected `docker` or `process`\n  \
         mqtt.url (DIR/a.toml:3): invalid type: integer `5`, expected a string\n  \
         limits.ratio (environment variable TEST__LIMITS__RATIO): invalid type: string \"much\", expected f64"
    );
}

#[test]
fn a_section_and_a_key_are_not_confused() {
    let faults = Case::new("mqtt = 3\n[host_id]\nx = 1\n", &[]).faults();
    assert!(faults.contains("mqtt (DIR/a.toml:1): this is a section: write [mqtt]"), "{faults}");
    assert!(faults.contains("host_id (DIR/a.toml:2): invalid type: map, expected a string"), "{faults}");
}

#[test]
fn a_file_that_is_missing_or_broken_is_said_so_without_its_content() {
    let missing = Loader::new("TEST")
        .file(Some("/nonexistent/a.toml".as_ref()))
        .environment(vec![])
        .load::<Settings>()
        .unwrap_err();
    assert!(missing.to_string().contains("(/nonexistent/a.toml:1): the file cannot be read: No such file"));
    let faults = Case::new("[mqtt]\nurl = \"x\"\npassword = \"hunter2\n", &[]).faults();
    assert!(faults.contains("(DIR/a.toml:3): this is not TOML"), "{faults}");
    assert!(!faults.contains("hunter2"), "{faults}");
}

#[test]
fn secrets_are_used_and_never_shown() {
    let case = Case::new("", &[("TEST__MQTT__PASSWORD", "12345")]);
    let loaded = case.load().unwrap();
    assert_eq!(loaded.value.mqtt.password.as_ref().unwrap().reveal(), "12345");
    let shown = format!("{:?} {}", loaded.value, loaded.print(&[]));
    assert!(shown.contains("********") && !shown.contains("12345"), "{shown}");
    let faults = Case::new("mqtt.password = 98765\n", &[]).faults();
    assert!(faults.contains("mqtt.password (DIR/a.toml:1): a secret is a text in quotes"), "{faults}");
    assert!(!faults.contains("98765"), "{faults}");
}

#[test]
fn what_is_printed_has_every_key_and_can_be_read_again() {
    let case = Case::new("host_id = \"a b\"\n[mqtt]\nimages = [\"x\"]\n", &[("TEST__LIMITS__RATIO", "1")]);
    let text = case.load().unwrap().print(&[("limits.devices", "unlimited")]);
    let text = text.replace(&case.folder.path().display().to_string(), "DIR");
    let squeezed: Vec<String> =
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        squeezed,
        [
            "host_id = \"a b\" # DIR/a.toml:1",
            "# limits.devices is unset: unlimited # default",
            "limits.kind = \"docker\" # default",
            "limits.ratio = 1.0 # environment variable TEST__LIMITS__RATIO",
            "mqtt.images = [\"x\"] # DIR/a.toml:3",
            "# mqtt.password is unset # default",
            "mqtt.url = \"\" # default",
        ]
    );
    assert!(Case::new(&text, &[]).load().is_ok());
}

#[test]
fn a_fault_found_later_carries_the_origin() {
    let case = Case::new("", &[("TEST__LIMITS__DEVICES", "0")]);
    let fault = case.load().unwrap().fault("limits.devices", "must be at least 1");
    assert_eq!(
        fault.to_string(),
        "limits.devices (environment variable TEST__LIMITS__DEVICES): must be at least 1"
    );
}
