//! What a token says of its bearer.
//!
//! Invariant: no claim is there twice, so that all who read a token read the same. Absent: signatures.

use super::rights::{Values, is_usable};
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};
use serde_json::{Map, Value};
use std::fmt;

/// The claims of one token.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Claims(Map<String, Value>);

impl Claims {
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    /// A time, in milliseconds since 1970; fractions of a second are allowed.
    ///
    /// # Errors
    /// The claim is there and is no time.
    pub(super) fn time(&self, name: &str) -> Result<Option<u64>, NoTime> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        if let Some(seconds) = value.as_u64() {
            return Ok(Some(seconds.saturating_mul(1_000)));
        }
        let millis = value.as_f64().map(|seconds| seconds * 1_000.0).ok_or(NoTime)?;
        if !(0.0..9e15).contains(&millis) {
            return Err(NoTime);
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is within the range of exact integers"
        )]
        Ok(Some(millis as u64))
    }

    /// Whether a claim is this text, or a list with it.
    pub(super) fn has(&self, name: &str, text: &str) -> bool {
        match self.get(name) {
            Some(Value::String(held)) => held == text,
            Some(Value::Array(held)) => held.iter().any(|held| held.as_str() == Some(text)),
            _ => false,
        }
    }

    /// By its name, or by the names of objects within each other, with dots between.
    fn find(&self, path: &str) -> Option<&Value> {
        let direct = self.0.get(path);
        direct.or_else(|| {
            let mut names = path.split('.');
            let first = self.0.get(names.next()?);
            names.fold(first, |within, name| within?.get(name))
        })
    }
}

impl Values for Claims {
    fn values(&self, claim: &str) -> Vec<String> {
        let of = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => number.as_u64().map(|number| number.to_string()),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        let found = match self.find(claim) {
            Some(Value::Array(list)) => list.iter().filter_map(of).collect(),
            Some(value) => of(value).into_iter().collect(),
            None => Vec::new(),
        };
        found.into_iter().filter(|value| is_usable(value)).collect()
    }
}

/// A claim that should be a time is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoTime;

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Unique).map(Self)
    }
}

struct Unique;

impl<'de> Visitor<'de> for Unique {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object that names each claim once")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut claims = Map::new();
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            if claims.insert(name, value).is_some() {
                return Err(A::Error::custom("a claim is there twice"));
            }
        }
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(text: &str) -> Claims {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn x10_claims_that_are_there_twice_are_refused() {
        assert!(serde_json::from_str::<Claims>(r#"{"sub":"ada","sub":"eve"}"#).is_err());
        assert!(serde_json::from_str::<Claims>(r#"["sub"]"#).is_err());
    }

    #[test]
    fn values_are_found_by_name_by_path_and_in_lists() {
        let claims = claims(
            r#"{"a.b":"dotted","a":{"b":"nested","c":["x",7,{"y":1},"u/v",""]},"n":-1,"t":true}"#,
        );
        assert_eq!(claims.values("a.b"), ["dotted"]);
        assert_eq!(claims.values("a.c"), ["x", "7"]);
        for none in ["a", "n", "t", "a.d", "a.b.c", "z", ""] {
            assert!(claims.values(none).is_empty(), "{none}");
        }
    }

    #[test]
    fn times_are_seconds_with_or_without_a_fraction() {
        let claims =
            claims(r#"{"a":7,"b":7.25,"c":"7","d":-1,"e":1e300,"f":18446744073709551615}"#);
        assert_eq!(claims.time("a"), Ok(Some(7_000)));
        assert_eq!(claims.time("b"), Ok(Some(7_250)));
        assert_eq!(claims.time("f"), Ok(Some(u64::MAX)));
        assert_eq!(claims.time("z"), Ok(None));
        for none in ["c", "d", "e"] {
            assert_eq!(claims.time(none), Err(NoTime), "{none}");
        }
    }
}
