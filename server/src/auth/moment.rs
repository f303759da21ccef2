//! Moments as files say them: dates with times and offsets (RFC 3339).

use crate::{clock, every::Every};
use rejoin_core::time::WallMillis;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// What a TOML date and time says; `None` without an offset, or before 1970.
pub(super) fn of_toml(datetime: toml::value::Datetime) -> Option<WallMillis> {
    OffsetDateTime::parse(&datetime.to_string(), &Rfc3339).ok().and_then(to_millis)
}

fn to_millis(moment: OffsetDateTime) -> Option<WallMillis> {
    let millis = moment.unix_timestamp_nanos() / 1_000_000;
    u64::try_from(millis).ok().map(WallMillis)
}

/// What somebody means by an end: so long from now, as `90d`, or a moment, as `2030-01-31T12:00:00Z`.
pub(crate) fn parse_end(text: &str) -> Result<WallMillis, String> {
    if let Some(span) = text.parse::<Every>().ok().and_then(Every::interval) {
        return Ok(WallMillis(clock::read().wall.0.saturating_add(clock::millis(span))));
    }
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok().and_then(to_millis);
    moment.ok_or_else(|| "so long from now, as 90d or 12h, or 2030-01-31T12:00:00Z".to_owned())
}

/// As files say it, without fractions of a second; `None` beyond the year 9999.
pub(super) fn text_of(moment: WallMillis) -> Option<String> {
    let seconds = i64::try_from(moment.0 / 1_000).ok()?;
    OffsetDateTime::from_unix_timestamp(seconds).ok()?.format(&Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_they_are_written() {
        let moment = WallMillis(1_000_000_000_000);
        assert_eq!(text_of(moment).as_deref(), Some("2001-09-09T01:46:40Z"));
        assert_eq!(parse_end("2001-09-09T01:46:40Z"), Ok(moment));
        assert_eq!(parse_end("2001-09-09T03:46:40+02:00"), Ok(moment));
        let day = parse_end("1d").unwrap().0 - clock::read().wall.0;
        assert!((86_390_000..=86_400_000).contains(&day), "{day}");
        for text in ["", "off", "2001-09-09", "1969-12-31T23:59:59Z", "tomorrow"] {
            assert!(parse_end(text).is_err(), "{text}");
        }
    }
}
