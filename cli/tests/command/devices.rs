//! `phonefleet device`.

use crate::fixture::Served;
use serde_json::json;

#[test]
fn a_phone_is_ordered_listed_and_shown() {
    let served = Served::new();
    let text =
        served.run(&["device", "create", "pixel", "-u", "alice", "--memory", "2048", "-l", "a=b"]).ok();
    assert!(
        text.starts_with("device pixel (") && text.contains(") is CREATING\nfollow it: phonefleet saga"),
        "{text}"
    );
    served.order("bob", "tablet");
    served.settle();

    let text = served.run(&["device", "list"]).ok();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["USER", "NAME", "STATUS", "HOST", "ADB", "AGE", "ID"]);
    assert_eq!(lines[1][..5], ["alice", "pixel", "RUNNING", "host-1", "127.0.0.1:20000"]);
    assert_eq!(lines[2][..5], ["bob", "tablet", "RUNNING", "host-1", "127.0.0.1:20001"]);
    assert_eq!(lines.len(), 3);

    let text = served.run(&["device", "list", "--user", "alice"]).ok();
    assert!(text.starts_with("NAME ") && !text.contains("tablet"), "{text}");
    let text = served.run(&["device", "list", "--user", "alice", "--all-users", "--status", "running"]).ok();
    assert!(text.contains("tablet"), "{text}");
    let text = served.run(&["device", "list", "--status", "ERROR"]).ok();
    assert!(text.starts_with("no devices; order one"), "{text}");

    let one = served.run(&["device", "get", "pixel", "-o", "json"]).json();
    assert_eq!((&one["memoryMB"], &one["labels"]), (&json!(2048), &json!({"a": "b"})));
    let id = one["id"].as_str().unwrap();
    for name in [id, "alice/pixel"] {
        assert_eq!(served.run(&["device", "get", name, "-o", "json"]).json()["id"], one["id"]);
    }
    let yaml = served.run(&["device", "get", id, "-o", "yaml"]).ok();
    assert!(yaml.contains("\nname: pixel\n") && yaml.contains("\n  a: b\n"), "{yaml}");
    let text = served.run(&["device", "get", id]).ok();
    assert!(
        text.contains("adb:         127.0.0.1:20000\n") && text.contains("screen:      720x1280"),
        "{text}"
    );
}

#[test]
fn a_name_that_means_several_lists_them() {
    let served = Served::new();
    let (alice, _) = served.order("alice", "pixel");
    let (bob, _) = served.order("bob", "pixel");
    let error = served.run(&["device", "get", "pixel"]).failed(2);
    assert_eq!(
        error,
        format!(
            "phonefleet: 2 devices are named \"pixel\"; name one of them by USER/NAME or id:\n  \
             alice/pixel  {alice}  CREATING\n  bob/pixel  {bob}  CREATING\n"
        )
    );
    for arguments in
        [["device", "get", "pixel", "--user", "bob"], ["device", "get", "bob/pixel", "--user", "alice"]]
    {
        let one = served.run(&[&arguments[..], &["-o", "json"]].concat()).json();
        assert_eq!(one["id"], bob);
    }
    let error = served.run(&["device", "get", "pixel", "--user", "carol"]).failed(3);
    assert!(error.contains("user carol has no device named \"pixel\""), "{error}");
    let error = served.run(&["device", "get", "01990000-0000-7000-8000-000000000000"]).failed(3);
    assert!(error.contains("DEVICE_NOT_FOUND"), "{error}");
}

#[test]
fn what_cannot_be_ordered_says_which_argument_to_mend() {
    let served = Served::new();
    let error = served.run(&["device", "create", "pixel"]).failed(2);
    assert!(error.contains("--user USER") && error.contains("set-context"), "{error}");
    let error = served.run(&["device", "create", "pi xel", "-u", "alice", "--memory", "1"]).failed(2);
    assert!(error.contains("(INVALID_SPEC)\n"), "{error}");
    assert!(error.contains("/name: name must have") && error.contains("[NAME]\n"), "{error}");
    assert!(error.contains("/memoryMB: ") && error.contains("[--memory]\n"), "{error}");
    // clap's own.
    for arguments in
        [&["device"][..], &["device", "create"], &["nonsense"], &["device", "create", "a", "--dpi", "x"]]
    {
        served.run(arguments).failed(2);
    }
    served.order("alice", "pixel");
    let error = served.run(&["device", "create", "pixel", "-u", "alice"]).failed(4);
    assert!(error.contains("already [NAME]"), "{error}");
}

#[test]
fn no_room_has_a_code_of_its_own() {
    let served = Served::new();
    served.run(&["quota", "set", "alice", "--max-devices", "1"]).ok();
    served.order("alice", "a");
    let error = served.run(&["device", "create", "b", "-u", "alice"]).failed(5);
    assert!(
        error.contains("QUOTA_EXCEEDED") && error.contains("raise maxDevices: phonefleet quota set"),
        "{error}"
    );
    let error = served.run(&["device", "create", "b", "-u", "bob", "--cpu", "100"]).failed(5);
    assert!(error.contains("NO_CAPACITY") && error.contains("phonefleet host list"), "{error}");
}

#[test]
fn verbs_take_several_phones_and_tell_each_failure() {
    let served = Served::new();
    let (first, _) = served.order("alice", "a");
    served.order("alice", "b");
    let error = served.run(&["device", "stop", first.as_str()]).failed(4);
    assert!(
        error.contains("CONFLICT") && error.contains("follow it: phonefleet saga events saga_"),
        "{error}"
    );
    served.settle();
    let ran = served.run(&["device", "stop", "a", "nobody", "b", "-o", "json"]);
    assert!(ran.err.contains("nobody: nobody has a device named \"nobody\""), "{ran:?}");
    assert!(ran.err.ends_with("phonefleet: 1 of 3 failed\n") && ran.code == 3, "{ran:?}");
    let stopped: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let names: Vec<_> = stopped.as_array().unwrap().iter().map(|one| &one["device"]["name"]).collect();
    assert_eq!(names, ["a", "b"]);
    // Repeated, a deletion is the same deletion.
    let gone = served.run(&["device", "delete", "a", "-o", "json"]).json();
    let again = served.run(&["device", "rm", &first, "-o", "json"]).json();
    assert_eq!(
        (gone["sagaId"].as_str(), &gone["device"]["status"]),
        (again["sagaId"].as_str(), &json!("DELETING"))
    );
}

#[test]
fn a_key_makes_an_order_take_effect_once() {
    let served = Served::new();
    let order = ["device", "create", "pixel", "-u", "alice", "--idempotency-key", "k-1", "-o", "json"];
    let (first, second) = (served.run(&order).json(), served.run(&order).json());
    assert_eq!(first["sagaId"], second["sagaId"]);
    let other = ["device", "create", "other", "-u", "alice", "--idempotency-key", "k-1"];
    assert!(served.run(&other).failed(4).contains("IDEMPOTENCY_KEY_REUSED"));
}

#[test]
fn a_phone_is_explained() {
    let served = Served::new();
    let (id, saga) = served.order("alice", "pixel");
    served.settle();
    let text = served.run(&["device", "explain", "pixel"]).ok();
    for part in [
        format!("Device pixel ({id}) of alice is RUNNING on host host-1: it has booted and answers."),
        "Host host-1 is ONLINE, last heard ".to_owned(),
        "It holds 1 device and takes 3.".to_owned(),
        "(adb connect 127.0.0.1:20000)".to_owned(),
        format!("Its newest saga, {saga} (DEVICE_CREATION), is COMPLETED"),
        "it begins with ALLOCATE_PORTS".to_owned(),
    ] {
        assert!(text.contains(&part), "{part} is not in\n{text}");
    }
    let all = served.run(&["device", "explain", "pixel", "-o", "json"]).json();
    assert_eq!((all["device"]["id"].as_str(), all["saga"]["sagaId"].as_str()), (Some(&*id), Some(&*saga)));
    assert_eq!((&all["host"]["id"], &all["events"][0]["kind"]), (&json!("host-1"), &json!("started")));
}
