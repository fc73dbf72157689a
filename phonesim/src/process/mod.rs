//! A phone as a process, on a machine without a container engine.
//!
//! ```text
//!   agent ──▶ supervise ──▶ enter = PID 1 of the phone ──▶ /init ──▶ adbd ──▶ shells
//! ```
//!
//! | module | what lives there |
//! |---|---|
//! | [`supervise`] | holds the port, outlives the agent, writes down how the phone ended |
//! | [`enter`] | becomes the phone's PID 1, in namespaces of its own |
//! | [`tree`] | the phone's root: its `/data`, and programs of the host |
//!
//! The folder of a phone, which the agent owns:
//!
//! ```text
//!   lock      locked (fcntl) by the supervisor for as long as the phone runs
//!   init      "PID START-TIME" of its PID 1 since the newest start, as the host sees it
//!   ended     exit code of the newest run, as a container engine would tell it
//!   root/     empty; in the phone's own view its root
//! ```

pub mod enter;
pub mod supervise;
mod tree;

use std::path::PathBuf;

/// What both halves are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    /// The phone's folder.
    pub folder: PathBuf,
    /// Becomes `/data`.
    pub data: PathBuf,
    /// Host name.
    pub name: String,
    /// `ADDRESS:PORT` of its adbd.
    pub listen: String,
    /// Arguments of `/init`.
    pub boot: Vec<String>,
}

impl Arguments {
    /// How they are given.
    pub const USAGE: &str = "--folder DIR --data DIR --name NAME --listen ADDRESS:PORT -- [BOOT ARGUMENT…]";

    /// Reads them; what is wrong otherwise.
    pub fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut parsed = Self {
            folder: PathBuf::new(),
            data: PathBuf::new(),
            name: String::new(),
            listen: String::new(),
            boot: Vec::new(),
        };
        let mut rest = arguments.iter();
        while let Some(option) = rest.next() {
            if option == "--" {
                parsed.boot = rest.cloned().collect();
                break;
            }
            let value = rest.next().ok_or_else(|| format!("{option} needs a value"))?;
            match option.as_str() {
                "--folder" => parsed.folder = value.into(),
                "--data" => parsed.data = value.into(),
                "--name" => parsed.name.clone_from(value),
                "--listen" => parsed.listen.clone_from(value),
                other => return Err(format!("unknown option {other}")),
            }
        }
        if !parsed.folder.is_absolute() || !parsed.data.is_absolute() {
            return Err("--folder and --data must be absolute paths".to_owned());
        }
        Ok(parsed)
    }

    /// As they are given to the other half.
    pub fn to_words(&self) -> Vec<String> {
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let mut words = Vec::new();
        for (option, value) in [
            ("--folder", text(&self.folder)),
            ("--data", text(&self.data)),
            ("--name", self.name.clone()),
            ("--listen", self.listen.clone()),
        ] {
            words.extend([option.to_owned(), value]);
        }
        words.push("--".to_owned());
        words.extend(self.boot.iter().cloned());
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_come_back_as_they_went() {
        let arguments = Arguments {
            folder: "/f".into(),
            data: "/d".into(),
            name: "n".into(),
            listen: "127.0.0.1:1".into(),
            boot: vec!["--folder".into(), "ro.x=1".into()],
        };
        assert_eq!(Arguments::parse(&arguments.to_words()), Ok(arguments));
        for bad in [&["--folder"][..], &["--what", "x"], &["--folder", "x", "--data", "/d"], &[]] {
            let bad: Vec<String> = bad.iter().map(|word| (*word).to_owned()).collect();
            assert!(Arguments::parse(&bad).is_err(), "{bad:?}");
        }
    }
}
