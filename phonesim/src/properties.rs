//! The property store: one file for each property, so that `getprop` and `setprop` are
//! processes of their own and need nobody to ask. Written whole by rename; a reader sees the
//! old value or the new one. Rules (names, lengths, `ro.` only once) as in AOSP's
//! `init/property_service.cpp`.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::root::Root;

/// Longest value in bytes of a property that can change (`PROP_VALUE_MAX` less its NUL).
const LONGEST_VALUE: usize = 91;

/// Set at boot and never again.
const READ_ONLY_PREFIX: &str = "ro.";

/// Why a property could not be set.
#[derive(Debug, thiserror::Error)]
pub enum PropertyError {
    /// The name breaks the rules of property names.
    #[error(
        "'{0}' is no property name: letters, digits and . - @ : _ only, no dot at either end, \
         no two dots together"
    )]
    Name(String),
    /// The value does not fit.
    #[error("the value of '{0}' is longer than {LONGEST_VALUE} bytes")]
    TooLong(String),
    /// A `ro.` property has its value already.
    #[error("'{0}' is read-only and was set before")]
    ReadOnly(String),
    /// The store could not be written.
    #[error("cannot store '{name}': {source}")]
    Store {
        /// The property.
        name: String,
        /// What the file system said.
        source: io::Error,
    },
}

/// The properties of the phone below one root.
#[derive(Debug, Clone)]
pub struct Properties {
    directory: PathBuf,
}

impl Properties {
    /// The store of this phone; it need not exist yet.
    pub fn of(root: &Root) -> Self {
        Self { directory: root.properties() }
    }

    /// Forgets everything, as a boot does.
    pub fn reset(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::create_dir_all(&self.directory)?;
        // The shell user (uid 2000) may set properties too.
        fs::set_permissions(&self.directory, Permissions::from_mode(0o777))
    }

    /// The value; an unset property has none.
    pub fn get(&self, name: &str) -> Option<String> {
        if !is_name(name) {
            return None;
        }
        let value = fs::read(self.directory.join(name)).ok()?;
        Some(String::from_utf8_lossy(&value).into_owned())
    }

    /// The value as a number; unset or anything else gives none.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }

    /// Whether init says that this service runs.
    pub fn service_runs(&self, service: &str) -> bool {
        self.get(&service_property(service)).is_some_and(|state| state == "running")
    }

    /// Sets one property, durably only until the next boot.
    pub fn set(&self, name: &str, value: &str) -> Result<(), PropertyError> {
        if !is_name(name) {
            return Err(PropertyError::Name(name.to_owned()));
        }
        let read_only = name.starts_with(READ_ONLY_PREFIX);
        if !read_only && value.len() > LONGEST_VALUE {
            return Err(PropertyError::TooLong(name.to_owned()));
        }
        let store = |source| PropertyError::Store { name: name.to_owned(), source };
        // No property name starts with a dot, so this one is nobody's.
        let draft = self.directory.join(format!(".{}.{name}", std::process::id()));
        fs::write(&draft, value).map_err(store)?;
        let target = self.directory.join(name);
        if !read_only {
            return fs::rename(&draft, target).map_err(store);
        }
        let linked = fs::hard_link(&draft, target);
        let _ = fs::remove_file(&draft);
        linked.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => PropertyError::ReadOnly(name.to_owned()),
            _ => store(error),
        })
    }

    /// All that are set, by name.
    pub fn all(&self) -> BTreeMap<String, String> {
        let Ok(entries) = fs::read_dir(&self.directory) else {
            return BTreeMap::new();
        };
        entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter_map(|name| self.get(&name).map(|value| (name, value)))
            .collect()
    }
}

/// Where init tells the state of a service.
pub fn service_property(service: &str) -> String {
    format!("init.svc.{service}")
}

/// Whether init would take this as the name of a property.
pub fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && !name.ends_with('.')
        && !name.contains("..")
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-@:_".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Properties) {
        let directory = tempfile::tempdir().unwrap();
        let properties = Properties::of(&Root::at(directory.path()));
        properties.reset().unwrap();
        (directory, properties)
    }

    #[test]
    fn a_value_can_change_and_a_reset_forgets_it() {
        let (_directory, properties) = store();
        properties.set("debug.x", "1").unwrap();
        properties.set("debug.x", "2").unwrap();
        assert_eq!(properties.get("debug.x").as_deref(), Some("2"));
        properties.reset().unwrap();
        assert_eq!(properties.get("debug.x"), None);
    }

    #[test]
    fn read_only_properties_are_set_once_and_may_be_long() {
        let (_directory, properties) = store();
        let long = "x".repeat(300);
        properties.set("ro.x", &long).unwrap();
        assert!(matches!(properties.set("ro.x", "2"), Err(PropertyError::ReadOnly(_))));
        assert_eq!(properties.get("ro.x"), Some(long.clone()));
        assert!(matches!(properties.set("sys.x", &long), Err(PropertyError::TooLong(_))));
        assert_eq!(properties.all().len(), 1);
    }

    #[test]
    fn names_that_could_leave_the_directory_are_refused() {
        let (_directory, properties) = store();
        for name in ["", ".", "..", "a/b", "../x", ".a", "a.", "a..b", "a b"] {
            assert!(matches!(properties.set(name, "1"), Err(PropertyError::Name(_))), "{name}");
            assert_eq!(properties.get(name), None, "{name}");
        }
    }
}
