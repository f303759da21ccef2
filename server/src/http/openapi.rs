//! The routes and the document that describes them, from one list.

use super::{Api, batch, changes, list, live, presence, records};
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

/// The document as it is served.
pub(super) fn finish(mut document: Document) -> String {
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("token", bearer);
    let token = SecurityRequirement::new("token", Vec::<String>::new());
    // Where the server asks for none, none is needed.
    document.security = Some(vec![SecurityRequirement::default(), token]);
    serde_json::to_string(&document).unwrap_or_default()
}
