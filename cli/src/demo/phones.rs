//! Phones of the demo: ordered, followed until they run, shown.

use super::engine::Runtime;
use super::house::{House, USER};
use super::image::Image;
use super::voice::Voice;
use crate::client::address::path;
use crate::client::call::{Call, Key};
use crate::failure::Failure;
use crate::follow::Story;
use crate::models::Device;
use crate::output::page::{Cell, Page};
use crate::story::saga::{at_work, outcome};
use serde_json::json;
use std::time::Duration;
use tokio::time::sleep;

/// Between two looks at sagas.
const LOOK: Duration = Duration::from_millis(100);
/// Steps of the creation of a device.
const STEPS: usize = 5;

/// An order that was accepted.
#[derive(Clone, Debug)]
pub struct Order {
    /// Name of the phone.
    pub name: String,
    /// Its id.
    pub device: String,
    /// The saga that makes it.
    pub saga: String,
}

/// A phone that runs.
#[derive(Clone, Debug)]
pub struct Phone {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Where `adb connect` finds it.
    pub address: String,
    /// What it runs in.
    pub container: String,
}

/// Orders a phone, as any user would.
///
/// # Errors
/// Refusals.
pub async fn order(house: &House, image: &Image, name: &str) -> Result<Order, Failure> {
    let client = &house.session()?.client;
    let body = json!({
        "name": name, "userId": USER, "providerType": "REDROID", "cpuCores": image.cpu, "memoryMB": image.memory,
    });
    let accepted = client.data(Call::post("/devices", Some(body), Key::given_or_new(None))).await?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    Ok(Order {
        name: name.to_owned(),
        device: text(&accepted["device"]["id"]),
        saga: text(&accepted["sagaId"]),
    })
}

/// Follows orders until every phone runs, and tells their steps as they happen.
///
/// # Errors
/// A saga that ends otherwise, and daemons that end meanwhile.
pub async fn follow(house: &mut House, voice: &mut Voice, orders: &[Order]) -> Result<Vec<Phone>, Failure> {
    let session = house.session()?.clone();
    let mut stories: Vec<_> =
        orders.iter().map(|order| (order, Story::new(&session.client, &order.saga))).collect();
    let mut done = vec![0; orders.len()];
    let mut resting = vec![false; orders.len()];
    while resting.contains(&false) {
        let mut at = String::new();
        for (index, (order, story)) in stories.iter_mut().enumerate() {
            if resting[index] {
                continue;
            }
            let name = &order.name;
            let told = story
                .tell(|when, _, what| voice.hanging(&format!("  {name:<9} {when:>7}  {what}"), 21))
                .await;
            let (saga, _) = told?;
            resting[index] = saga.rests();
            done[index] = saga.step_index as usize;
            if saga.status == "COMPLETED" {
                done[index] = STEPS;
            } else if saga.rests() {
                return Err(Failure::Failed(format!("{name} was not made: {}", outcome(&saga))));
            } else if at.is_empty() {
                at = format!("{name}: {}", at_work(&saga, session.now()));
            }
        }
        if let Some(fallen) = house.fallen() {
            return Err(Failure::Failed(format!("{fallen} while phones were made")));
        }
        voice.bar(done.iter().sum(), STEPS * orders.len(), &at);
        sleep(LOOK).await;
    }
    voice.quiet();
    let mut phones = Vec::new();
    for order in orders {
        phones.push(look(house, order).await?);
    }
    Ok(phones)
}

async fn look(house: &House, order: &Order) -> Result<Phone, Failure> {
    let client = &house.session()?.client;
    let value = client.data(Call::get(path(&["devices", &order.device]))).await?;
    let device: Device = client.read(&value)?;
    let Device { adb_address: Some(address), container_id: Some(container), .. } = device else {
        return Err(Failure::Failed(format!("{} is {} and has no address", order.name, device.status)));
    };
    Ok(Phone { name: order.name.clone(), id: order.device.clone(), address, container })
}

/// A table of phones, with the process that each is.
///
/// # Errors
/// An engine that does not answer.
pub async fn table(house: &House, phones: &[Phone]) -> Result<Page, Failure> {
    let mut head = vec!["PHONE", "STATUS", "ADB", "PID"];
    let has_containers = house.runtime.as_ref().is_some_and(Runtime::has_containers);
    if has_containers {
        head.push("CONTAINER");
    }
    let mut rows = Vec::new();
    for phone in phones {
        let pid = house.process_of(phone).await?.map(|running| running.pid);
        let mut row = vec![
            Cell::from(phone.name.as_str()),
            Cell::status(if pid.is_some() { "RUNNING" } else { "ERROR" }),
            phone.address.as_str().into(),
            Cell::or_dash(pid),
        ];
        if has_containers {
            // As engines shorten it.
            row.push(phone.container.chars().take(12).collect::<String>().into());
        }
        rows.push(row);
    }
    Ok(Page::table(&head, rows, "no phones"))
}
