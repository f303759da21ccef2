//! Which state of a record: `ETag`, and what `If-Match` and `If-None-Match` expect.

use super::{body, problem::Problem};
use axum::http::{HeaderMap, header};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rejoin_core::{id::Digest, protocol::host::Expected};

/// The tag of a state: its digest, so two that are equal have one, on whatever server.
pub(crate) fn tag(digest: &Digest) -> String {
    format!("\"{}\"", URL_SAFE_NO_PAD.encode(digest.as_bytes()))
}

/// Reads a list of tags; `None` for `*`. A tag that no server gave stands for no state.
///
/// # Errors
/// What it is not.
fn list(text: &str) -> Result<Option<Vec<Digest>>, String> {
    if text.trim() == "*" {
        return Ok(None);
    }
    let mut digests = Vec::new();
    for item in text.split(',').map(str::trim) {
        let quoted = item.strip_prefix("W/").unwrap_or(item);
        let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let inner = inner.ok_or_else(|| format!("{item:?} is no tag: \"...\", or *"))?;
        let bytes = URL_SAFE_NO_PAD.decode(inner).ok();
        digests.extend(bytes.and_then(|bytes| bytes.try_into().ok()).map(Digest::from_bytes));
    }
    Ok(Some(digests))
}

/// What `If-Match` says, in a header or elsewhere.
///
/// # Errors
/// What it is not.
pub(crate) fn expected(if_match: &str) -> Result<Expected, String> {
    Ok(list(if_match)?.map_or(Expected::Live, Expected::OneOf))
}

/// What a request that writes expects of its record.
///
/// # Errors
/// 400 where it expects what is not asked for in writing.
pub(crate) fn conditions(headers: &HeaderMap) -> Result<Vec<Expected>, Problem> {
    let matching = body::text(headers, &header::IF_MATCH)?.map(expected).transpose();
    let matching = matching.map_err(Problem::invalid)?;
    let absent = match body::text(headers, &header::IF_NONE_MATCH)? {
        None => None,
        Some(text) if text.trim() == "*" => Some(Expected::Absent),
        Some(_) => {
            return Err(Problem::invalid("If-None-Match of a write is * (it must not be there)"));
        }
    };
    Ok(matching.into_iter().chain(absent).collect())
}

/// Whether who reads has the state already.
///
/// # Errors
/// 400.
pub(crate) fn is_known(headers: &HeaderMap, digest: &Digest) -> Result<bool, Problem> {
    let known = body::text(headers, &header::IF_NONE_MATCH)?.map(list).transpose();
    let known = known.map_err(Problem::invalid)?;
    Ok(known.is_some_and(|known| known.is_none_or(|known| known.contains(digest))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_read_as_they_are_given_and_others_match_nothing() {
        let (one, other) = (Digest::from_bytes([1; 32]), Digest::from_bytes([2; 32]));
        let both = format!("{}, W/{}", tag(&one), tag(&other));
        assert_eq!(expected(&both), Ok(Expected::OneOf(vec![one, other])));
        assert_eq!(expected(" * "), Ok(Expected::Live));
        assert_eq!(expected("\"abc\", W/\"\""), Ok(Expected::OneOf(Vec::new())));
        for none in ["", "abc", "\"abc", "\"", "\"a\", ", "*, *"] {
            assert!(expected(none).is_err(), "{none}");
        }
    }
}
