//! `phonefleet config`: which controller is asked, and for whom.

use crate::arguments::Global;
use crate::client::address::Address;
use crate::configuration::{Configuration, Context, File, Set, path};
use crate::failure::Failure;
use crate::output::Shown;
use crate::output::page::{Cell, Page};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what is in force, and where it comes from
    Show,
    /// List the contexts of the file
    Contexts,
    /// Make or change a context: --controller, --user and --agent are what it holds
    SetContext(SetContext),
    /// Use a context from now on
    UseContext(Named),
    /// Remove a context
    DeleteContext(Named),
}

/// Which context to make.
#[derive(Debug, Args)]
pub struct SetContext {
    /// Its name
    name: String,
    /// Use it from now on; the first context is used anyway
    #[arg(long = "use")]
    use_it: bool,
}

/// Which context.
#[derive(Debug, Args)]
pub struct Named {
    /// Its name
    name: String,
}

/// Carries it out.
///
/// # Errors
/// Files that cannot be read or written, and contexts that are not there.
pub fn run(command: Command, global: &Global) -> Result<(), Failure> {
    let shown = match command {
        Command::Show => show(&Configuration::load(global.flags())?),
        Command::Contexts => contexts(&File::read(&path()?)?),
        Command::SetContext(set) => set_context(&set, global)?,
        Command::UseContext(Named { name }) => change(|file| {
            known(file, &name)?;
            file.current_context = Some(name.clone());
            Ok(format!("context {name} is in use"))
        })?,
        Command::DeleteContext(Named { name }) => change(|file| {
            known(file, &name)?;
            file.contexts.remove(&name);
            if file.current_context.as_ref() == Some(&name) {
                file.current_context = None;
            }
            Ok(format!("context {name} is gone"))
        })?,
    };
    Ok(global.printer().show(&shown)?)
}

fn known(file: &File, name: &str) -> Result<(), Failure> {
    if file.contexts.contains_key(name) {
        return Ok(());
    }
    let names: Vec<_> = file.contexts.keys().map(String::as_str).collect();
    let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    Err(Failure::NotFound(format!(
        "there is no context {name:?} (known: {known}); make it: phonefleet config set-context {name} \
         --controller URL"
    )))
}

fn change(edit: impl FnOnce(&mut File) -> Result<String, Failure>) -> Result<Shown, Failure> {
    let path = path()?;
    let mut file = File::read(&path)?;
    let done = edit(&mut file)?;
    file.write(&path)?;
    Ok(Shown { page: Page::line(done), value: contexts(&file).value })
}

fn set_context(set: &SetContext, global: &Global) -> Result<Shown, Failure> {
    let Global { controller, user, agent, .. } = global;
    if controller.is_none() && user.is_none() && agent.is_none() {
        return Err(Failure::Usage(
            "name what the context holds: --controller URL, --user USER, --agent URL".to_owned(),
        ));
    }
    for (address, name) in [(controller, "--controller"), (agent, "--agent")] {
        if let Some(address) = address {
            Address::parse(address, name)?;
        }
    }
    change(|file| {
        let first = file.contexts.is_empty();
        let context = file.contexts.entry(set.name.clone()).or_default();
        for (field, value) in
            [(&mut context.controller, controller), (&mut context.user, user), (&mut context.agent, agent)]
        {
            if value.is_some() {
                field.clone_from(value);
            }
        }
        if set.use_it || first {
            file.current_context = Some(set.name.clone());
        }
        let used = if file.current_context.as_ref() == Some(&set.name) { ", and in use" } else { "" };
        Ok(format!("context {} is written{used}", set.name))
    })
}

fn show(configuration: &Configuration) -> Shown {
    let Configuration { path, context, controller, user, agent } = configuration;
    let text = |set: &Set<String>| (set.value.clone(), set.origin.to_string());
    let address = |set: &Set<Address>| (set.value.to_string(), set.origin.to_string());
    let missing = || ("-".to_owned(), "default".to_owned());
    let rows = [
        ("context", context.as_ref().map_or_else(missing, text)),
        ("controller", address(controller)),
        ("user", user.as_ref().map_or_else(missing, text)),
        ("agent", address(agent)),
    ];
    let there = if path.exists() { "" } else { " (not there)" };
    let mut page = Page::line(format!("file: {}{there}", path.display()));
    let table = rows
        .iter()
        .map(|(name, (value, origin))| vec![Cell::from(*name), value.as_str().into(), origin.as_str().into()])
        .collect();
    page.add_table(&["KEY", "VALUE", "FROM"], table, "");
    let mut value = Map::new();
    value.insert("file".to_owned(), json!(path));
    for (name, (text, origin)) in rows {
        let text = if text == "-" { Value::Null } else { Value::String(text) };
        value.insert(name.to_owned(), json!({"value": text, "from": origin}));
    }
    Shown { value: Value::Object(value), page }
}

fn contexts(file: &File) -> Shown {
    let current = |name: &str| file.current_context.as_deref() == Some(name);
    let rows = file
        .contexts
        .iter()
        .map(|(name, Context { controller, user, agent })| {
            vec![
                Cell::from(if current(name) { "*" } else { "" }),
                name.as_str().into(),
                Cell::or_dash(controller.as_ref()),
                Cell::or_dash(user.as_ref()),
                Cell::or_dash(agent.as_ref()),
            ]
        })
        .collect();
    let empty = "no contexts; make one: phonefleet config set-context NAME --controller URL";
    let value = json!({"currentContext": file.current_context, "contexts": file.contexts});
    Shown { value, page: Page::table(&["", "NAME", "CONTROLLER", "USER", "AGENT"], rows, empty) }
}
