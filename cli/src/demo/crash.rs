//! The agent is killed while it records one phone and makes another; and what comes of it.

use super::engine_socket::Running;
use super::film;
use super::house::{House, Part};
use super::image::Image;
use super::phones::{self, Phone};
use super::voice::Voice;
use crate::client::call::Call;
use crate::failure::Failure;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long the agent stays dead: long enough to be seen.
const DEAD: Duration = Duration::from_secs(2);
/// Of a recording, before the agent dies.
const BEFORE: Duration = Duration::from_secs(1);
/// Shortest recording.
const RECORDED: Duration = Duration::from_secs(5);

/// Shows it; returns the phones, one more than before.
///
/// # Errors
/// Anything that was lost.
pub async fn run(
    house: &mut House,
    voice: &mut Voice,
    image: &Image,
    mut phones: Vec<Phone>,
) -> Result<Vec<Phone>, Failure> {
    let Some(first) = phones.first().cloned() else { return Ok(phones) };
    voice.heading("A phone is recorded, and its agent is killed");
    let folder = film::output_folder(house, voice);
    film::screenshot(house, voice, &first, &folder).await?;
    let recording = film::begin(house, voice, &first).await?;
    let began = Instant::now();
    sleep(BEFORE).await;

    let before = processes(house, &phones).await?;
    let order = phones::order(house, image, &format!("phone-{}", phones.len() + 1)).await?;
    voice.line(&format!("  {} is ordered, and accepted as {}", order.name, order.saga));
    let killed = house.pid(Part::Agent);
    house.kill(Part::Agent).await;
    let died = Instant::now();
    voice.line(&format!("  kill -9 {killed}: the agent is dead"));
    while died.elapsed() < DEAD {
        let so_long = died.elapsed().as_secs_f64();
        voice.live(&format!("the agent is dead for {so_long:.1} s; phones run, one is recorded"));
        sleep(Duration::from_millis(100)).await;
    }
    same(house, voice, &phones, &before, "while it is dead").await?;

    house.start(Part::Agent)?;
    let pid = house.pid(Part::Agent);
    house.until_online(voice).await?;
    let away = died.elapsed();
    voice.line(&format!("  agent {pid} is there in its place, after {:.1} s", away.as_secs_f64()));
    let made = phones::follow(house, voice, &[order]).await?;
    same(house, voice, &phones, &before, "after its return").await?;
    outbox(house, voice).await?;
    while began.elapsed() < RECORDED {
        voice.live(&format!("the recording goes on, {:.0} s", began.elapsed().as_secs_f64()));
        sleep(Duration::from_millis(100)).await;
    }
    film::finish(house, voice, &first, &recording, away, &folder).await?;
    phones.extend(made);
    Ok(phones)
}

async fn processes(house: &House, phones: &[Phone]) -> Result<Vec<Running>, Failure> {
    let mut found = Vec::new();
    for phone in phones {
        let running = house.process_of(phone).await?;
        found.push(running.ok_or_else(|| Failure::Failed(format!("{} does not run", phone.name)))?);
    }
    Ok(found)
}

async fn same(
    house: &House,
    voice: &mut Voice,
    phones: &[Phone],
    before: &[Running],
    when: &str,
) -> Result<(), Failure> {
    let now = processes(house, phones).await?;
    for ((phone, was), is) in phones.iter().zip(before).zip(&now) {
        if was != is {
            return Err(Failure::Failed(format!(
                "{} was touched: it is process {} since {}, and was {} since {}",
                phone.name, is.pid, is.since, was.pid, was.since
            )));
        }
        voice.line(&format!("  {} {when}: process {}, the same as before", phone.name, is.pid));
    }
    Ok(())
}

/// Everything that happened was told to the controller.
async fn outbox(house: &mut House, voice: &mut Voice) -> Result<(), Failure> {
    let agent = house.agent_api()?;
    let told = house
        .until("every event of the agent is with the controller", voice, async || {
            let Ok(status) = agent.json(Call::get("/status")).await else { return Ok(None) };
            let empty = status["snapshot"]["outboxPending"] == 0;
            Ok(empty.then(|| status["link"]["acknowledged"].as_u64().unwrap_or_default()))
        })
        .await?;
    voice.line(&format!("  its outbox: 0 events wait, the controller has all {told}"));
    Ok(())
}
