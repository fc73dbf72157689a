//! The description of the API (OpenAPI 3.1), made from the code that answers.

use super::problem::{ProblemDocument, ProblemField};
use super::{device_view, devices, devices_batch, health, hosts, ports, quotas, sagas};
use axum::Json;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use utoipa::openapi::{Content, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, Modify, OpenApi};

/// Every answer that is not a success.
pub struct Refusals;

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let response = ResponseBuilder::new()
            .description("Refused; `code` says why")
            .content("application/problem+json", Content::new(Some(Ref::from_schema_name("Problem"))))
            .build();
        BTreeMap::from([("default".to_owned(), RefOr::T(response))])
    }
}

/// All of it.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Phonefleet controller",
        description = "Orders, steers and describes a fleet of cloud phones. Times are RFC 3339 in UTC; ids are UUIDv7 unless they show otherwise."
    ),
    paths(
        devices::create,
        devices::list,
        devices_batch::create,
        devices::find,
        devices::delete,
        devices::start,
        devices::stop,
        devices::reboot,
        devices::reset,
        hosts::list,
        hosts::find,
        hosts::cordon,
        hosts::uncordon,
        hosts::forget,
        ports::allocated,
        sagas::list,
        sagas::batch,
        sagas::find,
        sagas::events,
        sagas::resume,
        sagas::compensate,
        quotas::limits,
        quotas::set_limits,
        quotas::usage,
        health::alive,
        health::ready,
        health::metrics,
        document
    ),
    modifiers(&UniqueNames),
    components(schemas(ProblemDocument, ProblemField, device_view::DeviceView, devices::NewDeviceBody)),
    tags(
        (name = "devices", description = "Phones: orders and verbs"),
        (name = "hosts", description = "Machines that run phones"),
        (name = "ports", description = "Leased ports"),
        (name = "sagas", description = "What is being done, and an operator's verbs"),
        (name = "quotas", description = "What users may have"),
        (name = "health", description = "The daemon itself")
    )
)]
struct Document;

/// Operations are named after their functions, which several resources share: the
/// resource goes before it.
struct UniqueNames;

impl Modify for UniqueNames {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        for item in document.paths.paths.values_mut() {
            let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.delete];
            for operation in operations.into_iter().flatten() {
                let tag = operation.tags.as_deref().and_then(|tags| tags.first());
                if let (Some(name), Some(tag)) = (&mut operation.operation_id, tag) {
                    *name = format!("{tag}_{name}");
                }
            }
        }
    }
}

static DOCUMENT: LazyLock<utoipa::openapi::OpenApi> = LazyLock::new(Document::openapi);

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "health",
    responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
pub async fn document() -> Json<&'static utoipa::openapi::OpenApi> {
    Json(&DOCUMENT)
}
