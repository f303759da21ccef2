//! How often something is done: `90s`, `30m`, `24h`, `7d`, or `off`.

use std::{fmt, num::NonZeroU32, str::FromStr, time::Duration};

/// How often something is done, if ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Every(Option<(NonZeroU32, Unit)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Second,
    Minute,
    Hour,
    Day,
}

/// Text that says no such thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a number with s, m, h or d behind it, as in 24h, or off")]
pub struct EveryError;

impl Every {
    /// Never.
    pub const OFF: Self = Self(None);
    /// Every 24 hours.
    pub const DAY: Self = Self(Some((NonZeroU32::MIN.saturating_add(23), Unit::Hour)));

    /// The time between two, unless it is never done.
    #[must_use]
    pub fn interval(self) -> Option<Duration> {
        let (number, unit) = self.0?;
        let seconds = match unit {
            Unit::Second => 1,
            Unit::Minute => 60,
            Unit::Hour => 3_600,
            Unit::Day => 86_400,
        };
        Some(Duration::from_secs(u64::from(number.get()) * seconds))
    }
}

impl FromStr for Every {
    type Err = EveryError;

    fn from_str(text: &str) -> Result<Self, EveryError> {
        if text == "off" {
            return Ok(Self::OFF);
        }
        let units = [('s', Unit::Second), ('m', Unit::Minute), ('h', Unit::Hour), ('d', Unit::Day)];
        let found = units
            .into_iter()
            .find_map(|(name, unit)| Some((text.strip_suffix(name)?.parse().ok()?, unit)));
        found.map(|every| Self(Some(every))).ok_or(EveryError)
    }
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("off"),
            Some((number, unit)) => {
                let unit = match unit {
                    Unit::Second => 's',
                    Unit::Minute => 'm',
                    Unit::Hour => 'h',
                    Unit::Day => 'd',
                };
                write!(f, "{number}{unit}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_read_as_they_are_printed() {
        for (text, seconds) in [("90s", 90), ("30m", 1_800), ("24h", 86_400), ("7d", 604_800)] {
            let every: Every = text.parse().unwrap();
            assert_eq!(every.interval(), Some(Duration::from_secs(seconds)));
            assert_eq!(every.to_string(), text);
        }
        assert_eq!("off".parse(), Ok(Every::OFF));
        assert_eq!(Every::DAY.to_string(), "24h");
        for text in ["", "24", "0h", "-1h", "1.5h", "h", "OFF", "1w", "99999999999d"] {
            assert_eq!(text.parse::<Every>(), Err(EveryError), "{text}");
        }
    }
}
