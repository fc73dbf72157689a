//! The layers: what each holds, which of them wins, and what is wrong with them.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A line of the file, counted from 1.
    File(PathBuf, usize),
    /// An environment variable.
    Environment(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::File(path, line) => write!(formatter, "{}:{line}", path.display()),
            Self::Environment(name) => write!(formatter, "environment variable {name}"),
        }
    }
}

/// One thing that is wrong with one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Full dotted path, such as `mqtt.url`; empty for a file as a whole.
    pub key: String,
    /// Where it was set.
    pub origin: Origin,
    /// What is wrong, and what is allowed.
    pub detail: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            write!(formatter, "{} ", self.key)?;
        }
        write!(formatter, "({}): {}", self.origin, self.detail)
    }
}

/// Everything that is wrong with the configuration, a line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError {
    /// At least one.
    pub faults: Vec<Fault>,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the configuration cannot be used:")?;
        for fault in &self.faults {
            write!(formatter, "\n  {fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SettingsError {}

impl From<Fault> for SettingsError {
    fn from(fault: Fault) -> Self {
        Self { faults: vec![fault] }
    }
}

/// A configuration, and where each key of it comes from.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// What is in force.
    pub value: T,
    origins: BTreeMap<String, Origin>,
}

impl<T: Serialize> Loaded<T> {
    /// Where a key comes from.
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }

    /// A fault of one key that only its user could find.
    pub fn fault(&self, key: &str, detail: impl Into<String>) -> Fault {
        Fault { key: key.to_owned(), origin: self.origin(key), detail: detail.into() }
    }

    /// Every key in force with its origin, as TOML that could be read again. Secrets are
    /// masked. `unset` says what the absence of a value means, by key.
    pub fn print(&self, unset: &[(&str, &str)]) -> String {
        let keys = known_keys(&self.value);
        let mut text = String::new();
        for (key, value) in &keys {
            let line = match Value::try_from(value) {
                Ok(value) => format!("{key} = {value}"),
                // TOML has no null: a value that nobody gave.
                Err(_) => match unset.iter().find(|(name, _)| name == key) {
                    Some((_, meaning)) => format!("# {key} is unset: {meaning}"),
                    None => format!("# {key} is unset"),
                },
            };
            let _ = writeln!(text, "{line:<50} # {}", self.origin(key)); // a String takes all
        }
        text
    }
}

/// Reads a configuration from the file, if any, and from the process's environment.
pub fn load<T: DeserializeOwned + Serialize + Default>(
    prefix: &str,
    file: Option<&Path>,
) -> Result<Loaded<T>, SettingsError> {
    Loader::new(prefix).file(file).load()
}

/// The same with every source chosen by the caller.
#[derive(Clone, Debug)]
pub struct Loader {
    prefix: String,
    file: Option<PathBuf>,
    environment: Option<Vec<(String, String)>>,
    aliases: Vec<(&'static str, &'static str)>,
}

/// A value that one layer gives to one key.
struct Setting {
    key: String,
    origin: Origin,
    value: Given,
}

enum Given {
    /// From the file, with its type.
    Typed(Value),
    /// From the environment: a text, or TOML if the key wants no text.
    Text(String),
}

impl Loader {
    /// Variables are `<prefix>__SECTION__KEY`.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), file: None, environment: None, aliases: Vec::new() }
    }

    /// Takes this file as well.
    #[must_use]
    pub fn file(mut self, file: Option<&Path>) -> Self {
        self.file = file.map(Path::to_owned);
        self
    }

    /// Takes these variables in place of the process's.
    #[must_use]
    pub fn environment(mut self, variables: Vec<(String, String)>) -> Self {
        self.environment = Some(variables);
        self
    }

    /// Takes a variable outside the prefix for one key. The one with the prefix wins.
    #[must_use]
    pub fn alias(mut self, variable: &'static str, key: &'static str) -> Self {
        self.aliases.push((variable, key));
        self
    }

    /// Reads, checks every key alone, and merges: environment over file over default.
    pub fn load<T: DeserializeOwned + Serialize + Default>(self) -> Result<Loaded<T>, SettingsError> {
        let known = known_keys(&T::default());
        let mut faults = Vec::new();
        let mut settings = Vec::new();
        if let Some(path) = &self.file {
            match read_file(path, &known) {
                Ok((found, wrong)) => {
                    settings.extend(found);
                    faults.extend(wrong);
                }
                Err(fault) => faults.push(fault),
            }
        }
        self.read_environment(&known, &mut settings, &mut faults);

        let mut merged = Table::new();
        let mut origins = BTreeMap::new();
        for setting in settings {
            match test_alone::<T>(&setting) {
                Ok(value) => {
                    insert(&mut merged, &setting.key, value);
                    origins.insert(setting.key, setting.origin);
                }
                Err(detail) => {
                    faults.push(Fault { key: setting.key, origin: setting.origin, detail });
                }
            }
        }
        if !faults.is_empty() {
            return Err(SettingsError { faults });
        }
        let value = merged.try_into().map_err(|error: toml::de::Error| {
            let origin = self.file.as_ref().map_or(Origin::Default, |path| Origin::File(path.clone(), 1));
            SettingsError::from(Fault { key: String::new(), origin, detail: error.message().to_owned() })
        })?;
        Ok(Loaded { value, origins })
    }

    fn read_environment(
        &self,
        known: &BTreeMap<String, Json>,
        settings: &mut Vec<Setting>,
        faults: &mut Vec<Fault>,
    ) {
        let mut variables: Vec<(String, Option<String>)> = match &self.environment {
            Some(given) => given.iter().map(|(name, value)| (name.clone(), Some(value.clone()))).collect(),
            None => std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok())))
                .collect(),
        };
        variables.sort();
        let start = format!("{}__", self.prefix);
        let alias = |name: &str| self.aliases.iter().find(|(variable, _)| *variable == name);
        // Aliases first, so that the proper name comes later and wins.
        variables.sort_by_key(|(name, _)| alias(name).is_none());
        for (name, value) in variables {
            let key = match (name.strip_prefix(&start), alias(&name)) {
                (Some(rest), _) => rest.to_ascii_lowercase().replace("__", "."),
                (None, Some((_, key))) => (*key).to_owned(),
                (None, None) => continue,
            };
            let origin = Origin::Environment(name);
            if !known.contains_key(&key) {
                let detail = unknown(&key, known);
                faults.push(Fault { key, origin, detail });
            } else if let Some(text) = value {
                settings.push(Setting { key, origin, value: Given::Text(text) });
            } else {
                faults.push(Fault { key, origin, detail: "the value is not UTF-8 text".into() });
            }
        }
    }
}

/// Every key of the configuration with the value it has here; `null` for `None`.
fn known_keys<T: Serialize>(value: &T) -> BTreeMap<String, Json> {
    fn walk(prefix: &str, value: &Json, keys: &mut BTreeMap<String, Json>) {
        match value {
            Json::Object(fields) => {
                for (name, field) in fields {
                    walk(&join(prefix, name), field, keys);
                }
            }
            leaf => {
                keys.insert(prefix.to_owned(), leaf.clone());
            }
        }
    }
    let mut keys = BTreeMap::new();
    let tree = serde_json::to_value(value).expect("settings are plain structs, texts, numbers and lists");
    walk("", &tree, &mut keys);
    keys
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

fn read_file(path: &Path, known: &BTreeMap<String, Json>) -> Result<(Vec<Setting>, Vec<Fault>), Fault> {
    let fault = |line, detail: String| Fault {
        key: String::new(),
        origin: Origin::File(path.to_owned(), line),
        detail,
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| fault(1, format!("the file cannot be read: {error}")))?;
    let line_of = |offset: usize| 1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count();
    let document = DeTable::parse(&text).map_err(|error| {
        let line = line_of(error.span().map_or(0, |span| span.start));
        // Not the whole error: it shows the line, and that may hold a password.
        fault(line, format!("this is not TOML: {}", error.message()))
    })?;
    let values: Table = toml::from_str(&text).map_err(|error| fault(1, error.message().to_owned()))?;

    let mut walk = Walk { path, known, line_of: &line_of, settings: Vec::new(), faults: Vec::new() };
    walk.table("", document.get_ref(), &values);
    Ok((walk.settings, walk.faults))
}

/// A walk through the file's tables, which tells keys from sections by the known keys.
struct Walk<'a> {
    path: &'a Path,
    known: &'a BTreeMap<String, Json>,
    line_of: &'a dyn Fn(usize) -> usize,
    settings: Vec<Setting>,
    faults: Vec<Fault>,
}

impl Walk<'_> {
    fn table(&mut self, prefix: &str, document: &DeTable<'_>, values: &Table) {
        for (name, spanned) in document {
            let key = join(prefix, name.get_ref());
            let origin = Origin::File(self.path.to_owned(), (self.line_of)(name.span().start));
            let Some(value) = values.get(name.get_ref().as_ref()) else { continue };
            let section = self.known.keys().any(|known| known.starts_with(&format!("{key}.")));
            match (spanned.get_ref(), value) {
                (DeValue::Table(inner), Value::Table(values)) if section => self.table(&key, inner, values),
                _ if self.known.contains_key(&key) => {
                    self.settings.push(Setting { key, origin, value: Given::Typed(value.clone()) });
                }
                _ if section => {
                    let detail = format!("this is a section: write [{key}] and its keys below");
                    self.faults.push(Fault { key, origin, detail });
                }
                _ => {
                    let detail = unknown(&key, self.known);
                    self.faults.push(Fault { key, origin, detail });
                }
            }
        }
    }
}

/// What to say about a key that does not exist: those that do, at the same place.
fn unknown(key: &str, known: &BTreeMap<String, Json>) -> String {
    let section = key.rsplit_once('.').map_or("", |(section, _)| section);
    let mut names: Vec<&str> = known
        .keys()
        .filter_map(|known| match section {
            "" => Some(known.split('.').next().unwrap_or(known)),
            section => known.strip_prefix(section)?.strip_prefix('.'),
        })
        .collect();
    names.dedup();
    if names.is_empty() {
        let mut sections: Vec<&str> =
            known.keys().filter_map(|known| Some(known.split_once('.')?.0)).collect();
        sections.dedup();
        return format!("unknown section; there are {}", sections.join(", "));
    }
    let place = if section.is_empty() { "at the top".to_owned() } else { format!("in [{section}]") };
    format!("unknown key; {place} there are {}", names.join(", "))
}

/// Whether `T` takes this value for this key; the value with its proper type if so.
fn test_alone<T: DeserializeOwned>(setting: &Setting) -> Result<Value, String> {
    let attempt = |value: Value| {
        let mut table = Table::new();
        insert(&mut table, &setting.key, value.clone());
        match table.try_into::<T>() {
            Ok(_) => Ok(value),
            Err(error) => Err(error.message().to_owned()),
        }
    };
    match &setting.value {
        Given::Typed(value) => attempt(value.clone()),
        // As a text first: a password of digits only is a password.
        Given::Text(text) => attempt(Value::String(text.clone())).or_else(|as_text| {
            match format!("value = {text}").parse::<Table>() {
                Ok(mut table) if table.len() == 1 => match table.remove("value") {
                    Some(Value::String(_)) | None => Err(as_text),
                    Some(value) => attempt(value),
                },
                _ => Err(as_text),
            }
        }),
    }
}

fn insert(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
        }
        Some((section, rest)) => {
            let inner = table.entry(section.to_owned()).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}
