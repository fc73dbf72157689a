//! What is shown, from the first line to the commands to try.

use super::Demo;
use super::crash;
use super::engine::{self, Runtime};
use super::house::{House, Part, USER};
use super::image;
use super::phones;
use super::predecessor;
use super::surroundings::program;
use super::voice::Voice;
use crate::failure::Failure;
use std::fmt::Write as _;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between two looks at the daemons while the user tries things out.
const LOOK: Duration = Duration::from_millis(500);

/// Shows everything, and stays unless it is only for once. `shown` is set when all that
/// follows is staying.
///
/// # Errors
/// What keeps it from being shown.
pub async fn run(house: &mut House, voice: &mut Voice, demo: &Demo, shown: &mut bool) -> Result<(), Failure> {
    let began = Instant::now();
    voice.heading("A fleet on this machine");
    voice.line(&format!("Folder: {} (logs, databases, configuration)", house.folder().display()));
    predecessor::take_down(voice).await;
    let runtime = engine::find(house, voice).await?;
    if let Runtime::Engine(engine) = &runtime
        && !house.own_engine
    {
        house.lodging.note(|record| record.engine = Some(engine.path().to_owned()))?;
    }
    house.runtime = Some(runtime.clone());
    let image = image::find(&runtime, house, voice).await?;
    house.start_daemons(&image, demo.phones, voice).await?;
    let seconds = began.elapsed().as_secs_f64();
    voice.line(&format!(
        "Daemons: broker {}, controller {}, agent {}: ready after {seconds:.1} s",
        house.pid(Part::Broker),
        house.pid(Part::Controller),
        house.pid(Part::Agent)
    ));

    let word = if demo.phones == 1 { "phone is" } else { "phones are" };
    voice.heading(&format!("{} {word} ordered", demo.phones));
    let mut orders = Vec::new();
    for number in 1..=demo.phones {
        orders.push(phones::order(house, &image, &format!("phone-{number}")).await?);
    }
    let phones = phones::follow(house, voice, &orders).await?;
    show_table(house, voice, &phones).await?;
    let phones = crash::run(house, voice, &image, phones).await?;
    show_table(house, voice, &phones).await?;

    voice.heading(if demo.once {
        "Without --once it would stay, and you could try in another terminal"
    } else {
        "Try it yourself, in another terminal"
    });
    voice.block(&suggestions(house, &phones)?);
    if demo.once {
        return Ok(());
    }
    *shown = true;
    voice.line("\nCtrl-C ends it and takes everything down.");
    stay(house, voice).await
}

async fn show_table(house: &House, voice: &mut Voice, phones: &[phones::Phone]) -> Result<(), Failure> {
    let page = phones::table(house, phones).await?;
    voice.block(&format!("\n{}", page.render(house.session()?.printer.color)));
    Ok(())
}

fn suggestions(house: &House, phones: &[phones::Phone]) -> Result<String, Failure> {
    let session = house.session()?;
    let (controller, agent) = (&session.configuration.controller.value, &session.configuration.agent.value);
    let command = match program("phonefleet") {
        Some(_) => "phonefleet".to_owned(),
        None => {
            std::env::current_exe().map_or_else(|_| "phonefleet".to_owned(), |own| own.display().to_string())
        }
    };
    let mut text = format!(
        "  export PHONEFLEET_CONTROLLER={controller} PHONEFLEET_USER={USER}\n  export PHONEFLEET_AGENT={agent}\n"
    );
    let mut line = |what: &str| {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "  {what}");
    };
    if command != "phonefleet" {
        line(&format!("alias phonefleet={command}"));
    }
    line("phonefleet device list");
    if let Some(phone) = phones.first() {
        let (name, address) = (&phone.name, &phone.address);
        line(&format!("phonefleet device explain {name}"));
        line(&format!("phonefleet saga explain {name}"));
        line(&format!("phonefleet recording start {name} --duration 5s --wait"));
        line(&format!("adb connect {address}"));
        line(&format!("adb -s {address} shell getprop ro.product.model"));
    }
    line("phonefleet host list");
    line(&format!("curl -s {controller}/devices  # also /sagas /metrics /openapi.json"));
    line(&format!("curl -s {agent}/status"));
    for (part, what) in [
        (Part::Agent, "the agent; what is killed, the demo starts again"),
        (Part::Controller, "the controller"),
        (Part::Broker, "the broker"),
    ] {
        line(&format!("kill -9 {:<7}  # {what}", house.pid(part)));
    }
    Ok(text)
}

/// Stays until a signal ends the show; daemons that somebody kills are started again.
async fn stay(house: &mut House, voice: &mut Voice) -> Result<(), Failure> {
    loop {
        sleep(LOOK).await;
        if house.child(Part::Engine).is_some_and(|engine| engine.ended().is_some()) {
            return Err(Failure::Failed("the container engine ended by itself".to_owned()));
        }
        for revived in house.revive()? {
            voice.line(&format!("{revived} is started again"));
        }
    }
}
