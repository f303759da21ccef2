//! What writers write, and what a reader must then see.
//!
//! The n-th batch of a writer is a function of both, and each batch sets the writer's mark to n. So the mark that
//! a reader sees says how many batches of the writer are there, and all else that it sees follows from the marks:
//! values, removals, counters and sets, batches whole. Every kind of write is in it.
//!
//! With its mark a batch also says which marks of others its writer saw then. Whoever sees the batch has to see those
//! or later ones, and so, one step after the other, all that led to it: that is causal order. (Writers, too, see no
//! mark go back: `writers`.)

use anyhow::Context;
use rejoin_client::{
    Action, Change, Client, CollectionName, FieldAction, FieldChange, FieldName, NameError,
    Options, Pattern, RecordId, SpaceId, Value, Visible, erase, key, put, remove, set, update,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// Batches of which each is of another kind.
const KINDS: u64 = 8;
/// Records that a writer has by turns.
const SLOTS: u64 = 5;

/// How many batches of each writer are there.
pub(crate) type Marks = BTreeMap<u8, u64>;

/// How to open a client of all that is written here.
pub(crate) fn options(path: &Path, server: Option<String>) -> Result<Options, NameError> {
    options_in("demo", path, server)
}

/// The same in another space.
pub(crate) fn options_in(
    space: &str,
    path: &Path,
    server: Option<String>,
) -> Result<Options, NameError> {
    let options = Options::new(path, SpaceId::parse(space)?, vec![Pattern::All]);
    Ok(Options { server, ..options })
}

/// The n-th batch of a writer, n from 1, who has seen nobody else's.
pub(crate) fn batch(writer: u8, n: u64) -> Result<Vec<Change>, NameError> {
    batch_behind(writer, n, &Marks::new())
}

/// The n-th batch of a writer who has seen these of others.
pub(crate) fn batch_behind(writer: u8, n: u64, seen: &Marks) -> Result<Vec<Change>, NameError> {
    let (round, number) = (n / KINDS, i64::try_from(n).unwrap_or(i64::MAX));
    let title = || set("title", Value::int(number));
    let shared = |field: &str, action| -> Result<Change, NameError> {
        let field = FieldName::parse(field)?;
        let action = Action::Upsert(vec![FieldChange { field, action }]);
        Ok(Change { key: key("shared", "all")?, action })
    };
    let (first, second) = (slot(writer, 'a', round), slot(writer, 'b', round));
    let change = match n % KINDS {
        0 => put(key("own", &first)?, [title()?]),
        1 if round > 0 => update(key("own", &first)?, [title()?]),
        2 => shared("votes", FieldAction::Add(number))?,
        3 => shared("tags", FieldAction::Insert(vec![tag(writer, n)]))?,
        4 => put(key("own", &second)?, [title()?]),
        5 if round % 2 == 1 => shared("tags", FieldAction::Delete(vec![tag(writer, n - 2)]))?,
        6 if round % 2 == 1 => remove(key("own", &first)?),
        7 if round % 3 == 2 => erase(key("own", &second)?),
        _ => shared("votes", FieldAction::Add(-1))?,
    };
    let others = seen.iter().filter(|(other, _)| **other != writer);
    let others = others.map(|(other, n)| format!("{other}:{n}")).collect::<Vec<_>>().join(" ");
    let mark = [set("n", Value::int(number))?, set("behind", Value::text(&others))?];
    let mark = Action::Upsert(mark.into());
    Ok(vec![change, Change { key: key("marks", &writer.to_string())?, action: mark }])
}

fn slot(writer: u8, name: char, round: u64) -> String {
    format!("{writer}{name}{}", round % SLOTS)
}

fn tag(writer: u8, n: u64) -> Value {
    Value::text(&format!("{writer}-{n}"))
}

/// What there is to see.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct View {
    own: BTreeMap<String, i64>,
    votes: i64,
    tags: BTreeSet<String>,
}

impl View {
    /// Takes in a writer's batches up to `upto`.
    fn replay(&mut self, writer: u8, upto: u64) {
        for n in 1..=upto {
            let (round, number) = (n / KINDS, i64::try_from(n).unwrap_or(i64::MAX));
            let (first, second) = (slot(writer, 'a', round), slot(writer, 'b', round));
            match n % KINDS {
                0 => drop(self.own.insert(first, number)),
                1 if round > 0 => drop(self.own.insert(first, number)),
                2 => self.votes += number,
                3 => drop(self.tags.insert(format!("{writer}-{n}"))),
                4 => drop(self.own.insert(second, number)),
                5 if round % 2 == 1 => drop(self.tags.remove(&format!("{writer}-{}", n - 2))),
                6 if round % 2 == 1 => drop(self.own.remove(&first)),
                7 if round % 3 == 2 => drop(self.own.remove(&second)),
                _ => self.votes -= 1,
            }
        }
    }
}

/// What a client shows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Seen {
    pub(crate) marks: Marks,
    /// For the last batch of each writer, what he had seen of others.
    pub(crate) behind: BTreeMap<u8, Marks>,
    view: View,
}

impl Seen {
    pub(crate) fn of(client: &Client) -> anyhow::Result<Self> {
        let mut seen = Self::default();
        for (id, fields) in all(client, "marks")? {
            let writer = id.as_str().parse()?;
            let number = fields.get(&FieldName::parse("n")?).and_then(to_number);
            seen.marks.insert(writer, number.unwrap_or_default().try_into()?);
            let behind = fields.get(&FieldName::parse("behind")?).and_then(in_words);
            seen.behind.insert(writer, to_marks(&behind.unwrap_or_default())?);
        }
        for (id, fields) in all(client, "own")? {
            let title = fields.get(&FieldName::parse("title")?).and_then(to_number);
            seen.view.own.insert(id.as_str().to_owned(), title.unwrap_or_default());
        }
        for (_, fields) in all(client, "shared")? {
            if let Some(Visible::Counter(total)) = fields.get(&FieldName::parse("votes")?) {
                seen.view.votes = *total;
            }
            if let Some(Visible::Set(tags)) = fields.get(&FieldName::parse("tags")?) {
                seen.view.tags = tags.iter().filter_map(to_text).collect();
            }
        }
        Ok(seen)
    }

    /// Why this cannot be what is left after its marks: none if it is.
    pub(crate) fn fault(&self) -> Option<String> {
        let mut view = View::default();
        for (writer, upto) in &self.marks {
            view.replay(*writer, *upto);
        }
        (view != self.view)
            .then(|| format!("after {:?} not {view:?} but {:?}", self.marks, self.view))
    }

    /// A batch that is there without what its writer had seen: none if there is no such.
    pub(crate) fn disorder(&self) -> Option<String> {
        self.behind.iter().find_map(|(writer, behind)| {
            let lacking = self.lacking(behind)?;
            Some(format!(
                "{} of {writer} are there, and not what they follow: {lacking}",
                self.mark(*writer)
            ))
        })
    }

    /// Something of `past` that is not there: none if all of it is.
    pub(crate) fn lacking(&self, past: &Marks) -> Option<String> {
        let lost = past.iter().find(|(writer, n)| self.mark(**writer) < **n);
        lost.map(|(writer, n)| {
            format!("{n} of {writer}, of which {} are there", self.mark(*writer))
        })
    }

    /// How many batches of a writer are there.
    pub(crate) fn mark(&self, writer: u8) -> u64 {
        self.marks.get(&writer).copied().unwrap_or_default()
    }
}

fn all(
    client: &Client,
    collection: &str,
) -> anyhow::Result<BTreeMap<RecordId, rejoin_client::Fields>> {
    Ok(client.all(&CollectionName::parse(collection)?)?)
}

fn to_number(visible: &Visible) -> Option<i64> {
    match visible {
        Visible::Value(Value::Number(number)) => number.as_i64(),
        Visible::Value(_) | Visible::Counter(_) | Visible::Set(_) | Visible::Review(_) => None,
    }
}

fn in_words(visible: &Visible) -> Option<String> {
    match visible {
        Visible::Value(value) => to_text(value),
        Visible::Counter(_) | Visible::Set(_) | Visible::Review(_) => None,
    }
}

fn to_marks(text: &str) -> anyhow::Result<Marks> {
    let parse = |word: &str| -> anyhow::Result<(u8, u64)> {
        let (writer, n) = word.split_once(':').context("no mark")?;
        Ok((writer.parse()?, n.parse()?))
    };
    text.split_whitespace().map(parse).collect()
}

fn to_text(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.clone()),
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::Bytes(_)
        | Value::Array(_)
        | Value::Map(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_client_shows_follows_from_its_marks_and_a_loss_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let open = async |name: &str| {
            Client::open(options(&directory.path().join(name), None).unwrap()).await.unwrap()
        };
        let client = open("whole").await;
        for n in 1..100 {
            client.write(batch(3, n).unwrap()).await.unwrap();
            let seen = Seen::of(&client).unwrap();
            assert_eq!((seen.mark(3), seen.fault()), (n, None));
        }
        for lost in 1..40 {
            let client = open(&format!("without {lost}")).await;
            let mut refused = false;
            for n in (1..=lost + 1).filter(|n| *n != lost) {
                refused |= client.write(batch(3, n).unwrap()).await.is_err();
            }
            let seen = Seen::of(&client).unwrap();
            // What the next batch overwrites cannot be missed.
            assert!(refused || seen.fault().is_some() || lost % KINDS == 0, "{lost}");
        }
    }

    #[tokio::test]
    async fn what_follows_is_not_seen_without_what_it_follows() {
        let directory = tempfile::tempdir().unwrap();
        let options = options(&directory.path().join("db"), None).unwrap();
        let client = Client::open(options).await.unwrap();
        let disorder = || Seen::of(&client).unwrap().disorder();
        let past = |marks: [(u8, u64); 2]| Marks::from(marks);
        // 3 saw two batches of 1; what it says of its own is not asked.
        client.write(batch_behind(3, 1, &past([(1, 2), (3, 9)])).unwrap()).await.unwrap();
        assert!(disorder().is_some_and(|what| what.contains("2 of 1, of which 0 are there")));
        client.write(batch(1, 1).unwrap()).await.unwrap();
        assert!(disorder().is_some(), "one of two");
        client.write(batch(1, 2).unwrap()).await.unwrap();
        assert_eq!(disorder(), None);
        client.write(batch(1, 3).unwrap()).await.unwrap();
        assert_eq!(disorder(), None, "a later one holds it");
        // By way of 3: who sees 2 has to see 3, and so what 3 saw.
        client.write(batch_behind(2, 1, &past([(3, 2), (4, 0)])).unwrap()).await.unwrap();
        assert!(disorder().is_some_and(|what| what.contains("2 of 3")));
    }
}
