//! MQTT topics of one host, and the way back from a topic to its host.

use crate::id::HostId;

const PREFIX: &str = "phonefleet/v1/hosts/";

/// What a topic carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Hellos and frames from the agent, QoS 1.
    Up,
    /// Hellos and frames to the agent, QoS 1.
    Down,
    /// Retained presence with the last will, QoS 1.
    Presence,
    /// Heartbeats, QoS 0.
    Telemetry,
}

impl Channel {
    /// The last part of the topic.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Presence => "presence",
            Self::Telemetry => "telemetry",
        }
    }

    /// The topic of one host.
    pub fn of(self, host: &HostId) -> String {
        format!("{PREFIX}{host}/{}", self.name())
    }

    /// The filter that matches this channel of every host.
    pub fn of_all(self) -> String {
        format!("{PREFIX}+/{}", self.name())
    }
}

/// The host and channel of a topic; `None` for every other topic.
pub fn parse(topic: &str) -> Option<(HostId, Channel)> {
    let (host, name) = topic.strip_prefix(PREFIX)?.split_once('/')?;
    let channel = [Channel::Up, Channel::Down, Channel::Presence, Channel::Telemetry]
        .into_iter()
        .find(|channel| channel.name() == name)?;
    Some((host.parse().ok()?, channel))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_parse_back_and_strangers_do_not() {
        let host: HostId = "host-1".parse().unwrap();
        assert_eq!(parse(&Channel::Up.of(&host)), Some((host, Channel::Up)));
        for bad in ["", "phonefleet/v1/hosts/A/up", "phonefleet/v1/hosts/a/up/x", "x/v1/hosts/a/up"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
