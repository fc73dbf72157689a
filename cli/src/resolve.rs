//! From what a user types to an id: names or ids everywhere.
//!
//! A device is meant by its id, by its name, or by `USER/NAME`. Names are unique among one
//! user's devices only; one that means several is an error that lists them. A saga is meant
//! by its id, or by a device, and is then the device's newest.

use crate::client::Client;
use crate::client::address::path;
use crate::client::call::Call;
use crate::failure::Failure;
use crate::models::{Device, Recording};
use phonefleet_protocol::id::DeviceId;
use serde_json::Value;
use std::fmt::Write;

/// Finds what a user means.
#[derive(Clone)]
pub struct Resolver {
    client: Client,
    user: Option<String>,
}

impl Resolver {
    /// Names are those of `user`'s devices; without one, of everybody's.
    pub fn new(client: Client, user: Option<String>) -> Self {
        Self { client, user }
    }

    /// The id of a device. An id is not looked up: the call that follows does that.
    ///
    /// # Errors
    /// Names that nobody has, or several.
    pub async fn device_id(&self, text: &str) -> Result<String, Failure> {
        match text.parse::<DeviceId>() {
            Ok(id) => Ok(id.to_string()),
            Err(_) => self.named(text).await.map(|(device, _)| device.id),
        }
    }

    /// A device.
    ///
    /// # Errors
    /// Names and ids that nobody has, and names that several have.
    pub async fn device(&self, text: &str) -> Result<(Device, Value), Failure> {
        match text.parse::<DeviceId>() {
            Ok(id) => {
                let value = self.client.data(Call::get(path(&["devices", &id.to_string()]))).await?;
                Ok((self.client.read(&value)?, value))
            }
            Err(_) => self.named(text).await,
        }
    }

    async fn named(&self, text: &str) -> Result<(Device, Value), Failure> {
        let (user, name) = match text.split_once('/') {
            Some((user, name)) => (Some(user), name),
            None => (self.user.as_deref(), text),
        };
        let mut found = Vec::new();
        let client = &self.client;
        let take = |page: Vec<Value>| {
            found.extend(page.into_iter().filter(|item| item["name"].as_str() == Some(name)));
        };
        client.pages("/devices", &[("userId", user)], None, take).await?;
        if found.len() > 1 {
            let mut text =
                format!("{} devices are named {name:?}; name one of them by USER/NAME or id:", found.len());
            for item in &found {
                let device: Device = client.read(item)?;
                // Writing into a String cannot fail.
                let _ =
                    write!(text, "\n  {}/{}  {}  {}", device.user_id, device.name, device.id, device.status);
            }
            return Err(Failure::Usage(text));
        }
        if let Some(value) = found.pop() {
            return Ok((client.read(&value)?, value));
        }
        let whose = user.map_or_else(|| "nobody has a".to_owned(), |user| format!("user {user} has no"));
        Err(Failure::NotFound(format!(
            "{whose} device named {name:?}; look: phonefleet device list --all-users (devices that are gone are \
             found by their id)"
        )))
    }

    /// The id of a saga.
    ///
    /// # Errors
    /// Those of [`Self::device`], and devices without a saga.
    pub async fn saga_id(&self, text: &str) -> Result<String, Failure> {
        // A device's name may begin so too; its id and USER/NAME may not.
        if text.starts_with("saga_") {
            return Ok(text.to_owned());
        }
        let (device, _) = self.device(text).await?;
        device.saga_id.ok_or_else(|| Failure::NotFound(format!("device {} has no saga", device.name)))
    }

    /// The id of a recording; of a device, that is the active one, else the newest.
    ///
    /// # Errors
    /// Those of [`Self::device`], and devices without a recording.
    pub async fn recording_id(&self, text: &str) -> Result<String, Failure> {
        // Ids of recordings and devices look alike; an id here is a recording's.
        if let Ok(id) = text.parse::<DeviceId>() {
            return Ok(id.to_string());
        }
        let (device, _) = self.named(text).await?;
        let items = self.client.list("/recordings", &[("deviceId", Some(&device.id))]).await?;
        let mut recordings = Vec::new();
        for item in &items {
            recordings.push(self.client.read::<Recording>(item)?);
        }
        // UUIDv7 sort by age.
        recordings.sort_by(|left, right| (!left.has_ended(), &left.id).cmp(&(!right.has_ended(), &right.id)));
        let newest = recordings.pop().map(|recording| recording.id);
        newest.ok_or_else(|| Failure::NotFound(format!("device {} has no recording", device.name)))
    }
}
