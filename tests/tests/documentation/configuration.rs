//! `docs/configuration.md` is what the code says: names, types and meanings from the structs,
//! defaults from their `Default`, bounds from the table that checks them.
//!
//! `PHONEFLEET_WRITE_DOCS=1` writes the page in place of comparing it: `make docs`.

use super::source::{self, Field};
use phonefleet_agent::config as agent;
use phonefleet_controller::config as controller;
use phonefleet_settings::Bounds;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;

const PAGE: &str = "docs/configuration.md";

/// One daemon's configuration.
struct Daemon {
    title: &'static str,
    file: &'static str,
    program: &'static str,
    prefix: &'static str,
    /// Where its structs are; `Config` is in the first.
    sources: &'static [&'static str],
    defaults: Value,
    bounds: Vec<Bounds>,
    unset: &'static [(&'static str, &'static str)],
    example: &'static str,
}

fn daemons() -> [Daemon; 2] {
    [
        Daemon {
            title: "The agent",
            file: "agent.toml",
            program: "phonefleet-agent",
            prefix: agent::PREFIX,
            sources: &["agent/src/config.rs", "agent/src/runtime/mod.rs"],
            defaults: serde_json::to_value(agent::Config::default()).expect("plain structs"),
            bounds: agent::Config::default().bounds().to_vec(),
            unset: agent::UNSET,
            example: AGENT_EXAMPLE,
        },
        Daemon {
            title: "The controller",
            file: "controller.toml",
            program: "phonefleet-controller",
            prefix: controller::PREFIX,
            sources: &["controller/src/config.rs"],
            defaults: serde_json::to_value(controller::Config::default()).expect("plain structs"),
            bounds: controller::Config::default().bounds().to_vec(),
            unset: controller::UNSET,
            example: CONTROLLER_EXAMPLE,
        },
    ]
}

const INTRODUCTION: &str = "<!-- Made from the code by `make docs`; edit the doc comments of the configuration structs. -->
# Configuration

Both daemons read a TOML file (`--config FILE`) and the environment; every key has a default, except `host_id` of an
agent. The environment wins over the file, the file over the default. A key that does not exist, or a value that
cannot work, ends the program with a line for each fault: the key, where it was set, and what is allowed.

`--print-config` shows what is in force and where each value comes from. Passwords are never shown.

A key `section.key` is `[section]` and `key = …` in the file, and `PREFIX__SECTION__KEY` in the environment:
`PHONEFLEET_AGENT__BOOT__TIMEOUT_SECONDS=90`. Lists and numbers are written as in TOML there, texts as they are.
";

const FURTHER: &str = "
## Beside the file

| variable | who reads it | meaning |
|---|---|---|
| `RUST_LOG` | both daemons | what is logged, such as `info` (the default) or `phonefleet_agent=debug,info` |
| `PHONEFLEET_LOG_FORMAT` | agent | `json`: log lines as JSON; the same as `--log-json` |
| `DOCKER_HOST` | agent | the engine's socket, if `runtime.docker_host` is not set |
| `NOTIFY_SOCKET`, `WATCHDOG_USEC` | both daemons | set by systemd for units of `Type=notify` with a watchdog |
| `PHONEFLEET_CONFIG` | `phonefleet` | its configuration file; otherwise `~/.config/phonefleet/config.toml` |
| `PHONEFLEET_CONTEXT`, `PHONEFLEET_CONTROLLER`, `PHONEFLEET_AGENT`, `PHONEFLEET_USER` | `phonefleet` | which context, controller, agent and user; see `phonefleet --help` |
";

const AGENT_EXAMPLE: &str = r#"host_id = "host-1"
[mqtt]
url = "mqtts://broker.example:8883"
ca_file = "/etc/phonefleet/ca.pem"
[runtime]
image = "redroid/redroid:14.0.0-latest"
[capacity]
max_devices = 20
"#;

const CONTROLLER_EXAMPLE: &str = r#"listen = "127.0.0.1:30002"
[mqtt]
url = "mqtts://broker.example:8883"
ca_file = "/etc/phonefleet/ca.pem"
[quota]
default_max_devices = 5
"#;

fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    for daemon in daemons() {
        let Daemon { title, file, prefix, example, program, .. } = daemon;
        let _ = write!(
            page,
            "\n## {title}: `{file}`\n\nPrefix of the environment: `{prefix}`. Program: `{program}`.\n\n```toml\n{example}```\n"
        );
        page += &daemon.tables();
    }
    page + FURTHER
}

impl Daemon {
    fn tables(&self) -> String {
        let files: Vec<_> = self.sources.iter().map(|path| source::parse(path)).collect();
        let mut documented = BTreeSet::new();
        let mut text = String::new();
        let top = source::fields(&files[0], "Config").expect("struct Config");
        let is_section = |field: &Field| self.defaults[&field.name].is_object();
        let at_top: Vec<_> = top.iter().filter(|field| !is_section(field)).cloned().collect();
        text += &self.table("", &at_top, &files, &mut documented);
        for field in top.iter().filter(|field| is_section(field)) {
            let keys = source::fields(&files[0], &field.of).unwrap_or_else(|| panic!("struct {}", field.of));
            let _ = write!(text, "\n### `[{}]`\n\n{}\n", field.name, field.documentation);
            text += &self.table(&field.name, &keys, &files, &mut documented);
        }
        let mut there = BTreeSet::new();
        for (name, value) in self.defaults.as_object().expect("a struct") {
            match value.as_object() {
                Some(section) => there.extend(section.keys().map(|key| format!("{name}.{key}"))),
                None => _ = there.insert(name.clone()),
            }
        }
        assert_eq!(documented, there, "{}: keys of the page, and keys that exist", self.file);
        text
    }

    fn table(
        &self,
        section: &str,
        fields: &[Field],
        files: &[syn::File],
        documented: &mut BTreeSet<String>,
    ) -> String {
        let mut text = "\n| key | takes | default | meaning |\n|---|---|---|---|\n".to_owned();
        for field in fields {
            let key =
                if section.is_empty() { field.name.clone() } else { format!("{section}.{}", field.name) };
            assert!(!field.documentation.is_empty(), "{key} has no doc comment");
            let value = if section.is_empty() {
                &self.defaults[&field.name]
            } else {
                &self.defaults[section][&field.name]
            };
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {} |",
                field.name,
                self.takes(&key, field, files),
                self.default(&key, value),
                field.documentation.replace('|', "\\|")
            );
            documented.insert(key);
        }
        text
    }

    fn takes(&self, key: &str, field: &Field, files: &[syn::File]) -> String {
        let one = match field.of.as_str() {
            "String" => "text".to_owned(),
            "Secret" => "text, secret".to_owned(),
            "PathBuf" => "path".to_owned(),
            "SocketAddr" => "`address:port`".to_owned(),
            "IpAddr" => "IP address".to_owned(),
            "PortRange" => "`\"first-last\"`".to_owned(),
            "bool" => "`true` or `false`".to_owned(),
            "f64" => "number".to_owned(),
            "u16" | "u32" | "u64" => self.whole_number(key),
            name => {
                let variants = files.iter().find_map(|file| source::variants(file, name));
                let variants = variants.unwrap_or_else(|| panic!("{key}: {name} is not known to this test"));
                let variant = |(name, meaning): &(String, String)| {
                    format!("`{}`: {}", name.to_lowercase(), meaning.trim_end_matches('.'))
                };
                variants.iter().map(variant).collect::<Vec<_>>().join("; ")
            }
        };
        match field.container.as_deref() {
            Some("Vec") => format!("list of {one}s"),
            None | Some("Option") => one,
            Some(other) => panic!("{key}: {other} is not known to this test"),
        }
    }

    fn whole_number(&self, key: &str) -> String {
        match self.bounds.iter().find(|bounds| bounds.key == key) {
            Some(Bounds { least, most, .. }) if *most >= 1 << 53 => format!("whole number from {least} on"),
            Some(Bounds { least, most, .. }) => format!("{least} to {most}"),
            None => "whole number from 0 on".to_owned(),
        }
    }

    fn default(&self, key: &str, value: &Value) -> String {
        match value {
            Value::Null => {
                let meaning = self.unset.iter().find(|(name, _)| *name == key);
                let (_, meaning) =
                    meaning.unwrap_or_else(|| panic!("{key}: what does its absence mean? UNSET"));
                format!("unset: {meaning}")
            }
            Value::String(text) if text.is_empty() => "none".to_owned(),
            value => format!("`{value}`"),
        }
    }
}

#[test]
fn the_reference_is_what_the_code_says() {
    let page = page();
    let path = source::repository().join(PAGE);
    if std::env::var_os("PHONEFLEET_WRITE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap_or_else(|error| panic!("{PAGE}: {error}"));
        return;
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    if there != page {
        let differs = page.lines().zip(there.lines()).find(|(new, old)| new != old);
        panic!(
            "{PAGE} is not what the code says; `make docs` writes it anew. First difference:\n{differs:#?}"
        );
    }
}

/// The examples are read by the daemons' own rules; so is every key that the page names.
#[test]
fn the_examples_are_accepted() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("agent.toml");
    // Its certificate is on no machine but the reader's.
    std::fs::write(&file, AGENT_EXAMPLE.replace("/etc/phonefleet/ca.pem", "/dev/null")).expect("a file");
    let loaded = agent::load(Some(&file)).expect("the agent's example");
    agent::validation::check(&loaded, &agent::validation::Surroundings::default()).expect("checked");
    let file = folder.path().join("controller.toml");
    std::fs::write(&file, CONTROLLER_EXAMPLE).expect("a file");
    controller::load(Some(&file)).expect("the controller's example");
}
