//! The routes and the document that describes them, from one list.

use super::{Api, batch, changes, list, live, presence, records, write::KEY_BYTES_MAX};
use rejoin_core::id::{
    COLLECTION_BYTES_MAX, FIELD_BYTES_MAX, RECORD_ID_BYTES_MAX, SPACE_BYTES_MAX,
};
use serde_json::{Map, Value as Json, json};
use utoipa::{
    OpenApi,
    openapi::{
        OpenApi as Document,
        security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

/// Where the document is.
pub(super) const PATH: &str = "/v1/openapi.json";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Rejoin over HTTP",
        version = "1",
        license(name = "MIT"),
        description = "Records of a Rejoin server for programs that keep no replica. Writes are joined with those of \
            all replicas; rights are those of the token. Errors are problem documents (RFC 9457) with a `code`. \
            Bodies may be coded as gzip or br, answers are if they may."
    ),
    tags(
        (name = "records", description = "Read and write"),
        (name = "feed", description = "What has changed"),
        (name = "presence", description = "Who is here right now"),
    )
)]
struct Head;

/// Every route, with its description.
pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Head::openapi())
        .routes(routes!(records::get, records::put, records::patch, records::delete))
        .routes(routes!(list::records, records::create))
        .routes(routes!(list::collections))
        .routes(routes!(batch::write))
        .routes(routes!(changes::changes))
        .routes(routes!(live::live))
        .routes(routes!(presence::list))
        .routes(routes!(presence::show, presence::hide))
}

/// The document as it is served: names with their limits, wherever they stand.
pub(super) fn finish(mut document: Document) -> String {
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("token", bearer);
    let token = SecurityRequirement::new("token", Vec::<String>::new());
    // Where the server asks for none, none is needed.
    document.security = Some(vec![SecurityRequirement::default(), token]);
    let mut json = serde_json::to_value(&document).unwrap_or_default();
    let operations = json.pointer_mut("/paths").and_then(Json::as_object_mut);
    let operations = operations.into_iter().flat_map(Map::values_mut);
    for (method, operation) in operations.filter_map(Json::as_object_mut).flatten() {
        let parameters = operation.get_mut("parameters").and_then(Json::as_array_mut);
        parameters.into_iter().flatten().for_each(|parameter| bound(method, parameter));
    }
    for fields in ["Fields", "Operations"] {
        if let Some(schema) = json.pointer_mut(&format!("/components/schemas/{fields}")) {
            schema["propertyNames"] = name(FIELD_BYTES_MAX, false);
        }
    }
    for (property, limits) in
        [("collection", name(COLLECTION_BYTES_MAX, true)), ("id", name(RECORD_ID_BYTES_MAX, false))]
    {
        let place = format!("/components/schemas/Item/properties/{property}");
        if let Some(schema) = json.pointer_mut(&place) {
            extend(schema, limits);
        }
    }
    json.to_string()
}

/// What a name may be. Lengths are of its UTF-8, which no schema can say: of characters it may have fewer.
fn name(bytes_max: usize, is_path: bool) -> Json {
    let plain = if is_path { "[^/\\x00-\\x1f\\x7f-\\x9f]" } else { "[^\\x00-\\x1f\\x7f-\\x9f]" };
    let pattern = if is_path { format!("^{plain}+(/{plain}+)*$") } else { format!("^{plain}+$") };
    json!({"type": "string", "minLength": 1, "maxLength": bytes_max, "pattern": pattern})
}

fn bound(method: &str, parameter: &mut Json) {
    let place = parameter["in"].as_str().unwrap_or_default().to_owned();
    let named = parameter["name"].as_str().unwrap_or_default().to_owned();
    let limits = match (place.as_str(), named.as_str()) {
        ("path", "space") => name(SPACE_BYTES_MAX, true),
        ("path", "collection") => name(COLLECTION_BYTES_MAX, true),
        ("path", "id") => name(RECORD_ID_BYTES_MAX, false),
        ("path", "name") => name(FIELD_BYTES_MAX, false),
        ("header", "Idempotency-Key") => {
            json!({"minLength": 1, "maxLength": KEY_BYTES_MAX, "pattern": "^[!-~]+$"})
        }
        ("header", "If-None-Match") if method == "put" => json!({"pattern": "^\\*$"}),
        ("header", "If-Match" | "If-None-Match") => json!({"minLength": 1, "pattern": TAGS}),
        _ => json!({}),
    };
    let schema = &mut parameter["schema"];
    // What a query or a header lacks is not null.
    if let Some(Json::Array(kinds)) = schema.get("type") {
        let kind = kinds.iter().find(|kind| *kind != "null").cloned();
        schema["type"] = kind.unwrap_or_default();
    }
    extend(schema, limits);
}

/// Tags of states, or any.
const TAGS: &str = r#"^(\*|(W/)?"[!#-~]*"(, ?(W/)?"[!#-~]*")*)$"#;

fn extend(schema: &mut Json, limits: Json) {
    if let (Json::Object(schema), Json::Object(limits)) = (schema, limits) {
        schema.extend(limits);
    }
}
