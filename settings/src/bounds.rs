//! Numbers that have to lie within bounds: one table for the check and for the reference.

/// A key whose number has a least and a most, both allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Full dotted path, such as `boot.timeout_seconds`.
    pub key: &'static str,
    /// What is in force.
    pub value: u64,
    /// The least that is allowed. It may follow another key.
    pub least: u64,
    /// The most that is allowed.
    pub most: u64,
}

impl Bounds {
    /// What is wrong with the number, if anything is.
    pub fn fault(&self) -> Option<String> {
        let Self { value, least, most, .. } = self;
        (!(least..=most).contains(&value)).then(|| format!("{value} is not from {least} to {most}"))
    }
}
