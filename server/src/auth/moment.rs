//! Moments as files say them: dates with times and offsets (RFC 3339).

use rejoin_core::time::WallMillis;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// What a TOML date and time says; `None` without an offset, or before 1970.
pub(super) fn of_toml(datetime: toml::value::Datetime) -> Option<WallMillis> {
    let moment = OffsetDateTime::parse(&datetime.to_string(), &Rfc3339).ok()?;
    let millis = moment.unix_timestamp_nanos() / 1_000_000;
    u64::try_from(millis).ok().map(WallMillis)
}
