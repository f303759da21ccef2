//! What went wrong, as RFC 9457 tells it: for programs (`code`, `retryable`), and for people (`detail`).
//!
//! Invariant: whatever answers a request of the API with an error answers with a problem document, also what never
//! came to a handler. Absent: what led to it.

use crate::{auth::Denial, rates::Met};
use axum::{
    Json,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use rejoin_core::protocol::{
    host::{DirectAnswer, DirectCode, DirectRefusal},
    message::ByeCode,
};
use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

/// How long who finds something busy or failing stays away, in seconds.
const AGAIN_AFTER_S: u32 = 1;
/// How long who has too much open stays away, in seconds.
pub(crate) const CROWDED_AFTER_S: u32 = 5;
const CONTENT_TYPE: &str = "application/problem+json";

/// What went wrong, for programs. Where clients of the protocol have a name for it, it is that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Code {
    /// It cannot be read, or asks for what cannot be.
    Invalid,
    /// The token is missing or not good.
    Unauthorized,
    /// No right to do this.
    Forbidden,
    /// It is not there, or not for the bearer of this token.
    Absent,
    /// The path has no such method.
    Method,
    /// No form in which it could be answered is accepted.
    NotAcceptable,
    /// The body did not come in time.
    Timeout,
    /// It exists, and was to be made.
    Exists,
    /// The cursor's place is no more: read everything again.
    CursorGone,
    /// The record is not what it was expected to be.
    Changed,
    /// It is beyond a limit.
    TooLarge,
    /// It would add to a space that is full: what removes or shrinks is taken.
    Quota,
    /// The body's type or coding is not one of those that are read.
    MediaType,
    /// The idempotency key was used for another request.
    KeyReused,
    /// Too much of something: later.
    Busy,
    /// A defect.
    Internal,
    /// A field is of a kind that this server lacks.
    UpgradeServer,
    /// The store failed: it may have been done. With an idempotency key it can be asked for again.
    Storage,
}

impl Code {
    const fn title(self) -> &'static str {
        match self {
            Self::Invalid => "the request cannot be understood",
            Self::Unauthorized => "a token is needed",
            Self::Forbidden => "not allowed",
            Self::Absent => "not found",
            Self::Method => "no such method here",
            Self::NotAcceptable => "no accepted form",
            Self::Timeout => "too slow",
            Self::Exists => "it exists",
            Self::CursorGone => "the cursor is too old",
            Self::Changed => "it has changed",
            Self::TooLarge => "too large",
            Self::Quota => "the space is full",
            Self::MediaType => "not a body that is read",
            Self::KeyReused => "the idempotency key was used before",
            Self::Busy => "busy",
            Self::Internal => "a defect",
            Self::UpgradeServer => "the server is too old for this",
            Self::Storage => "the store failed",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::Absent => "absent",
            Self::Method => "method",
            Self::NotAcceptable => "not_acceptable",
            Self::Timeout => "timeout",
            Self::Exists => "exists",
            Self::CursorGone => "cursor_gone",
            Self::Changed => "changed",
            Self::TooLarge => "too_large",
            Self::Quota => "quota",
            Self::MediaType => "media_type",
            Self::KeyReused => "key_reused",
            Self::Busy => "busy",
            Self::Internal => "internal",
            Self::UpgradeServer => "upgrade_server",
            Self::Storage => "storage",
        }
    }
}

/// A problem document (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// `urn:rejoin:problem:` and the code.
    r#type: String,
    /// What the code says, for people.
    title: &'static str,
    /// The status of the answer.
    status: u16,
    /// What went wrong this time, for people.
    detail: String,
    /// What went wrong, for programs.
    code: Code,
    /// Whether the same request may succeed later.
    retryable: bool,
    /// Seconds, for the header.
    #[serde(skip)]
    retry_after: Option<u32>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: Code, detail: impl Into<String>) -> Self {
        Self {
            r#type: format!("urn:rejoin:problem:{}", code.name()),
            title: code.title(),
            status: status.as_u16(),
            detail: detail.into(),
            code,
            retryable: false,
            retry_after: None,
        }
    }

    fn later(self, seconds: u32) -> Self {
        Self { retryable: true, retry_after: Some(seconds), ..self }
    }

    /// What cannot be read: 400.
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Code::Invalid, detail)
    }

    /// What can be read and cannot be: 422.
    pub(crate) fn unprocessable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, Code::Invalid, detail)
    }

    /// One answer for what is not there and for what is not the asker's to see.
    pub(crate) fn absent() -> Self {
        Self::new(StatusCode::NOT_FOUND, Code::Absent, "it is not there, or not for this token")
    }

    pub(crate) fn storage() -> Self {
        let detail = "the store failed; what was to be written may have been";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::Storage, detail).later(AGAIN_AFTER_S)
    }

    pub(crate) fn busy(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::Busy, detail).later(AGAIN_AFTER_S)
    }

    /// One asks for more than there is for one: 429.
    pub(crate) fn crowded(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, Code::Busy, detail).later(CROWDED_AFTER_S)
    }

    /// One asks too often: 429.
    pub(crate) fn too_often(met: &Met) -> Self {
        let status = StatusCode::TOO_MANY_REQUESTS;
        Self::new(status, Code::Busy, met.reason()).later(met.seconds())
    }

    pub(crate) fn cursor_gone() -> Self {
        let detail = "what happened since the cursor cannot be told any more: read everything again, without a cursor";
        Self::new(StatusCode::GONE, Code::CursorGone, detail)
    }

    pub(crate) fn changed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, Code::Changed, detail)
    }

    pub(crate) const fn status(&self) -> u16 {
        self.status
    }

    /// Why somebody is not let in.
    pub(crate) fn of_denial(denial: &Denial) -> Self {
        Self::of_bye(denial.code, denial.reason)
    }

    /// Why a session would end.
    pub(crate) fn of_bye(code: ByeCode, reason: &str) -> Self {
        match code {
            ByeCode::Unauthorized => {
                Self::new(StatusCode::UNAUTHORIZED, Code::Unauthorized, reason)
            }
            ByeCode::NoSpace => Self::absent(),
            ByeCode::Busy | ByeCode::ShuttingDown | ByeCode::SlowConsumer => Self::busy(reason),
            ByeCode::Storage | ByeCode::StorageFull => Self::storage(),
            ByeCode::TooLarge => Self::new(StatusCode::PAYLOAD_TOO_LARGE, Code::TooLarge, reason),
            ByeCode::Done
            | ByeCode::Version
            | ByeCode::Malformed
            | ByeCode::Misbehaved
            | ByeCode::Superseded
            | ByeCode::Internal
            | ByeCode::BadLine => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, Code::Internal, reason)
            }
            // One of a later version of the protocol.
            _ => Self::new(StatusCode::INTERNAL_SERVER_ERROR, Code::Internal, reason),
        }
    }

    /// Why a part of a write was not done.
    pub(crate) fn of_refusal(refusal: &DirectRefusal) -> Self {
        let reason = refusal.reason.as_str();
        match refusal.code {
            DirectCode::Forbidden => Self::new(StatusCode::FORBIDDEN, Code::Forbidden, reason),
            DirectCode::Unexpected => Self::changed(reason),
            DirectCode::Exists => Self::new(StatusCode::CONFLICT, Code::Exists, reason),
            DirectCode::Absent => Self::absent(),
            DirectCode::TooLarge => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, Code::TooLarge, reason)
            }
            DirectCode::Quota => Self::new(StatusCode::INSUFFICIENT_STORAGE, Code::Quota, reason),
            DirectCode::UpgradeServer => {
                Self::new(StatusCode::NOT_IMPLEMENTED, Code::UpgradeServer, reason)
            }
            DirectCode::Invalid => Self::unprocessable(reason),
        }
    }

    /// Why a request was not judged.
    pub(crate) fn of_answer(answer: &DirectAnswer) -> Self {
        match answer {
            DirectAnswer::Reused => {
                let detail = "the idempotency key was used for another request";
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, Code::KeyReused, detail)
            }
            DirectAnswer::Unsure => {
                let detail =
                    "whether it was done is lost: read before asking again with another key";
                Self::new(StatusCode::CONFLICT, Code::Storage, detail)
            }
            DirectAnswer::Busy => Self::busy("too much waits to be written; nothing was done"),
            DirectAnswer::Judged(_) | DirectAnswer::Remembered(_) | DirectAnswer::Unavailable => {
                Self::storage()
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let (after, code) = (self.retry_after, self.code);
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        headers.extend(after.map(|seconds| (header::RETRY_AFTER, HeaderValue::from(seconds))));
        if code == Code::Unauthorized {
            let challenge = HeaderValue::from_static("Bearer realm=\"rejoin\"");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// Gives answers that come from below the handlers their documents: no such path or method, a body that was refused
/// unread.
pub(crate) async fn dress(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let is_dressed = response.headers().get(header::CONTENT_TYPE);
    if !is_error || is_dressed.is_some_and(|known| known == CONTENT_TYPE) {
        return response;
    }
    let problem = match status {
        StatusCode::NOT_FOUND => Problem::absent(),
        StatusCode::METHOD_NOT_ALLOWED => Problem::new(status, Code::Method, "see Allow"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            Problem::new(status, Code::MediaType, "bodies may be coded as gzip or br")
        }
        StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new(status, Code::TooLarge, "the body is too large")
        }
        _ if status.is_client_error() => {
            Problem::new(status, Code::Invalid, "the path or the query cannot be read")
        }
        _ => Problem::new(status, Code::Internal, "the server failed"),
    };
    let kept: HeaderMap = response
        .headers()
        .iter()
        .filter(|(name, _)| KEPT.contains(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mut dressed = problem.into_response();
    dressed.headers_mut().extend(kept);
    dressed
}

/// What an answer that gets a document keeps.
const KEPT: [HeaderName; 3] = [header::ALLOW, header::ACCEPT_ENCODING, header::VARY];

/// What every operation may answer besides its own.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it documents")]
pub(crate) enum Refused {
    /// The path, the query, a header or the body cannot be read
    #[response(status = 400, content_type = "application/problem+json")]
    Invalid(Problem),
    /// The token is missing or not good
    #[response(
        status = 401,
        content_type = "application/problem+json",
        headers(("WWW-Authenticate" = String, description = "Bearer"))
    )]
    Unauthorized(Problem),
    /// It is not there, or not for the bearer of this token: the two look the same
    #[response(status = 404, content_type = "application/problem+json")]
    Absent(Problem),
    /// Application/json is not accepted
    #[response(status = 406, content_type = "application/problem+json")]
    NotAcceptable(Problem),
    /// Too many requests of this principal or from this address
    #[response(
        status = 429,
        content_type = "application/problem+json",
        headers(("Retry-After" = u32, description = "seconds"))
    )]
    TooOften(Problem),
    /// Something else went wrong: see `code`
    #[response(status = "default", content_type = "application/problem+json")]
    Other(Problem),
}

/// What operations that write may answer besides.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it documents")]
pub(crate) enum WriteRefused {
    /// The bearer of this token may read here and not write
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(Problem),
    /// The record is not what `If-Match` or `If-None-Match` expects
    #[response(status = 412, content_type = "application/problem+json")]
    Changed(Problem),
    /// The body, a value or the record is beyond its limit
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(Problem),
    /// It can be read and cannot be, or the idempotency key was used for another request
    #[response(status = 422, content_type = "application/problem+json")]
    Unprocessable(Problem),
    /// Too much waits, or the store fails
    #[response(
        status = 503,
        content_type = "application/problem+json",
        headers(("Retry-After" = u32, description = "seconds"))
    )]
    Busy(Problem),
    /// The space is full: what removes records or makes them smaller is taken
    #[response(status = 507, content_type = "application/problem+json")]
    Quota(Problem),
}

/// What operations with a body may answer besides.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it documents")]
pub(crate) enum BodyRefused {
    /// The body is not application/json, or coded otherwise than by gzip or br
    #[response(status = 415, content_type = "application/problem+json")]
    MediaType(Problem),
}
