//! A broker's address, as operators write it.

use super::MqttError;

/// Where a broker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub tls: bool,
    /// Name or IP address; IPv6 in brackets.
    pub host: String,
    pub port: u16,
}

impl Address {
    pub fn parse(url: &str) -> Result<Self, MqttError> {
        let wrong = |why| MqttError::Url { url: url.to_owned(), why };
        let (tls, rest) = match url.split_once("://") {
            Some(("mqtt" | "tcp", rest)) => (false, rest),
            Some(("mqtts" | "ssl", rest)) => (true, rest),
            _ => return Err(wrong("it must begin with mqtt:// or mqtts://")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('@') {
            return Err(wrong("user name and password have keys of their own"));
        }
        // The brackets of IPv6 hold colons too.
        let after_brackets = rest.rfind(']').map_or(0, |end| end + 1);
        let (host, port) = match rest[after_brackets..].rfind(':') {
            None => (rest, if tls { 8883 } else { 1883 }),
            Some(colon) => {
                let (host, port) = rest.split_at(after_brackets + colon);
                (host, port[1..].parse().map_err(|_| wrong("the port is not a number from 1 to 65535"))?)
            }
        };
        if port == 0 {
            return Err(wrong("the port is not a number from 1 to 65535"));
        }
        let bracketed = host.starts_with('[') && host.ends_with(']');
        if host.is_empty() || host.contains(['/', '?', '#', ' ']) || (host.contains(':') && !bracketed) {
            return Err(wrong("there is no host name in it"));
        }
        if tls && bracketed {
            return Err(wrong("TLS needs a host name or an IPv4 address"));
        }
        Ok(Self { tls, host: host.to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_nonsense_is_explained() {
        let address = |tls, host: &str, port| Address { tls, host: host.to_owned(), port };
        for (url, expected) in [
            ("mqtt://localhost", address(false, "localhost", 1883)),
            ("mqtt://10.0.0.1:1884/", address(false, "10.0.0.1", 1884)),
            ("mqtts://broker.example", address(true, "broker.example", 8883)),
            ("mqtt://[::1]:1885", address(false, "[::1]", 1885)),
            ("mqtt://[::1]", address(false, "[::1]", 1883)),
        ] {
            assert_eq!(Address::parse(url).unwrap(), expected, "{url}");
        }
        for url in [
            "",
            "localhost:1883",
            "http://x",
            "mqtt://",
            "mqtt://:1883",
            "mqtt://a:0",
            "mqtt://a:70000",
            "mqtt://a:b:1",
            "mqtt://me:secret@a",
            "mqtt://a/topic",
            "mqtts://[::1]",
            "mqtt://]:[",
        ] {
            assert!(Address::parse(url).is_err(), "{url}");
        }
    }
}
