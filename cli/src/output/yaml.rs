//! JSON values as YAML 1.2 (and 1.1).
//!
//! An emitter of our own, because all that is needed is one direction for JSON's seven kinds
//! of values, and every JSON string is a double-quoted YAML scalar already: the crates for
//! YAML bring a parser, and the one that everybody used is no longer maintained.

use serde_json::Value;
use std::fmt::Write;

/// A document, with a line end at its end.
pub fn document(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => block(&mut out, value, 0),
        Value::Array(list) if !list.is_empty() => block(&mut out, value, 0),
        _ => {
            scalar(&mut out, value);
            out.push('\n');
        }
    }
    out
}

/// A mapping or sequence that is not empty, each entry on lines of its own. The first line
/// is expected to be indented already where `depth` is that of a sequence's entry.
fn block(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(map) => {
            for (index, (key, entry)) in map.iter().enumerate() {
                if index > 0 {
                    indent(out, depth);
                }
                text(out, key);
                out.push(':');
                below(out, entry, depth + 1);
            }
        }
        Value::Array(list) => {
            for (index, entry) in list.iter().enumerate() {
                if index > 0 {
                    indent(out, depth);
                }
                out.push('-');
                if is_block(entry) {
                    out.push(' ');
                    block(out, entry, depth + 1);
                } else {
                    below(out, entry, depth + 1);
                }
            }
        }
        _ => scalar(out, value),
    }
}

/// What follows a key.
fn below(out: &mut String, value: &Value, depth: usize) {
    if is_block(value) {
        out.push('\n');
        indent(out, depth);
        block(out, value, depth);
    } else {
        out.push(' ');
        scalar(out, value);
        out.push('\n');
    }
}

fn is_block(value: &Value) -> bool {
    match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => false,
    }
}

fn indent(out: &mut String, depth: usize) {
    out.extend(std::iter::repeat_n("  ", depth));
}

fn scalar(out: &mut String, value: &Value) {
    match value {
        Value::String(string) => text(out, string),
        // Empty lists and mappings, numbers, booleans and null are the same in both.
        _ => out.push_str(&value.to_string()),
    }
}

/// A string, in quotes unless it can be nothing else than a string in any version of YAML.
fn text(out: &mut String, string: &str) {
    let first = string.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte);
    // Words that mean something else; `y` and `n` are booleans in YAML 1.1.
    let words = ["y", "n", "yes", "no", "true", "false", "on", "off", "null"];
    let word = words.iter().any(|word| string.eq_ignore_ascii_case(word));
    if first && string.bytes().all(plain) && !word {
        out.push_str(string);
        return;
    }
    let quoted = Value::from(string).to_string();
    // JSON leaves these as they are, and a YAML reader or a terminal would not.
    for character in quoted.chars() {
        match character {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' => {
                // Writing into a String cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            _ => out.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_kind_of_value() {
        let value = json!({
            "empty": {}, "none": null, "list": [1, "two", [3, [4]], {"a": 1, "b": {"c": []}}, {}],
            "id": "0199", "name": "pixel-1.x", "no": "no", "odd key: %": "a: b # c\n\"d\"", "yes": true,
            "control": "\u{7f}\u{1b}[2J",
        });
        assert_eq!(
            document(&value),
            r#"control: "\u007f\u001b[2J"
empty: {}
id: "0199"
list:
  - 1
  - two
  - - 3
    - - 4
  - a: 1
    b:
      c: []
  - {}
name: pixel-1.x
"no": "no"
none: null
"odd key: %": "a: b # c\n\"d\""
"yes": true
"#
        );
        assert_eq!(document(&json!([])), "[]\n");
        assert_eq!(document(&json!("x")), "x\n");
    }
}
