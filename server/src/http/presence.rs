//! Who is here right now, read and shown without a session.

use super::{
    Api, Caller, body,
    list::InSpace,
    problem::{BodyRefused, Problem, Refused},
};
use crate::hub::{Ask, SHOWN_FOR, Show, Shown};
use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
};
use rejoin_core::{id::FieldName, protocol::message::Presence as Admitted, record::Value};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Who shows something.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Present {
    /// In the order in which they came.
    present: Vec<One>,
}

/// One who shows something.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct One {
    /// Of one tab or program; nobody else has it while the server runs.
    id: u64,
    /// As whom its token identifies it.
    principal: String,
    /// What it shows.
    #[schema(value_type = Value)]
    value: serde_json::Value,
}

/// For how long something is shown.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ShownFor {
    /// Seconds, unless it is shown again.
    seconds: u64,
}

/// What somebody shows.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct Showing {
    /// The space; a slash in it is `%2F`
    #[param(example = "demo")]
    space: String,
    /// Tells what one principal shows apart: a name of its own for each tab or program
    #[param(example = "sensor-1")]
    name: String,
}

/// Lists who shows something in a space
#[utoipa::path(
    get,
    path = "/v1/spaces/{space}/presence",
    tag = "presence",
    operation_id = "listPresence",
    params(InSpace),
    responses((status = 200, description = "Who is here", body = Present), Refused)
)]
pub(crate) async fn list(
    State(api): State<Api>,
    Path(place): Path<InSpace>,
    headers: HeaderMap,
) -> Result<Json<Present>, Problem> {
    body::accepts(&headers, "application/json")?;
    let caller = api.admit(&headers, &place.space).await?;
    let present = api.ask(&caller, Ask::Present).await?;
    let one = |other: rejoin_core::protocol::message::Other| One {
        id: other.id,
        principal: other.principal,
        value: rejoin_json::to_json(&other.value),
    };
    Ok(Json(Present { present: present.into_iter().map(one).collect() }))
}

/// Shows something for half a minute
///
/// Any value of at most 4 KiB. Shown again, it stays.
#[utoipa::path(
    put,
    path = "/v1/spaces/{space}/presence/{name}",
    tag = "presence",
    operation_id = "showPresence",
    params(Showing),
    request_body = Value,
    responses(
        (status = 200, description = "It is shown", body = ShownFor),
        (status = 413, description = "The value is too large", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The value cannot be one", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "There is no room for more", body = Problem, content_type = "application/problem+json"),
        Refused, BodyRefused,
    )
)]
pub(crate) async fn show(
    State(api): State<Api>,
    Path(showing): Path<Showing>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ShownFor>, Problem> {
    body::accepts(&headers, "application/json")?;
    let caller = api.admit(&headers, &showing.space).await?;
    let received = body::read(&api, &caller, &headers, body).await?;
    let value = rejoin_json::value(received.json);
    let value = value.map_err(|error| Problem::unprocessable(error.to_string()))?;
    if let Err(error) = Admitted::admit(&value) {
        let code = super::Code::TooLarge;
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, code, error.to_string()));
    }
    match shown(&api, &caller, &showing.name, Some(value)).await? {
        Shown::NoRoom => Err(Problem::crowded("too much is shown")),
        Shown::Yes | Shown::Nothing => Ok(Json(ShownFor { seconds: SHOWN_FOR.0 / 1_000 })),
    }
}

/// Hides what was shown
#[utoipa::path(
    delete,
    path = "/v1/spaces/{space}/presence/{name}",
    tag = "presence",
    operation_id = "hidePresence",
    params(Showing),
    responses((status = 204, description = "It is shown no more"), Refused)
)]
pub(crate) async fn hide(
    State(api): State<Api>,
    Path(showing): Path<Showing>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    body::accepts(&headers, "application/json")?;
    let caller = api.admit(&headers, &showing.space).await?;
    match shown(&api, &caller, &showing.name, None).await? {
        Shown::Nothing => Err(Problem::absent()),
        Shown::Yes | Shown::NoRoom => Ok(StatusCode::NO_CONTENT),
    }
}

async fn shown(
    api: &Api,
    caller: &Caller,
    name: &str,
    value: Option<Value>,
) -> Result<Shown, Problem> {
    // Such names follow the rules of fields: not empty, bounded, printable.
    let name = FieldName::parse(name);
    let name = name.map_err(|error| Problem::invalid(format!("the name: {error}")))?;
    let show = Show {
        fresh: api.hubs.next_peer(),
        principal: caller.grant.principal.clone(),
        name: name.as_str().to_owned(),
        value,
    };
    api.ask(caller, |reply| Ask::Show(show, reply)).await
}
