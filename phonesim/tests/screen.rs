//! Screenshots of the real program, and what `wm` changes about them.

mod support;

use std::fs;

use support::Phone;

const ON: &[(&str, &str)] = &[
    ("init.svc.zygote", "running"),
    ("sys.system_server.start_count", "1"),
    ("ro.boot.redroid_width", "720"),
    ("ro.boot.redroid_height", "1280"),
];

/// Width and height as the header of a PNG says.
fn png_size(image: &[u8]) -> (u32, u32) {
    assert!(image.starts_with(b"\x89PNG\r\n\x1a\n"));
    assert!(image.ends_with(b"IEND\xaeB`\x82"));
    let number = |at: usize| u32::from_be_bytes(image[at..at + 4].try_into().expect("four bytes are four"));
    (number(16), number(20))
}

#[test]
fn a_screenshot_has_the_size_of_the_screen() {
    let phone = Phone::with_screen(ON);
    assert_eq!(png_size(&phone.run(&["screencap", "-p"]).stdout), (720, 1280));

    let file = phone.path("shot.png");
    let shot = phone.run(&["screencap", "-p", file.to_str().unwrap()]);
    assert!(shot.status.success() && shot.stdout.is_empty());
    assert_eq!(png_size(&fs::read(&file).unwrap()), (720, 1280));

    assert!(phone.run(&["wm", "size", "300x200"]).status.success());
    assert_eq!(png_size(&phone.run(&["screencap"]).stdout), (300, 200));
    assert!(phone.run(&["wm", "size", "reset"]).status.success());
    assert_eq!(png_size(&phone.run(&["screencap"]).stdout), (720, 1280));
    assert!(!phone.run(&["screencap", "-p", "/no/such/file"]).status.success());
}

#[test]
fn phones_can_be_told_apart_by_their_screenshots() {
    let pixels = |serial: &str| {
        let phone = Phone::with_screen(&[ON, &[("ro.serialno", serial)]].concat());
        phone.run(&["screencap", "-p"]).stdout
    };
    assert_ne!(pixels("cp-1"), pixels("cp-2"));
}
