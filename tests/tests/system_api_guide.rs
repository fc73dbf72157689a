//! Every example of `docs/api.md`, run from top to bottom by a shell against a real fleet;
//! every answer has the shape of the one that the page shows.

use phonefleet_tests::real::World;
use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Where the page says that the controller is.
const ADDRESS: &str = "http://127.0.0.1:30002";
/// Between what two blocks print.
const MARK: &str = "----phonefleet-block----";

/// A block of commands, and the answer that the page shows after it.
struct Example {
    line: usize,
    commands: String,
    answer: Option<Value>,
}

fn examples(page: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut lines = page.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(kind) = line.strip_prefix("```").filter(|kind| !kind.is_empty()) else { continue };
        let block: Vec<&str> =
            lines.by_ref().map(|(_, line)| line).take_while(|line| !line.starts_with("```")).collect();
        let text = block.join("\n");
        match kind {
            "sh" => examples.push(Example { line: number + 1, commands: text, answer: None }),
            "json" => {
                let answer = serde_json::from_str(&text)
                    .unwrap_or_else(|error| panic!("line {}: this is not JSON: {error}", number + 1));
                let example = examples.last_mut().expect("an answer follows its commands");
                assert!(example.answer.is_none(), "line {}: a second answer", number + 1);
                example.answer = Some(answer);
            }
            other => panic!("line {}: a block of kind {other:?}", number + 1),
        }
    }
    examples
}

/// What is wrong with an answer beside the one shown. `"…": "…"` in an object stands for
/// further fields, `null` for anything that may be missing; codes and truths are compared.
fn differs(shown: &Value, real: &Value, path: &str) -> Option<String> {
    match (shown, real) {
        (Value::Null, _) => None,
        (Value::Object(shown), Value::Object(real)) => {
            let open = shown.contains_key("…");
            if let Some(name) = real.keys().find(|name| !open && !shown.contains_key(*name)) {
                return Some(format!("{path}/{name} is not shown"));
            }
            shown.iter().filter(|(name, _)| *name != "…").find_map(|(name, value)| match real.get(name) {
                Some(found) => differs(value, found, &format!("{path}/{name}")),
                None => Some(format!("{path}/{name} is not there")),
            })
        }
        (Value::Array(shown), Value::Array(real)) => {
            if real.len() < shown.len() || shown.is_empty() && !real.is_empty() {
                return Some(format!("{path} has {} items", real.len()));
            }
            let mut pairs = shown.iter().zip(real).enumerate();
            pairs.find_map(|(index, (shown, real))| differs(shown, real, &format!("{path}/{index}")))
        }
        (Value::String(shown), Value::String(real)) => {
            let code = shown.starts_with(|first: char| first.is_ascii_uppercase())
                && !shown.contains(|letter: char| letter.is_ascii_digit())
                || shown.starts_with("urn:")
                || shown.contains(": COMPLETED");
            (code && shown != real).then(|| format!("{path} is {real:?}, shown is {shown:?}"))
        }
        (Value::Bool(shown), Value::Bool(real)) => {
            (shown != real).then(|| format!("{path} is {real}, shown is {shown}"))
        }
        (Value::Number(shown), Value::Number(real)) => {
            // What is counted is right to the digit; what is measured differs with each run.
            let varies = ["ageSeconds", "retryCount"].iter().any(|name| path.ends_with(name));
            let counted = shown.as_u64().is_some_and(|number| number < 10) && !varies;
            (counted && shown != real).then(|| format!("{path} is {real}, shown is {shown}"))
        }
        (shown, real) => Some(format!("{path} is {real}, shown is {shown}")),
    }
}

#[test]
fn every_example_of_the_guide_is_true() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api.md");
    let page = std::fs::read_to_string(path).expect("docs/api.md");
    let examples = examples(&page);
    assert!(examples.len() > 20, "{} examples", examples.len());
    let Some(world) = World::start() else { return };

    // One shell for all, so that what an example sets is there for the next.
    let mut script = "set -eu -o pipefail\n".to_owned();
    for example in &examples {
        let _ = writeln!(script, "echo; echo {MARK}\n{}", example.commands);
    }
    let script = script.replace(ADDRESS, &format!("http://{}", world.api.address));
    let output = Command::new("timeout")
        .args(["180", "bash", "-c", &script])
        .current_dir(&world.folder)
        .stdin(Stdio::null())
        .output()
        .expect("bash runs");
    let told = String::from_utf8_lossy(&output.stdout);
    let answers: Vec<&str> = told.split(MARK).skip(1).collect();
    let last = examples.get(answers.len().saturating_sub(1)).map_or(0, |example| example.line);
    assert!(
        output.status.success(),
        "the example at line {last} ended with {}:\n{}{}",
        output.status,
        answers.last().unwrap_or(&""),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(answers.len(), examples.len());
    let mut wrong = String::new();
    for (example, said) in examples.iter().zip(answers) {
        let Some(shown) = &example.answer else { continue };
        let difference = match serde_json::from_str::<Value>(said) {
            Ok(real) => differs(shown, &real, "").map(|difference| format!("{difference}; really: {real}")),
            Err(error) => Some(format!("{error}: {said}")),
        };
        if let Some(difference) = difference {
            let _ = writeln!(wrong, "docs/api.md, line {}: {difference}", example.line);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    let video = std::fs::read(world.folder.join("video.mp4")).expect("the video");
    assert_eq!(video.get(4..8), Some(b"ftyp".as_slice()));
    world.clean();
}

#[test]
fn differences_are_found() {
    let json = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    for (shown, real, differs_at) in [
        (r#"{"a":1}"#, r#"{"a":1}"#, None),
        (r#"{"a":1}"#, r#"{"a":1,"b":2}"#, Some("/b is not shown")),
        (r#"{"a":1,"…":"…"}"#, r#"{"a":1,"b":2}"#, None),
        (r#"{"a":1,"b":2}"#, r#"{"a":1}"#, Some("/b is not there")),
        (r#"{"a":null}"#, r#"{"a":"x"}"#, None),
        (r#"{"a":"x"}"#, r#"{"a":null}"#, Some("/a is null")),
        (r#"{"code":"CONFLICT"}"#, r#"{"code":"GONE"}"#, Some("/code is")),
        (r#"{"a":"x1"}"#, r#"{"a":"y2"}"#, None),
        ("[1]", "[]", Some("has 0 items")),
        ("[]", "[1]", Some("has 1 items")),
        ("true", "false", Some("is false")),
    ] {
        let found = differs(&json(shown), &json(real), "");
        match differs_at {
            None => assert_eq!(found, None),
            Some(words) => assert!(found.as_deref().is_some_and(|found| found.contains(words)), "{found:?}"),
        }
    }
}
