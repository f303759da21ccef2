//! Records over HTTP, for programs that keep no replica: `/v1`, described by `/v1/openapi.json`.
//!
//! Writes go through the space's hub and are judged and joined as those of sessions are; what is read is read from
//! the store. Invariant: every request is judged by what its token allows at that moment, and what is forbidden looks
//! as what is not there. Absent: the protocol of replicas, which holds records; this shows them.

#![expect(unused_qualifications, reason = "the macros of utoipa qualify what they name")]

mod batch;
mod body;
mod changes;
mod etag;
mod forms;
mod list;
mod live;
mod openapi;
mod presence;
mod problem;
mod records;
mod traced;
mod write;

pub(crate) use list::Listed;
pub(crate) use problem::Problem;

use crate::{
    auth::{Admission, Pass, Renewed},
    census::Slot,
    feed::FeedError,
    hub::{Ask, ToHub},
    hubs::{self, Hubs},
    rates::{Limiter, Met},
    ws,
};
use axum::{
    Router,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use body::Bodies;
use problem::Code;
use rejoin_core::{
    codec::CodecError,
    id::{CollectionName, Pattern, RecordId, RecordKey, SpaceId},
    io::{Answer, Query},
    port::Store,
    protocol::host::Grant,
};
use rejoin_sqlite::SqliteStore;
use std::{num::NonZeroU32, sync::Arc, time::Duration};
use tokio::sync::{Semaphore, mpsc::error::SendError, oneshot, watch};
use tower_http::{
    compression::CompressionLayer,
    cors::{AllowOrigin, CorsLayer},
    decompression::RequestDecompressionLayer,
    limit::RequestBodyLimitLayer,
};
use tracing::error;

/// Hubs that are asked in turn, where one has just ended.
const HUBS_ASKED: usize = 3;
/// How long a browser may go by what it was told of another origin's rights.
const PREFLIGHT_HOLDS: Duration = Duration::from_secs(3_600);

/// A position in the feed, in answers to reads of one record.
const SEQ: HeaderName = HeaderName::from_static("rejoin-seq");
/// Names a request, so that it can be asked for again and is done once.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Whether an answer is that of an earlier request.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Where a live feed goes on.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What every request needs.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    hubs: Arc<Hubs>,
    limiter: Arc<Limiter>,
    feeds: Arc<Semaphore>,
    bodies: Bodies,
    /// Becomes true when the process ends.
    stopping: watch::Receiver<bool>,
}

impl Api {
    pub(crate) fn new(
        hubs: Arc<Hubs>,
        limiter: Arc<Limiter>,
        feeds_max: u32,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let feeds_max = usize::try_from(feeds_max).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            hubs,
            limiter,
            feeds: Arc::new(Semaphore::new(feeds_max)),
            bodies: Bodies::default(),
            stopping,
        }
    }

    /// The routes, for pages of these origins.
    pub(crate) fn router(self, origins: Arc<[String]>) -> Router {
        let (router, document) = openapi::routes().split_for_parts();
        let document: Arc<str> = openapi::finish(document).into();
        let document = get(move |headers: HeaderMap| async move {
            body::accepts(&headers, "application/json")?;
            let kind = [(header::CONTENT_TYPE, "application/json")];
            Ok::<_, Problem>((kind, document.to_string()))
        });
        let known = Arc::clone(&origins);
        let allowed =
            move |_: &HeaderValue, parts: &Parts| ws::origin_is_allowed(&parts.headers, &known);
        let cors = CorsLayer::new()
            .allow_origin(AllowOrigin::predicate(allowed))
            .allow_methods([Method::GET, Method::PUT, Method::PATCH, Method::POST, Method::DELETE])
            .allow_headers([
                header::AUTHORIZATION,
                header::CONTENT_TYPE,
                header::IF_MATCH,
                header::IF_NONE_MATCH,
                IDEMPOTENCY_KEY,
                LAST_EVENT_ID,
            ])
            .expose_headers([header::ETAG, header::LOCATION, header::RETRY_AFTER, SEQ, REPLAYED])
            .max_age(PREFLIGHT_HOLDS);
        let same_site = middleware::from_fn(move |request: Request, next: Next| {
            refuse_strangers(Arc::clone(&origins), request, next)
        });
        let limiter = Arc::clone(&self.limiter);
        let tokens = middleware::from_fn(move |request: Request, next: Next| {
            watch_tokens(Arc::clone(&limiter), request, next)
        });
        router
            .route(openapi::PATH, document)
            .route("/v1/", any(|| async { Problem::absent() }))
            .route("/v1/{*other}", any(|| async { Problem::absent() }))
            .layer(RequestDecompressionLayer::new())
            .layer(RequestBodyLimitLayer::new(body::BODY_BYTES_MAX))
            .layer(tokens)
            .layer(middleware::from_fn(problem::dress))
            .layer(CompressionLayer::new())
            .layer(cors)
            .layer(same_site)
            .layer(middleware::from_fn(traced::traced))
            .with_state(self)
    }

    /// Who asks, and for which space.
    ///
    /// # Errors
    /// 400, 401, 404, 503.
    async fn admit(&self, headers: &HeaderMap, space: &str) -> Result<Caller, Problem> {
        let space = SpaceId::parse(space);
        let space = space.map_err(|error| Problem::invalid(format!("the space: {error}")))?;
        let admitted = self.hubs.auth().admit(bearer(headers)?, &space).await;
        let Admission { grant, pass } = admitted.map_err(|denial| Problem::of_denial(&denial))?;
        let principal: Option<Arc<str>> =
            pass.names_somebody().then(|| Arc::from(grant.principal.as_str()));
        if let Some(principal) = &principal {
            let asked = self.limiter.request_of(principal);
            asked.map_err(|met| Problem::too_often(&met))?;
        }
        if hubs::is_own(&space) {
            return Err(Problem::absent());
        }
        Ok(Caller { space, grant, pass, principal })
    }

    /// Takes the bytes of a body from what the caller may send.
    ///
    /// # Errors
    /// 429.
    fn weigh(&self, caller: &Caller, bytes: usize) -> Result<(), Problem> {
        self.spend(caller, bytes, Limiter::bytes_of)
    }

    /// Takes writes from what the caller may send: each is a message.
    ///
    /// # Errors
    /// 429.
    fn count(&self, caller: &Caller, writes: usize) -> Result<(), Problem> {
        self.spend(caller, writes, Limiter::messages_of)
    }

    fn spend(
        &self,
        caller: &Caller,
        amount: usize,
        take: fn(&Limiter, &Arc<str>, NonZeroU32) -> Result<(), Met>,
    ) -> Result<(), Problem> {
        let amount = NonZeroU32::new(u32::try_from(amount).unwrap_or(u32::MAX));
        match (&caller.principal, amount) {
            (Some(principal), Some(amount)) => {
                let taken = take(&self.limiter, principal, amount);
                taken.map_err(|met| Problem::too_often(&self.limiter.met(met)))
            }
            (None, _) | (_, None) => Ok(()),
        }
    }

    /// Looks again whether a caller may go on, and as what.
    ///
    /// # Errors
    /// 401, 404.
    fn renew(&self, caller: &mut Caller) -> Result<(), Problem> {
        let renewed = self.hubs.auth().renew(&caller.pass, &caller.space);
        let Renewed { grant, until } = renewed.map_err(|denial| Problem::of_denial(&denial))?;
        caller.pass.renewed(until);
        if let Some(grant) = grant {
            caller.grant = grant;
        }
        Ok(())
    }

    /// Reads from the store, all from one snapshot.
    ///
    /// # Errors
    /// 503.
    async fn read(&self, space: &SpaceId, queries: &[Query]) -> Result<Vec<Answer>, Problem> {
        let store: SqliteStore = self.hubs.store(space);
        store.read(queries).await.map_err(|fault| {
            error!(%space, %fault, "the store failed");
            Problem::storage()
        })
    }

    /// A stored row is damaged.
    fn damaged(&self, space: &SpaceId, error: &CodecError) -> Problem {
        self.hubs.mend(space, error);
        Problem::storage()
    }

    /// Why the feed cannot be told.
    fn untold(&self, space: &SpaceId, error: &FeedError) -> Problem {
        match error {
            FeedError::Damaged(error) => self.damaged(space, error),
            FeedError::Gone => Problem::cursor_gone(),
            FeedError::Store(_) | FeedError::Strange => {
                error!(%space, %error, "the feed cannot be read");
                Problem::storage()
            }
        }
    }

    /// Asks the hub of the caller's space, which is opened at need.
    ///
    /// # Errors
    /// 503, 404.
    async fn ask<T>(
        &self,
        caller: &Caller,
        ask: impl FnOnce(oneshot::Sender<T>) -> Ask,
    ) -> Result<T, Problem> {
        let (reply, answer) = oneshot::channel();
        let mut message = ToHub::Ask(ask(reply));
        for _ in 0..HUBS_ASKED {
            let inbox = self.hubs.inbox(&caller.space, caller.principal.as_ref());
            let inbox = inbox.map_err(|(code, reason)| Problem::of_bye(code, reason))?;
            match inbox.send(message).await {
                Ok(()) => return answer.await.map_err(|_gone| Problem::storage()),
                // It has just ended, and the next one is opened.
                Err(SendError(back)) => message = back,
            }
        }
        Err(Problem::busy("the space is opened again"))
    }
}

/// Who asks.
#[derive(Debug)]
struct Caller {
    space: SpaceId,
    grant: Grant,
    pass: Pass,
    /// `None` where everyone is let in.
    principal: Option<Arc<str>>,
}

impl Caller {
    /// The collection that a path names, if its records are the caller's to read.
    ///
    /// # Errors
    /// 400, 404.
    fn collection(&self, name: &str) -> Result<CollectionName, Problem> {
        let name = CollectionName::parse(name);
        let name = name.map_err(|error| Problem::invalid(format!("the collection: {error}")))?;
        if self.grant.reads(&Pattern::Exact(name.clone())) {
            Ok(name)
        } else {
            Err(Problem::absent())
        }
    }

    /// The record that a path names, if it is the caller's to read.
    ///
    /// # Errors
    /// 400, 404.
    fn record(&self, collection: &str, id: &str) -> Result<RecordKey, Problem> {
        let collection = self.collection(collection)?;
        let id = RecordId::parse(id);
        let id = id.map_err(|error| Problem::invalid(format!("the id: {error}")))?;
        Ok(RecordKey { collection, id })
    }
}

/// The token that a request shows.
///
/// # Errors
/// 401 where it shows something else.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(said) = body::text(headers, &header::AUTHORIZATION)? else {
        return Ok(None);
    };
    match said.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(token.trim())),
        _ => {
            let detail = "Authorization is Bearer and a token";
            Err(Problem::new(StatusCode::UNAUTHORIZED, Code::Unauthorized, detail))
        }
    }
}

/// Who shows too many tokens that are not good waits, over whichever way in they come.
async fn watch_tokens(limiter: Arc<Limiter>, request: Request, next: Next) -> Response {
    let slot = request.extensions().get::<Arc<Slot>>().cloned();
    let token = bearer(request.headers()).ok().flatten().map(str::to_owned);
    let (Some(slot), Some(token)) = (slot, token) else {
        return next.run(request).await;
    };
    if let Err(met) = limiter.token_from(slot.address(), &token) {
        return Problem::too_often(&met).into_response();
    }
    let response = next.run(request).await;
    match response.status() {
        StatusCode::UNAUTHORIZED => limiter.token_was(slot.address(), &token, false),
        status if status.is_success() => limiter.token_was(slot.address(), &token, true),
        _ => {}
    }
    response
}

/// A page of an origin that is not allowed is told nothing, and nothing is done for it: as on `/sync`.
async fn refuse_strangers(origins: Arc<[String]>, request: Request, next: Next) -> Response {
    if ws::origin_is_allowed(request.headers(), &origins) {
        return next.run(request).await;
    }
    let detail = "pages of this origin may not ask";
    Problem::new(StatusCode::FORBIDDEN, Code::Forbidden, detail).into_response()
}
