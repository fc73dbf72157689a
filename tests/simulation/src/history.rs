//! What the API's users asked and were told, with the times of both: all that a model check
//! may know.

use phonefleet_controller::order::Verb;
use serde_json::Value;
use std::time::Duration;

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A new device, on this host if it is named.
    Create {
        /// Whose.
        user: usize,
    },
    /// Several.
    Batch {
        /// Whose.
        user: usize,
    },
    /// A verb.
    Verb {
        /// The device's id.
        device: String,
        /// What.
        verb: Verb,
    },
    /// How a device is.
    Look {
        /// The device's id.
        device: String,
    },
    /// A recording.
    Record {
        /// The device's id.
        device: String,
    },
    /// The end of one.
    StopRecording,
    /// Other limits.
    Limits,
    /// Whether a host takes new devices.
    Cordon {
        /// Which.
        host: usize,
        /// It does not.
        on: bool,
    },
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Nobody was there: it has not happened.
    Unreached,
    /// The answer never came: nobody knows.
    Lost,
    /// An answer.
    Answered {
        /// HTTP status.
        status: u16,
        /// The body, whole.
        text: String,
        /// The same, read.
        body: Value,
    },
}

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    /// The entry of the scenario; `usize::MAX` for the observer's own.
    pub entry: usize,
    /// What was asked.
    pub asked: Asked,
    /// Its Idempotency-Key.
    pub key: Option<String>,
    /// Its place among all sendings and answers, when it was sent.
    pub invoked: u64,
    /// The same, when the answer came or was given up.
    pub answered: u64,
    /// When that was.
    pub at: Duration,
    /// What came of it.
    pub outcome: Outcome,
}

impl Call {
    /// The answer's status, if there was one.
    pub fn status(&self) -> Option<u16> {
        match &self.outcome {
            Outcome::Answered { status, .. } => Some(*status),
            Outcome::Unreached | Outcome::Lost => None,
        }
    }

    /// The answer's `data`.
    pub fn data(&self) -> &Value {
        static NOTHING: Value = Value::Null;
        match &self.outcome {
            Outcome::Answered { body, .. } => &body["data"],
            Outcome::Unreached | Outcome::Lost => &NOTHING,
        }
    }

    /// It was accepted, for sure.
    pub fn accepted(&self) -> bool {
        self.status().is_some_and(|status| (200..300).contains(&status))
    }

    /// It has, or may have, taken effect.
    pub fn may_stand(&self) -> bool {
        self.accepted() || self.outcome == Outcome::Lost || self.status().is_some_and(|status| status >= 500)
    }

    /// Devices that an accepted order created: id and saga.
    pub fn created(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        match self.asked {
            _ if !self.accepted() => Vec::new(),
            Asked::Create { .. } => vec![(text(&self.data()["device"]["id"]), text(&self.data()["sagaId"]))],
            Asked::Batch { .. } => {
                let results = self.data()["results"].as_object();
                let accepted = results.into_iter().flat_map(serde_json::Map::values);
                accepted
                    .filter(|result| result["success"] == true)
                    .map(|result| (text(&result["data"]["id"]), text(&result["data"]["sagaId"])))
                    .collect()
            }
            _ => Vec::new(),
        }
    }
}
