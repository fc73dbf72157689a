//! The description of the API (OpenAPI 3.1), made from the code that answers.
//!
//! What every call has in common is added here, so that no call can forget it: the statuses
//! of refusals ([`STATUSES`]), and the shapes of parameters by their names ([`SHAPES`]).
//! "make test" holds the daemon to this document: `tests/tests/system_schemathesis.rs`.

use super::problem::{ProblemDocument, ProblemField};
use super::{
    device_view, devices, devices_batch, health, hosts, ports, quotas, recording_content, recordings, sagas,
};
use axum::Json;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{Content, Ref, RefOr, Response, ResponseBuilder, Schema};
use utoipa::{IntoResponses, Modify, OpenApi};

/// Every answer that is not a success; in the document it becomes the statuses of
/// [`STATUSES`] that fit the call.
pub struct Refusals;

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        BTreeMap::from([("default".to_owned(), refusal("Refused; `code` says why"))])
    }
}

fn refusal(description: &str) -> RefOr<Response> {
    let document = Content::new(Some(Ref::from_schema_name("Problem")));
    RefOr::T(
        ResponseBuilder::new().description(description).content("application/problem+json", document).build(),
    )
}

/// To which calls a refusal can happen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Calls {
    All,
    /// A thing is named in the path.
    Named,
    /// Something is sent along, or may be.
    Sent,
}

/// Refusals by status. 500 is none: it would be a fault of the controller.
const STATUSES: &[(&str, Calls, &str)] = &[
    ("400", Calls::All, "What was sent is wrong; `pointer` and `errors` name the fields"),
    ("403", Calls::All, "`QUOTA_EXCEEDED`, or a page of another site is asking"),
    ("404", Calls::Named, "There is no such thing"),
    ("408", Calls::Sent, "The body did not arrive in time"),
    ("409", Calls::Sent, "It does not fit what is there now"),
    ("413", Calls::Sent, "The body is too large"),
    ("415", Calls::Sent, "The body is not declared as plain JSON"),
    ("422", Calls::Sent, "The Idempotency-Key belongs to another body"),
    ("503", Calls::All, "`NO_CAPACITY`, or the controller cannot work at this moment"),
];

/// Shapes of parameters: where, name, pattern.
const SHAPES: &[(ParameterIn, &str, &str)] = &[
    (ParameterIn::Header, "Idempotency-Key", "^[!-~]([ -~]{0,253}[!-~])?$"),
    (ParameterIn::Path, "userId", "^[A-Za-z0-9._:@-]{1,128}$"),
    (ParameterIn::Query, "userId", "^[A-Za-z0-9._:@-]{1,128}$"),
    (ParameterIn::Query, "deviceId", "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"),
    (ParameterIn::Query, "hostId", "^[a-z0-9-]{1,63}$"),
    (ParameterIn::Query, "sagaIds", r"[^,\s]"),
    (ParameterIn::Query, "type", "^(DEVICE_(CREATION|START|STOP|REBOOT|RESET|DELETION))$"),
];

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
        recordings::start,
        recordings::stop,
        recordings::list,
        recordings::find,
        recordings::delete,
        recording_content::content,
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
        sagas::abandon,
        quotas::limits,
        quotas::set_limits,
        quotas::reset_limits,
        quotas::usage,
        health::alive,
        health::ready,
        health::metrics,
        document
    ),
    modifiers(&UniqueNames, &Common),
    components(schemas(ProblemDocument, ProblemField, device_view::DeviceView, devices::NewDeviceBody)),
    tags(
        (name = "devices", description = "Phones: orders and verbs"),
        (name = "recordings", description = "Videos of phones: orders, stops, and the videos themselves"),
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

/// What all calls have in common.
struct Common;

impl Modify for Common {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        for (path, item) in &mut document.paths.paths {
            let sends = [(&mut item.get, false), (&mut item.delete, false)];
            let sends = sends.into_iter().chain([(&mut item.post, true), (&mut item.put, true)]);
            for (operation, sends) in sends {
                if let Some(operation) = operation {
                    let sends = sends || takes_a_key(operation);
                    refuse(operation, path.contains('{'), sends);
                    shape(operation);
                }
            }
        }
    }
}

/// Whether it takes effect once: then its body is read too, whatever the method.
fn takes_a_key(operation: &Operation) -> bool {
    let parameters = operation.parameters.iter().flatten();
    parameters.into_iter().any(|parameter| match parameter {
        RefOr::T(parameter) => parameter.name == "Idempotency-Key",
        RefOr::Ref(_) => false,
    })
}

/// The statuses of refusals, unless the call describes one by itself.
fn refuse(operation: &mut Operation, named: bool, sends: bool) {
    let responses = &mut operation.responses.responses;
    responses.remove("default");
    for (status, calls, description) in STATUSES {
        let fits = match calls {
            Calls::All => true,
            Calls::Named => named,
            Calls::Sent => sends,
        };
        if fits && !responses.contains_key(*status) {
            responses.insert((*status).to_owned(), refusal(description));
        }
    }
}

fn shape(operation: &mut Operation) {
    for parameter in operation.parameters.iter_mut().flatten() {
        let RefOr::T(parameter) = parameter else { continue };
        let place = |place: &ParameterIn| *place == parameter.parameter_in;
        let known = SHAPES.iter().find(|(at, name, _)| place(at) && *name == parameter.name);
        let text = |pattern: &str| ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern));
        let schema = match (known, parameter.name.as_str()) {
            (Some((_, _, pattern)), _) => text(pattern),
            (None, "limit") => ObjectBuilder::new()
                .schema_type(SchemaType::Type(Type::Integer))
                .minimum(Some(1))
                .maximum(Some(super::page::MOST_LIMIT)),
            _ => continue,
        };
        parameter.schema = Some(RefOr::T(Schema::Object(schema.build())));
    }
}

static DOCUMENT: LazyLock<utoipa::openapi::OpenApi> = LazyLock::new(Document::openapi);

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "health",
    responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
pub async fn document() -> Json<&'static utoipa::openapi::OpenApi> {
    Json(&DOCUMENT)
}
