//! A place in the feed that a client keeps: opaque to it.
//!
//! Invariant: whoever goes on from a cursor misses nothing that its feed has, or is told to begin anew. Absent: what
//! stands in the feed.

use super::problem::Problem;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rejoin_core::{
    hlc::Hlc,
    id::{CollectionName, Cursor, Epoch, RecordId, RecordKey, Seq},
    protocol::{host::Standing, message::Place},
};

const VERSION: u8 = 1;

/// Where a client stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    /// Everything up to here was told when here was the head: `seq`, 0 where nothing was.
    pub(crate) seq: Seq,
    /// In which epoch that and `place` were.
    pub(crate) epoch: Epoch,
    /// The server's clock when `seq` was the head.
    pub(crate) time: Hlc,
    /// How far the pages behind it have come, if it is on the way.
    pub(crate) place: Option<Place>,
}

impl Position {
    /// Before everything.
    pub(crate) const START: Self =
        Self { seq: Seq(0), epoch: Epoch::from_bytes([0; 16]), time: Hlc::ZERO, place: None };

    /// At the head.
    pub(crate) const fn at_head(standing: &Standing) -> Self {
        let Standing { head, epoch, clock, .. } = standing;
        Self { seq: *head, epoch: *epoch, time: *clock, place: None }
    }

    /// On the way from here.
    pub(crate) fn on_the_way(&self, place: Place) -> Self {
        Self { place: Some(place), ..self.clone() }
    }

    fn is_start(&self) -> bool {
        self.seq == Seq(0) && self.place.is_none()
    }

    /// Where the feed goes on from here, and from which position that is seen.
    ///
    /// # Errors
    /// 410 where that is not known any more.
    pub(crate) fn resume(&self, standing: &Standing) -> Result<(Self, Place), Problem> {
        if self.is_start() {
            // Nothing that is gone by now is known to it.
            let begun = Self { epoch: standing.epoch, time: standing.clock, ..Self::START };
            return Ok((begun, Place::default()));
        }
        let furthest = self.place.as_ref().map_or(self.seq, |place| place.seq.max(self.seq));
        let cursor = Cursor { epoch: self.epoch, seq: furthest };
        if !standing.goes_on(&cursor, self.time) {
            return Err(Problem::cursor_gone());
        }
        let whole = Self { epoch: standing.epoch, place: None, ..self.clone() };
        match &self.place {
            Some(place) if self.epoch == standing.epoch => Ok((whole, place.clone())),
            // What had moved on behind the place may stand before it in a history that was put back: again from where
            // all was told.
            Some(_) | None => Ok((whole, Place::at(self.seq))),
        }
    }

    pub(crate) fn encode(&self) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend(self.epoch.as_bytes());
        bytes.extend(self.seq.0.to_be_bytes());
        bytes.extend(self.time.to_bits().to_be_bytes());
        if let Some(place) = &self.place {
            bytes.extend(place.seq.0.to_be_bytes());
            bytes.extend(place.key.iter().flat_map(RecordKey::to_store_key));
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// # Errors
    /// 400.
    pub(crate) fn decode(text: &str) -> Result<Self, Problem> {
        let parsed = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| parse(&bytes));
        parsed.ok_or_else(|| Problem::invalid("the cursor is none of this server"))
    }
}

fn parse(bytes: &[u8]) -> Option<Position> {
    let (version, rest) = bytes.split_first()?;
    if *version != VERSION {
        return None;
    }
    let (epoch, rest) = rest.split_first_chunk::<16>()?;
    let (seq, rest) = rest.split_first_chunk::<8>()?;
    let (time, rest) = rest.split_first_chunk::<8>()?;
    let place = if rest.is_empty() { None } else { Some(parse_place(rest)?) };
    Some(Position {
        seq: Seq(u64::from_be_bytes(*seq)),
        epoch: Epoch::from_bytes(*epoch),
        time: Hlc::from_bits(u64::from_be_bytes(*time)),
        place,
    })
}

fn parse_place(bytes: &[u8]) -> Option<Place> {
    let (seq, rest) = bytes.split_first_chunk::<8>()?;
    let key = if rest.is_empty() { None } else { Some(parse_key(rest)?) };
    Some(Place { seq: Seq(u64::from_be_bytes(*seq)), key })
}

fn parse_key(bytes: &[u8]) -> Option<RecordKey> {
    let (collection, id) = std::str::from_utf8(bytes).ok()?.split_once('\0')?;
    let collection = CollectionName::parse(collection).ok()?;
    Some(RecordKey { collection, id: RecordId::parse(id).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_read_as_they_are_written_and_nothing_else_is() {
        let key = RecordKey {
            collection: CollectionName::parse("tasks/42").unwrap(),
            id: RecordId::parse("é").unwrap(),
        };
        let whole = Position {
            seq: Seq(7),
            epoch: Epoch::from_bytes([3; 16]),
            time: Hlc::from_bits(9),
            place: None,
        };
        let inside = whole.on_the_way(Place { seq: Seq(8), key: Some(key) });
        for position in
            [Position::START, whole.clone(), whole.on_the_way(Place::at(Seq(9))), inside]
        {
            let text = position.encode();
            assert_eq!(Position::decode(&text).unwrap(), position);
            for other in [text.split_at(1).1, text.split_at(text.len() - 2).0, "", "%"] {
                assert_ne!(Position::decode(other).ok(), Some(position.clone()), "{other}");
            }
        }
    }
}
