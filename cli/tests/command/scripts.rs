//! Completions, manual pages, help, and what else is made from the arguments.

use crate::fixture::Program;
use std::io::Write;
use std::process::{Command, Stdio};

#[test]
fn completions_are_made_for_every_shell() {
    let program = Program::new("");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = program.run(&["completions", shell]).ok();
        assert!(script.contains("phonefleet") && script.contains("uncordon"), "{shell}");
    }
    program.run(&["completions", "cobol"]).failed(2);
}

#[test]
fn bash_takes_the_script_and_completes() {
    let program = Program::new("");
    let script = program.run(&["completions", "bash"]).ok();
    let ask = "\nCOMP_WORDS=(phonefleet device st); COMP_CWORD=2; _phonefleet phonefleet st device\n\
        printf '%s\\n' \"${COMPREPLY[@]}\"\n";
    let mut bash = Command::new("bash")
        .args(["--norc", "-s"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    bash.stdin.take().unwrap().write_all((script + ask).as_bytes()).unwrap();
    let output = bash.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "start\nstop\n", "{error}");
}

#[test]
fn every_command_has_a_manual_page() {
    let program = Program::new("");
    let folder = program.home.path().join("man/man1");
    program.run(&["man", folder.to_str().unwrap()]).ok();
    let page = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    assert!(page("phonefleet.1").contains("Exit codes"));
    for name in ["phonefleet-device-create.1", "phonefleet-saga-explain.1", "phonefleet-host-forget.1"] {
        assert!(page(name).starts_with(".ie") || page(name).contains(".TH"), "{name}");
    }
    assert!(page("phonefleet-device-create.1").contains("memory"));
    // A file stands where the folder should be.
    let file = program.home.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(program.run(&["man", file.to_str().unwrap()]).failed(1).contains("cannot be written"));
}

#[test]
fn help_says_the_exit_codes() {
    let text = Program::new("").run(&["--help"]).ok();
    for part in
        ["Exit codes:", "5  the quota or the hosts have no room", "PHONEFLEET_CONTROLLER", "completions"]
    {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let version = Program::new("").run(&["--version"]).ok();
    assert_eq!(version, concat!("phonefleet ", env!("CARGO_PKG_VERSION"), "\n"));
}
