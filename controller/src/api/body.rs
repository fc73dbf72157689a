//! Bodies from outside: JSON and nothing else, with the place of what is wrong.

use super::problem::{Code, Problem};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_path_to_error::{Path, Segment};

/// Largest body of a call, in bytes.
pub const BODY_BYTES: usize = 256 * 1024;

/// Reads a body. `code` is that of bodies that are JSON and do not fit.
///
/// # Errors
/// `INVALID_JSON`, or `code` with the JSON pointer of the field.
pub fn parse<T: DeserializeOwned>(body: &[u8], code: Code) -> Result<T, Problem> {
    let text = std::str::from_utf8(body).map_err(|error| {
        Problem::new(Code::InvalidJson, format!("the body is not UTF-8 behind byte {}", error.valid_up_to()))
    })?;
    // serde would take a list for a struct, field by field.
    if !text.trim_ascii_start().starts_with('{') {
        check_json(text)?;
        return Err(Problem::field(code, "", "the body must be a JSON object"));
    }
    // Nesting is limited by serde_json itself, to 128 levels.
    let mut json = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut json);
    let value = match value {
        Ok(value) => value,
        Err(error) => {
            // The error's own category is no help: a number in place of a name is a syntax
            // error to it.
            check_json(text)?;
            let message = error.inner().to_string();
            return Err(Problem::field(code, &pointer(error.path(), &message), message));
        }
    };
    json.end().map_err(|error| {
        Problem::new(Code::InvalidJson, format!("something follows the JSON body: {error}"))
    })?;
    Ok(value)
}

/// Reads a body that may be empty, and then is `T`'s default.
pub fn parse_optional<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, Problem> {
    if body.is_empty() { Ok(T::default()) } else { parse(body, Code::InvalidBody) }
}

fn check_json(text: &str) -> Result<(), Problem> {
    serde_json::from_str::<IgnoredAny>(text)
        .map(|_| ())
        .map_err(|error| Problem::new(Code::InvalidJson, format!("the body is not JSON: {error}")))
}

/// The JSON pointer (RFC 6901) of a path. A field that is missing or given twice is told
/// at its parent, with its name in the message only.
fn pointer(path: &Path, message: &str) -> String {
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => push(&mut pointer, &index.to_string()),
            Segment::Map { key } | Segment::Enum { variant: key } => push(&mut pointer, key),
            Segment::Unknown => {}
        }
    }
    let named = ["missing field `", "duplicate field `"]
        .iter()
        .find_map(|start| message.strip_prefix(start))
        .and_then(|rest| rest.split('`').next());
    if let Some(name) = named {
        push(&mut pointer, name);
    }
    pointer
}

fn push(pointer: &mut String, key: &str) {
    pointer.push('/');
    pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "it is only read into")]
    struct Outer {
        name: String,
        #[serde(default)]
        list: Vec<u8>,
    }

    fn said(body: &[u8]) -> String {
        format!("{:?}", parse::<Outer>(body, Code::InvalidBody).unwrap_err())
    }

    #[test]
    fn the_place_of_what_is_wrong_is_named() {
        assert!(said(br#"{"name":1}"#).contains(r#""/name""#));
        assert!(said(br#"{"name":"a","list":[1,2,"x"]}"#).contains(r#""/list/2""#));
        assert!(said(br#"{"name":"a","a/b":1}"#).contains(r#""/a~1b""#));
        assert!(said(b"{}").contains(r#""/name""#));
        assert!(said(br#"{"name":"a","name":"b"}"#).contains(r#""/name""#));
        assert!(said(b"[1]").contains("InvalidBody"));
        for bad in [&b"{"[..], b"", b"\xff", b"{} {}", b"{\"name\":\"a\"} x", b"{\"name\":\"\xff\"}"] {
            let said = said(bad);
            assert!(said.contains("InvalidJson") || said.contains("/name"), "{said}");
        }
        let deep = [b"{\"name\":".as_slice(), &vec![b'['; 100_000]].concat();
        assert!(said(&deep).contains("Invalid"));
    }
}
