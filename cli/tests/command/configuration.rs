//! `phonefleet config`: contexts, and which layer wins.

use crate::fixture::{Program, Ran, Served};

#[test]
fn contexts_are_made_used_and_removed() {
    let program = Program::new("");
    let ran = program.run(&["config", "contexts"]);
    assert!(ran.ok().starts_with("no contexts; make one"));
    let set = ["config", "set-context", "local", "--controller", "http://127.0.0.1:1", "--user", "alice"];
    assert_eq!(program.run(&set).ok(), "context local is written, and in use\n");
    let set = ["config", "set-context", "far", "--controller", "http://127.0.0.1:2"];
    assert_eq!(program.run(&set).ok(), "context far is written\n");
    let file = program.home.path().join(".config/phonefleet/config.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("[contexts.far]\ncontroller = \"http://127.0.0.1:2\"\n"), "{text}");

    let text = program.run(&["config", "show"]).ok();
    assert_eq!(
        text,
        format!(
            "file: {}\n\
             KEY         VALUE               FROM\n\
             context     local               the file\n\
             controller  http://127.0.0.1:1  context local\n\
             user        alice               context local\n\
             agent       http://127.0.0.1:9  PHONEFLEET_AGENT\n",
            file.display()
        )
    );
    assert_eq!(program.run(&["config", "use-context", "far"]).ok(), "context far is in use\n");
    let show = program.run(&["config", "show", "-o", "json", "--user", "bob"]).json();
    assert_eq!(
        (&show["controller"]["value"], &show["user"]["from"]),
        (&"http://127.0.0.1:2".into(), &"--user".into())
    );
    let text = program.run(&["config", "contexts"]).ok();
    assert!(text.contains("\n*  far    http://127.0.0.1:2  -      -\n"), "{text}");
    assert_eq!(program.run(&["config", "delete-context", "far"]).ok(), "context far is gone\n");
    assert!(program.run(&["config", "use-context", "far"]).failed(3).contains("known: local"));
    assert!(program.run(&["config", "set-context", "x"]).failed(2).contains("--controller URL"));
    let https = ["config", "set-context", "x", "--controller", "https://127.0.0.1"];
    assert!(program.run(&https).failed(2).contains("SSH tunnel"));
}

#[test]
fn a_context_names_controller_and_user() {
    let served = Served::new();
    let program = Program::new("");
    let set = ["config", "set-context", "c", "--controller", &served.program.controller, "--user", "alice"];
    program.run(&set).ok();
    assert!(program.run(&["device", "create", "pixel"]).ok().starts_with("device pixel ("));
    served.order("bob", "pixel");
    // Names are the user's own.
    assert_eq!(program.run(&["device", "get", "pixel", "-o", "json"]).json()["userId"], "alice");
    // The environment is before the context.
    let mut command = program.command(&["device", "get", "pixel", "-o", "json"]);
    let ran = Ran::of(&command.env("PHONEFLEET_USER", "bob").output().unwrap());
    assert_eq!(ran.json()["userId"], "bob");
    let error = program.run(&["device", "list", "--context", "no-such"]).failed(2);
    assert!(error.contains("known: c"), "{error}");
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_stands_in_nobodys_way() {
    let program = Program::new("http://127.0.0.1:9");
    let file = program.home.path().join("broken.toml");
    std::fs::write(&file, "controler = 1\n").unwrap();
    let run = |arguments: &[&str]| {
        Ran::of(&program.command(arguments).env("PHONEFLEET_CONFIG", &file).output().unwrap())
    };
    let error = run(&["device", "list"]).failed(2);
    assert!(error.contains("broken.toml") && error.contains("controler"), "{error}");
    run(&["completions", "bash"]).ok();
    // It is not overwritten either.
    run(&["config", "set-context", "a", "--user", "b"]).failed(2);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "controler = 1\n");
}
