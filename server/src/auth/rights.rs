//! Which spaces and collections: by name, by the beginning of names, or by what claims say.
//!
//! Invariant: a claim stands for one whole segment of a name, or what is between two fixed texts of it: no
//! value of a claim, whoever chose it, reaches another segment, or a pattern. Absent: tokens.

use rejoin_core::{
    id::{NameError, Pattern, SpaceId},
    protocol::message::Right,
};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Some spaces and what may be done in them: an entry of a file of tokens, of the settings, or of a claim.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SpaceGrant {
    /// A name, `*` for all, or the beginning of names before a `*`.
    pub space: String,
    /// Collections: `*`, a name, or a name and all below it (`name/*`). Without it all.
    #[serde(default = "all")]
    pub collections: Vec<String>,
    /// Whether they may be written; they may be read in any case.
    #[serde(default)]
    pub write: bool,
}

/// Reads an object of JSON.
impl FromStr for SpaceGrant {
    type Err = serde_json::Error;

    fn from_str(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

impl fmt::Display for SpaceGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_told| fmt::Error)?)
    }
}

fn all() -> Vec<String> {
    vec!["*".to_owned()]
}

/// A name that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?}: {source}")]
pub struct BadName {
    /// The name.
    pub name: String,
    /// Why.
    pub source: NameError,
}

/// An entry without claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    space: SpacePattern,
    rights: Vec<Right>,
}

impl Rule {
    pub(super) fn parse(entry: &SpaceGrant) -> Result<Self, BadName> {
        let space = SpacePattern::parse(&entry.space)
            .map_err(|source| BadName { name: entry.space.clone(), source })?;
        let rights = entry.collections.iter().map(|text| {
            let pattern = Pattern::parse(text);
            let pattern = pattern.map_err(|source| BadName { name: text.clone(), source })?;
            Ok(Right { pattern, write: entry.write })
        });
        Ok(Self { space, rights: rights.collect::<Result<_, _>>()? })
    }
}

/// What some rules allow in a space; nothing if none is about it.
pub(super) fn rights_of(rules: &[Rule], space: &SpaceId) -> Vec<Right> {
    let covering = rules.iter().filter(|rule| rule.space.covers(space));
    covering.flat_map(|rule| rule.rights.iter().cloned()).collect()
}

/// Which spaces: `*`, a name, or the beginning of names before a `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum SpacePattern {
    Exact(SpaceId),
    Beginning(String),
}

impl SpacePattern {
    fn parse(text: &str) -> Result<Self, NameError> {
        match text.strip_suffix('*') {
            Some("") => Ok(Self::Beginning(String::new())),
            // Names may end with a slash only here.
            Some(start) => {
                SpaceId::parse(start.trim_end_matches('/'))?;
                Ok(Self::Beginning(start.to_owned()))
            }
            None => SpaceId::parse(text).map(Self::Exact),
        }
    }

    fn covers(&self, space: &SpaceId) -> bool {
        match self {
            Self::Exact(name) => name == space,
            Self::Beginning(start) => space.as_str().starts_with(start),
        }
    }
}

/// Why a template cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// A brace without its other one, or nothing between them.
    #[error("{text:?}: a claim stands between braces, as in user-{{sub}}")]
    Braces {
        /// The template.
        text: String,
    },
    /// Two claims whose values could be told apart in two ways.
    #[error(
        "{text:?}: between two slashes there is at most one claim, or one's value could pass for the other's"
    )]
    Ambiguous {
        /// The template.
        text: String,
    },
    /// A star behind a claim: the value of one user begins that of another.
    #[error("{text:?}: a star may not stand in one segment with a claim: put a slash between")]
    Star {
        /// The template.
        text: String,
    },
    /// The fixed parts are no name.
    #[error(transparent)]
    Name(#[from] BadName),
}

/// An entry with claims in its names.
#[derive(Debug)]
pub(super) struct Template {
    space: SpaceTemplate,
    collections: Vec<Segments>,
    write: bool,
}

/// What can be asked of claims: the texts that one of them holds.
pub(super) trait Values {
    /// Those that may stand in a name.
    fn values(&self, claim: &str) -> Vec<String>;
}

impl Template {
    pub(super) fn parse(entry: &SpaceGrant) -> Result<Self, TemplateError> {
        let space = SpaceTemplate::parse(&entry.space)?;
        let collections = entry.collections.iter().map(|text| {
            let segments = Segments::parse(text)?;
            if segments.0.iter().filter(|segment| segment.claim.is_some()).count() > 1 {
                return Err(TemplateError::Ambiguous { text: text.clone() });
            }
            let name = segments.filled(|_| "x".to_owned());
            Pattern::parse(&name).map_err(|source| BadName { name: text.clone(), source })?;
            Ok(segments)
        });
        let collections = collections.collect::<Result<_, _>>()?;
        Ok(Self { space, collections, write: entry.write })
    }

    /// What it allows in a space to whoever has these claims.
    pub(super) fn rights(&self, space: &SpaceId, claims: &impl Values) -> Vec<Right> {
        let Some(bound) = self.space.bound(space, claims) else {
            return Vec::new();
        };
        let mut rights = Vec::new();
        for segments in &self.collections {
            let claim = segments.0.iter().find_map(|segment| segment.claim.as_deref());
            // A claim that named the space is what it was there.
            let values = claim.map_or_else(
                || vec![String::new()],
                |claim| match bound.iter().find(|(name, _)| *name == claim) {
                    Some((_, value)) => vec![value.clone()],
                    None => claims.values(claim),
                },
            );
            for value in values {
                // What is no name then grants nothing.
                if let Ok(pattern) = Pattern::parse(&segments.filled(|_| value.clone())) {
                    rights.push(Right { pattern, write: self.write });
                }
            }
        }
        rights
    }
}

/// Segments of a space's name, and perhaps how the rest begins.
#[derive(Debug)]
struct SpaceTemplate {
    segments: Segments,
    /// What the rest, behind a slash, begins with.
    rest: Option<String>,
}

impl SpaceTemplate {
    fn parse(text: &str) -> Result<Self, TemplateError> {
        let Some(open) = text.strip_suffix('*') else {
            let segments = Segments::parse(text)?;
            let name = segments.filled(|_| "x".to_owned());
            SpaceId::parse(&name).map_err(|source| BadName { name: text.to_owned(), source })?;
            return Ok(Self { segments, rest: None });
        };
        let mut segments = Segments::parse(open)?;
        let last = segments.0.pop().unwrap_or_default();
        if last.claim.is_some() {
            return Err(TemplateError::Star { text: text.to_owned() });
        }
        let name = segments.filled(|_| "x".to_owned());
        if !segments.0.is_empty() {
            SpaceId::parse(&name).map_err(|source| BadName { name: text.to_owned(), source })?;
        }
        Ok(Self { segments, rest: Some(last.before) })
    }

    /// The claims that make it the name of this space, with their values; `None` where none do.
    fn bound<'a>(
        &'a self,
        space: &SpaceId,
        claims: &impl Values,
    ) -> Option<Vec<(&'a str, String)>> {
        let mut bound: Vec<(&str, String)> = Vec::new();
        let mut left = Some(space.as_str());
        for segment in &self.segments.0 {
            let (name, behind) = match left?.split_once('/') {
                Some((name, behind)) => (name, Some(behind)),
                None => (left?, None),
            };
            left = behind;
            let value = segment.value_in(name)?;
            let Some(claim) = &segment.claim else { continue };
            let fits = match bound.iter().find(|(known, _)| known == claim) {
                Some((_, before)) => before == value,
                None => claims.values(claim).iter().any(|held| held == value),
            };
            if !fits {
                return None;
            }
            bound.push((claim, value.to_owned()));
        }
        let over = match (&self.rest, left) {
            (None, None) => true,
            (Some(rest), Some(left)) => left.starts_with(rest),
            (None, Some(_)) | (Some(_), None) => false,
        };
        over.then_some(bound)
    }
}

/// What stands between the slashes of a name.
#[derive(Debug)]
struct Segments(Vec<Segment>);

/// Fixed text, or a claim between fixed texts.
#[derive(Debug, Default)]
struct Segment {
    before: String,
    claim: Option<String>,
    after: String,
}

impl Segments {
    fn parse(text: &str) -> Result<Self, TemplateError> {
        let braces = || TemplateError::Braces { text: text.to_owned() };
        let mut segments = vec![Segment::default()];
        let mut left = text;
        // A claim's name may have slashes: issuers name theirs by URLs.
        while let Some(found) = left.chars().next() {
            let Some(segment) = segments.last_mut() else { break };
            left = left.get(found.len_utf8()..).unwrap_or_default();
            match found {
                '/' => segments.push(Segment::default()),
                '}' => return Err(braces()),
                '{' if segment.claim.is_some() => {
                    return Err(TemplateError::Ambiguous { text: text.to_owned() });
                }
                '{' => {
                    let (claim, behind) = left.split_once('}').ok_or_else(braces)?;
                    if claim.is_empty() || claim.contains('{') {
                        return Err(braces());
                    }
                    segment.claim = Some(claim.to_owned());
                    left = behind;
                }
                other if segment.claim.is_some() => segment.after.push(other),
                other => segment.before.push(other),
            }
        }
        Ok(Self(segments))
    }

    fn filled(&self, value: impl Fn(&str) -> String) -> String {
        let filled = self.0.iter().map(|segment| {
            let value = segment.claim.as_deref().map(&value).unwrap_or_default();
            format!("{}{value}{}", segment.before, segment.after)
        });
        filled.collect::<Vec<_>>().join("/")
    }
}

impl Segment {
    /// What stands where the claim is, empty without one; `None` where the fixed texts are others.
    fn value_in<'a>(&self, name: &'a str) -> Option<&'a str> {
        let value = name.strip_prefix(self.before.as_str())?.strip_suffix(self.after.as_str())?;
        (self.claim.is_some() != value.is_empty()).then_some(value)
    }
}

/// Whether a claim's value may stand in a name: not where it could be more than one segment's part.
pub(super) fn is_usable(value: &str) -> bool {
    !value.is_empty() && !value.contains(|c: char| c == '/' || c == '*' || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    struct Given(BTreeMap<&'static str, Vec<&'static str>>);

    impl Values for Given {
        fn values(&self, claim: &str) -> Vec<String> {
            let held = self.0.get(claim).into_iter().flatten();
            held.filter(|value| is_usable(value)).map(|value| (*value).to_owned()).collect()
        }
    }

    fn grant(space: &str, collections: &[&str]) -> SpaceGrant {
        let collections = collections.iter().map(|&text| text.to_owned()).collect();
        SpaceGrant { space: space.to_owned(), collections, write: true }
    }

    fn granted(
        template: &SpaceGrant,
        space: &str,
        claims: &[(&'static str, &[&'static str])],
    ) -> Vec<String> {
        let claims = Given(claims.iter().map(|(name, held)| (*name, held.to_vec())).collect());
        let rights =
            Template::parse(template).unwrap().rights(&SpaceId::parse(space).unwrap(), &claims);
        rights.iter().map(|right| right.pattern.to_string()).collect()
    }

    #[test]
    fn x12_template_grants_the_space_of_its_claims_and_no_other() {
        let own = grant("user-{sub}", &["*"]);
        for (space, sub, is_granted) in [
            ("user-ada", "ada", true),
            ("user-adam", "ada", false),
            ("user-ada/notes", "ada", false),
            ("user-", "", false),
            ("user-*", "*", false),
            ("user-bob", "*", false),
            ("user-a/b", "a/b", false),
            ("user-ada", "ada\n", false),
        ] {
            let got = granted(&own, space, &[("sub", &[sub])]);
            assert_eq!(!got.is_empty(), is_granted, "{space} of {sub:?}");
        }
        assert!(granted(&own, "user-ada", &[]).is_empty(), "no such claim");
        let teams = grant("t/{teams}/x*", &["*", "people/{sub}", "of/{teams}"]);
        let claims: &[(_, &[_])] = &[("teams", &["red", "blue"]), ("sub", &["ada"])];
        assert_eq!(granted(&teams, "t/blue/x1/y", claims), ["*", "people/ada", "of/blue"]);
        assert!(granted(&teams, "t/green/x1", claims).is_empty());
        assert!(granted(&teams, "t/blue", claims).is_empty());
        assert!(granted(&teams, "t/blue/y", claims).is_empty());
    }

    #[test]
    fn x12_value_of_a_claim_is_never_a_pattern_of_collections() {
        let rule = grant("demo", &["people/{sub}"]);
        assert_eq!(granted(&rule, "demo", &[("sub", &["ada", "*", "a/*", ""])]), ["people/ada"]);
    }

    #[test]
    fn claim_names_may_be_urls_and_stand_twice() {
        let rule = grant("{https://id.example/org}/a/{https://id.example/org}", &["*"]);
        let claims: &[(_, &[_])] = &[("https://id.example/org", &["x", "y"])];
        assert_eq!(granted(&rule, "x/a/x", claims).len(), 1);
        assert!(granted(&rule, "x/a/y", claims).is_empty());
    }

    #[test]
    fn templates_that_could_be_read_in_two_ways_are_refused() {
        let refused = |space: &str, collection: &str| {
            Template::parse(&grant(space, &[collection])).map(drop).unwrap_err()
        };
        assert!(matches!(refused("{a}-{b}", "*"), TemplateError::Ambiguous { .. }));
        assert!(matches!(refused("{a}*", "*"), TemplateError::Star { .. }));
        assert!(matches!(refused("{a}-*", "*"), TemplateError::Star { .. }));
        assert!(matches!(refused("a", "{a}/{b}"), TemplateError::Ambiguous { .. }));
        for text in ["{", "}", "{}", "a{b", "a}b", "{{a}}"] {
            assert!(matches!(refused(text, "*"), TemplateError::Braces { .. }), "{text}");
        }
        assert!(matches!(refused("a//{b}", "*"), TemplateError::Name(_)));
        assert!(matches!(refused("a", "/{b}"), TemplateError::Name(_)));
        assert!(Template::parse(&grant("{a}/*", &["{b}/*"])).is_ok());
        assert!(Template::parse(&grant("*", &["*"])).is_ok());
    }
}
