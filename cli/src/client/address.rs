//! Where a daemon is called: `http://host:port`, and paths and queries below it.

use crate::failure::Failure;
use http::Uri;
use std::fmt::{self, Write};

/// A base address, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    authority: String,
    /// Without a slash at its end; empty for the root.
    prefix: String,
}

impl Address {
    /// Reads an address; `source` says who gave it, for the error.
    ///
    /// # Errors
    /// Anything but plain HTTP to a host.
    pub fn parse(text: &str, source: &str) -> Result<Self, Failure> {
        let wrong = |why: &str| Failure::Usage(format!("{source}: {text:?} {why}"));
        let uri: Uri = text
            .parse()
            .map_err(|error| wrong(&format!("is no address: {error}; write http://HOST:PORT")))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(wrong(
                    "cannot be used: daemons speak plain HTTP on loopback only, until authentication exists; \
                     for another machine, open an SSH tunnel and write http://localhost:PORT",
                ));
            }
            _ => return Err(wrong("must begin with http://")),
        }
        let authority = uri.authority().ok_or_else(|| wrong("names no host"))?.as_str();
        if authority.contains('@') {
            return Err(wrong("must not contain a user or password: there is no login"));
        }
        if uri.query().is_some() || text.contains('#') {
            return Err(wrong("must not have a query or a fragment"));
        }
        let prefix = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { authority: authority.to_owned(), prefix })
    }

    /// The address of a path below this one.
    ///
    /// # Errors
    /// Texts that are no path; those of [`path`] always are.
    pub fn uri(&self, path: &str) -> Result<Uri, http::Error> {
        Uri::builder()
            .scheme("http")
            .authority(self.authority.as_str())
            .path_and_query(format!("{}{path}", self.prefix))
            .build()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "http://{}{}", self.authority, self.prefix)
    }
}

/// A path of these segments, whatever is in them.
pub fn path(segments: &[&str]) -> String {
    let mut path = String::new();
    for segment in segments {
        path.push('/');
        // A segment of dots would be taken for a step up by whatever stands between.
        if segment.bytes().all(|byte| byte == b'.') {
            path.push_str(&segment.replace('.', "%2E"));
        } else {
            encode(&mut path, segment);
        }
    }
    path
}

/// A path with a query of these parameters; those without a value are left out.
pub fn with_query(path: &str, parameters: &[(&str, Option<&str>)]) -> String {
    let mut text = path.to_owned();
    let mut separator = '?';
    for (name, value) in parameters {
        if let Some(value) = value {
            text.push(separator);
            encode(&mut text, name);
            text.push('=');
            encode(&mut text, value);
            separator = '&';
        }
    }
    text
}

/// Appends a text in which only unreserved characters of RFC 3986 stand for themselves.
fn encode(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing into a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_taken_and_nothing_else() {
        let address = |text| Address::parse(text, "--controller");
        assert_eq!(address("http://127.0.0.1:30002/").unwrap().to_string(), "http://127.0.0.1:30002");
        assert_eq!(
            address("http://[::1]:1").unwrap().uri("/sagas").unwrap().to_string(),
            "http://[::1]:1/sagas"
        );
        let below = address("http://localhost/fleet/").unwrap();
        assert_eq!(below.uri("/sagas?limit=1").unwrap().to_string(), "http://localhost/fleet/sagas?limit=1");
        for (text, word) in [
            ("https://localhost", "SSH tunnel"),
            ("localhost:30002", "http://"),
            ("", "http://HOST:PORT"),
            ("http://", "http://HOST:PORT"),
            ("http://user:secret@localhost", "password"),
            ("http://localhost?x=1", "query"),
            ("ftp://localhost", "http://"),
            ("/devices", "http://"),
        ] {
            let error = address(text).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
            assert!(error.to_string().starts_with("--controller: "), "{error}");
        }
    }

    #[test]
    fn what_is_in_a_segment_stays_in_it() {
        assert_eq!(path(&["devices", "a/b?c#d%é"]), "/devices/a%2Fb%3Fc%23d%25%C3%A9");
        assert_eq!(path(&["hosts", ".."]), "/hosts/%2E%2E");
        assert_eq!(
            with_query("/devices", &[("userId", Some("a&b=c")), ("status", None), ("limit", Some("5"))]),
            "/devices?userId=a%26b%3Dc&limit=5"
        );
    }
}
