//! Which controller is asked, and for whom: flags before the environment, the environment
//! before the context of the file, the file before what is usual.
//!
//! The file is `$XDG_CONFIG_HOME/phonefleet/config.toml`, usually
//! `~/.config/phonefleet/config.toml`; `PHONEFLEET_CONFIG` names another:
//!
//! ```toml
//! current_context = "local"
//!
//! [contexts.local]
//! controller = "http://127.0.0.1:30002"
//! user = "alice"
//! ```

use crate::client::address::Address;
use crate::failure::Failure;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Where a controller listens unless its configuration says otherwise.
const USUAL_CONTROLLER: &str = "http://127.0.0.1:30002";
/// Where an agent's local API listens unless its configuration says otherwise.
const USUAL_AGENT: &str = "http://127.0.0.1:30010";
/// Said at the top of the file, because it is true.
const HEADER: &str = "# Written by `phonefleet config`, which does not keep comments.\n\n";

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    /// The context in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_context: Option<String>,
    /// Every context.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub contexts: BTreeMap<String, Context>,
}

/// A controller, and whoever asks it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Context {
    /// The controller's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controller: Option<String>,
    /// Whose devices are meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The address of the local API of this machine's agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An argument.
    Flag(&'static str),
    /// An environment variable.
    Environment(&'static str),
    /// A context of the file.
    Context(String),
    /// The file itself.
    File,
    /// Nobody set it.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Environment(name) => out.write_str(name),
            Self::Context(name) => write!(out, "context {name}"),
            Self::File => out.write_str("the file"),
            Self::Default => out.write_str("default"),
        }
    }
}

/// A value, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set<T> {
    /// The value.
    pub value: T,
    /// Who set it.
    pub origin: Origin,
}

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--controller`
    pub controller: Option<String>,
    /// `--user`
    pub user: Option<String>,
    /// `--agent`
    pub agent: Option<String>,
    /// `--context`
    pub context: Option<String>,
}

/// What is in force.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// The file that was read, or would be.
    pub path: PathBuf,
    /// The context in use.
    pub context: Option<Set<String>>,
    /// The controller.
    pub controller: Set<Address>,
    /// Whose devices are meant.
    pub user: Option<Set<String>>,
    /// The agent of this machine.
    pub agent: Set<Address>,
}

/// An environment variable that is set to something.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Where the file is.
///
/// # Errors
/// Environments without a home.
pub fn path() -> Result<PathBuf, Failure> {
    let given = |name| std::env::var_os(name).filter(|value: &OsString| !value.is_empty()).map(PathBuf::from);
    if let Some(path) = given("PHONEFLEET_CONFIG") {
        return Ok(path);
    }
    // The XDG specification wants relative paths ignored.
    let folder = given("XDG_CONFIG_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| given("HOME").map(|home| home.join(".config")))
        .ok_or_else(|| {
            Failure::Usage(
                "neither XDG_CONFIG_HOME nor HOME is set: name a file in PHONEFLEET_CONFIG".to_owned(),
            )
        })?;
    Ok(folder.join("phonefleet/config.toml"))
}

impl File {
    /// Reads the file; one that is not there is empty.
    ///
    /// # Errors
    /// Files that cannot be read, or say something that is not known.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Failure::Usage(format!("{}: {error}", path.display()))),
        };
        toml::from_str(&text).map_err(|error| {
            Failure::Usage(format!("{} cannot be used: {error}", path.display()).trim_end().to_owned())
        })
    }

    /// Writes the file: whole, or not at all.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, path: &Path) -> Result<(), Failure> {
        let text = toml::to_string(self)
            .map_err(|error| Failure::Failed(format!("the configuration cannot be written: {error}")))?;
        let write = || -> std::io::Result<()> {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            if let Some(folder) = folder {
                std::fs::create_dir_all(folder)?;
            }
            // A link, as in collections of dotfiles, stays one: what it leads to is replaced.
            let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
            let mut name = target.clone().into_os_string();
            name.push(format!(".{}", std::process::id()));
            let mut new = std::fs::File::create(&name)?;
            new.write_all(HEADER.as_bytes())?;
            new.write_all(text.as_bytes())?;
            new.sync_all()?;
            std::fs::rename(&name, &target)
        };
        write().map_err(|error| Failure::Failed(format!("{} cannot be written: {error}", path.display())))
    }

    fn context(&self, name: &Set<String>) -> Result<&Context, Failure> {
        self.contexts.get(&name.value).ok_or_else(|| {
            let names: Vec<_> = self.contexts.keys().map(String::as_str).collect();
            let known = if names.is_empty() { "there are none".to_owned() } else { names.join(", ") };
            Failure::Usage(format!(
                "there is no context {:?} ({}; known: {known}); make it: phonefleet config set-context {} \
                 --controller URL",
                name.value, name.origin, name.value
            ))
        })
    }
}

impl Configuration {
    /// Puts the layers together.
    ///
    /// # Errors
    /// Files and addresses that cannot be used, and contexts that do not exist.
    pub fn load(flags: Flags) -> Result<Self, Failure> {
        let path = path()?;
        let file = File::read(&path)?;
        Self::layered(path, &file, flags, variable)
    }

    fn layered(
        path: PathBuf,
        file: &File,
        flags: Flags,
        variable: impl Fn(&'static str) -> Option<String>,
    ) -> Result<Self, Failure> {
        let outside = |flag: Option<String>, flag_name, variable_name| {
            flag.map(|value| Set { value, origin: Origin::Flag(flag_name) }).or_else(|| {
                variable(variable_name).map(|value| Set { value, origin: Origin::Environment(variable_name) })
            })
        };
        let named = outside(flags.context, "--context", "PHONEFLEET_CONTEXT")
            .or_else(|| file.current_context.clone().map(|value| Set { value, origin: Origin::File }));
        let context = named.as_ref().map(|name| file.context(name)).transpose()?.cloned().unwrap_or_default();
        let origin = || Origin::Context(named.as_ref().map(|name| name.value.clone()).unwrap_or_default());
        let inside = |value: Option<String>| value.map(|value| Set { value, origin: origin() });
        let user = outside(flags.user, "--user", "PHONEFLEET_USER").or_else(|| inside(context.user));
        let controller = outside(flags.controller, "--controller", "PHONEFLEET_CONTROLLER")
            .or_else(|| inside(context.controller));
        let agent = outside(flags.agent, "--agent", "PHONEFLEET_AGENT").or_else(|| inside(context.agent));
        Ok(Self {
            controller: address(controller, USUAL_CONTROLLER)?,
            agent: address(agent, USUAL_AGENT)?,
            user,
            context: named,
            path,
        })
    }
}

fn address(set: Option<Set<String>>, usual: &str) -> Result<Set<Address>, Failure> {
    let set = set.unwrap_or_else(|| Set { value: usual.to_owned(), origin: Origin::Default });
    let value = Address::parse(&set.value, &set.origin.to_string())?;
    Ok(Set { value, origin: set.origin })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "current_context = \"a\"\n[contexts.a]\ncontroller = \"http://localhost:1\"\nuser = \"alice\"\n\
         [contexts.b]\ncontroller = \"http://localhost:2\"\n";

    fn load(flags: Flags, variables: &'static [(&str, &str)]) -> Result<Configuration, Failure> {
        Configuration::layered(PathBuf::new(), &toml::from_str(FILE).unwrap(), flags, |name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn told(configuration: &Configuration) -> String {
        let controller = &configuration.controller;
        let user = configuration.user.as_ref();
        let user = user.map_or_else(|| "nobody".to_owned(), |user| format!("{} {}", user.value, user.origin));
        format!("{} {}, {user}", controller.value, controller.origin)
    }

    #[test]
    fn flags_before_environment_before_context_before_default() {
        let flags = |controller: Option<&str>, context: Option<&str>| Flags {
            controller: controller.map(str::to_owned),
            context: context.map(str::to_owned),
            ..Flags::default()
        };
        let none = load(Flags::default(), &[]).unwrap();
        assert_eq!(told(&none), "http://localhost:1 context a, alice context a");
        let variables: &[_] = &[("PHONEFLEET_CONTROLLER", "http://localhost:3"), ("PHONEFLEET_USER", "bob")];
        let environment = load(Flags::default(), variables).unwrap();
        assert_eq!(told(&environment), "http://localhost:3 PHONEFLEET_CONTROLLER, bob PHONEFLEET_USER");
        let flag = load(flags(Some("http://localhost:4"), None), variables).unwrap();
        assert_eq!(told(&flag), "http://localhost:4 --controller, bob PHONEFLEET_USER");
        let other = load(flags(None, Some("b")), &[]).unwrap();
        assert_eq!(told(&other), "http://localhost:2 context b, nobody");
        let error = load(flags(None, Some("c")), &[]).unwrap_err().to_string();
        assert!(error.contains("--context") && error.contains("known: a, b"), "{error}");
        let error = load(Flags::default(), &[("PHONEFLEET_CONTROLLER", "https://x")]).unwrap_err();
        assert!(error.to_string().starts_with("PHONEFLEET_CONTROLLER: "), "{error}");
        let nothing = Configuration::layered(PathBuf::new(), &File::default(), Flags::default(), |_| None);
        assert_eq!(told(&nothing.unwrap()), "http://127.0.0.1:30002 default, nobody");
    }

    #[test]
    fn files_come_back_and_faults_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/er/config.toml");
        assert_eq!(File::read(&path).unwrap(), File::default());
        let file: File = toml::from_str(FILE).unwrap();
        file.write(&path).unwrap();
        assert_eq!(File::read(&path).unwrap(), file);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        for (text, word) in
            [("contexts = 1", "contexts"), ("[contexts.a]\nurl = 1", "unknown field"), ("=", "line 1")]
        {
            std::fs::write(&path, text).unwrap();
            let error = File::read(&path).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("config.toml"), "{error}");
        }
    }
}
