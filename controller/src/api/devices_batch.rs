//! `POST /devices/batch`: many orders in one call. Each is accepted or refused by itself,
//! all in one transaction.

use super::Api;
use super::answer::{Answer, Envelope};
use super::body::parse;
use super::devices::{NewDeviceBody, terms};
use super::idempotency::Call;
use super::openapi::Refusals;
use super::problem::{Code, Problem};
use crate::order::{self, NewDevice};
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// Orders of one call: together they hold up the database's writer for some milliseconds.
const MOST_ORDERS: usize = 100;

/// Many orders.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchBody {
    /// 1 to 100 orders.
    #[schema(value_type = Vec<NewDeviceBody>, min_items = 1, max_items = 100)]
    devices: Vec<Box<RawValue>>,
}

/// What became of each order.
#[derive(Serialize, utoipa::ToSchema)]
pub struct BatchResults {
    /// By name of the device: `{success: true, data: {id, name, sagaId}}`, or its problem.
    /// An order without a name, or with one that came before, is told as `#` and its index.
    #[schema(value_type = Object)]
    results: Map<String, Value>,
}

#[derive(Deserialize)]
struct NameOnly {
    name: String,
}

struct Item {
    label: String,
    order: Result<NewDevice, Value>,
}

/// Orders many devices. One that is refused does not stop the others.
#[utoipa::path(
    post,
    path = "/devices/batch",
    operation_id = "create_batch",
    tag = "devices",
    params(("Idempotency-Key" = Option<String>, Header, description = "A call with the same key takes effect once")),
    request_body = BatchBody,
    responses(
        (status = 202, description = "At least one order was accepted", body = Envelope<BatchResults>),
        (status = 200, description = "None was", body = Envelope<BatchResults>),
        Refusals
    )
)]
pub async fn create(State(api): State<Api>, call: Call) -> Result<Answer, Problem> {
    let body: BatchBody = parse(&call.body, Code::InvalidSpec)?;
    if !(1..=MOST_ORDERS).contains(&body.devices.len()) {
        let detail = format!("a batch has 1 to {MOST_ORDERS} orders, this one has {}", body.devices.len());
        return Err(Problem::field(Code::InvalidSpec, "/devices", detail));
    }
    let items = items(&body.devices);
    let handle = api.handle.clone();
    call.that_grows().once(&api, None, move |tx, now| {
        let mut results = Map::new();
        let mut accepted_count = 0;
        for (index, item) in items.iter().enumerate() {
            let result = match &item.order {
                Err(problem) => problem.clone(),
                Ok(order) => {
                    match tx.part(|tx| order::create(tx, terms(&handle), order, &*handle.ids, now)) {
                        Ok(accepted) => {
                            accepted_count += 1;
                            let id = accepted.device.device_id.to_string();
                            let saga = accepted.saga_id.as_str();
                            json!({"success": true, "data": {"id": id, "name": order.name, "sagaId": saga}})
                        }
                        // The transaction itself is at an end: nothing of the batch stands.
                        Err(order::OrderError::Sqlite(error)) => return Err(error.into()),
                        Err(refused) => document(Problem::from(refused), index),
                    }
                }
            };
            results.insert(item.label.clone(), result);
        }
        let status = if accepted_count > 0 { StatusCode::ACCEPTED } else { StatusCode::OK };
        let message = format!("{accepted_count} of {} orders were accepted", items.len());
        let answer = Answer::new(status, &BatchResults { results }, message)?;
        Ok(Answer { kept: accepted_count > 0, ..answer })
    })
    .await
}

fn items(bodies: &[Box<RawValue>]) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::with_capacity(bodies.len());
    for (index, body) in bodies.iter().enumerate() {
        let name = serde_json::from_str::<NameOnly>(body.get()).ok().map(|named| named.name);
        let label = name
            .filter(|name| items.iter().all(|item| item.label != *name))
            .unwrap_or_else(|| format!("#{index}"));
        let order = parse::<NewDeviceBody>(body.get().as_bytes(), Code::InvalidSpec)
            .and_then(NewDeviceBody::order)
            .map_err(|problem| document(problem, index));
        items.push(Item { label, order });
    }
    items
}

fn document(problem: Problem, index: usize) -> Value {
    let problem = problem.below(&format!("/devices/{index}"));
    serde_json::to_value(problem.document()).unwrap_or_else(|_| json!({"success": false}))
}
