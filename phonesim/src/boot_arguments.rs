//! The boot line: what the container's command says, as Redroid's init understands it.
//!
//! Redroid reads `/proc/self/cmdline`, turns every NUL into a space and splits at spaces, so
//! an argument that holds a space falls apart. Of the pieces only those with exactly one `=`
//! count. All of the result are properties; whoever needs a setting reads the property.

use crate::properties::is_name;

/// The bytes of a `/proc/PID/cmdline` as properties to set, in order. Of a property named
/// twice the first wins, since they are all read-only.
pub fn properties(command_line: &[u8]) -> Vec<(String, String)> {
    let line = String::from_utf8_lossy(command_line).replace('\0', " ");
    let mut properties = Vec::new();
    for piece in line.split(' ') {
        let Some((key, value)) = piece.split_once('=') else {
            continue;
        };
        if value.contains('=') {
            continue;
        }
        if let Some(name) = key.strip_prefix("androidboot.") {
            properties.push((format!("ro.boot.{name}"), value.to_owned()));
            if matches!(name, "serialno" | "hardware") {
                properties.push((format!("ro.{name}"), value.to_owned()));
            }
        } else if key.starts_with("ro.") {
            properties.push((key.to_owned(), value.to_owned()));
        }
    }
    properties.retain(|(name, _)| is_name(name));
    properties
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Vec<(String, String)> {
        properties(line.as_bytes())
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn the_boot_line_of_redroid() {
        assert_eq!(
            parsed(
                "/init\0qemu=1\0androidboot.hardware=redroid\0androidboot.redroid_width=720\0\
                 ro.product.model=Pixel\0"
            ),
            [
                pair("ro.boot.hardware", "redroid"),
                pair("ro.hardware", "redroid"),
                pair("ro.boot.redroid_width", "720"),
                pair("ro.product.model", "Pixel"),
            ]
        );
    }

    #[test]
    fn the_serial_number_is_known_twice() {
        assert_eq!(
            parsed("androidboot.serialno=cp-1"),
            [pair("ro.boot.serialno", "cp-1"), pair("ro.serialno", "cp-1")]
        );
    }

    #[test]
    fn a_value_with_a_space_falls_apart_and_a_second_equals_sign_drops_it() {
        assert_eq!(
            parsed("ro.product.model=Pixel 7 Pro\0ro.a=b=c\0ro.d=\0androidboot.x\0sys.y=1"),
            [pair("ro.product.model", "Pixel"), pair("ro.d", "")]
        );
    }

    #[test]
    fn what_is_no_property_name_is_dropped() {
        assert_eq!(parsed("ro./etc=1\0androidboot...=1\0=\0=1"), []);
    }
}
