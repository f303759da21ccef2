//! What a field can hold, with a total order across types.
//!
//! Equal values have equal bytes: a float that is integral within ±2^53 *is* that integer, NaN has one
//! form, and negative zero is zero.

use crate::sorted::SortedMap;
use alloc::{string::String, vec::Vec};
use core::cmp::Ordering;

/// Integers up to this magnitude are the same in a float and in an `i64` (2^53).
pub const INTEGRAL_MAX: i64 = 1 << 53;

/// A value of a field. Ordered null < bool < number < string < bytes < array < map.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Value {
    /// Present and empty; differs from an absent field.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// A number of either kind.
    Number(Number),
    /// Unicode text.
    Text(String),
    /// Raw bytes.
    Bytes(Vec<u8>),
    /// Ordered values.
    Array(Vec<Self>),
    /// Named values, ordered by name.
    Map(SortedMap<String, Self>),
}

impl Value {
    /// A number from an integer.
    #[must_use]
    pub const fn int(value: i64) -> Self {
        Self::Number(Number(Repr::Int(value)))
    }

    /// A number from a float.
    #[must_use]
    pub fn float(value: f64) -> Self {
        Self::Number(Number::from_f64(value))
    }

    /// Text.
    #[must_use]
    pub fn text(value: &str) -> Self {
        Self::Text(String::from(value))
    }

    /// Levels of nesting: 1 for a scalar.
    #[must_use]
    pub fn depth(&self) -> usize {
        match self {
            Self::Array(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Self::Map(items) => 1 + items.values().map(Self::depth).max().unwrap_or(0),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text(_) | Self::Bytes(_) => 1,
        }
    }
}

/// An integer (`i64`) or a float that is not an integer within ±2^53.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number(Repr);

#[derive(Debug, Clone, Copy)]
enum Repr {
    Int(i64),
    Float(f64),
}

impl Number {
    /// The number an integer is.
    #[must_use]
    pub const fn from_i64(value: i64) -> Self {
        Self(Repr::Int(value))
    }

    /// The number a float is, in its one form.
    #[must_use]
    pub fn from_f64(value: f64) -> Self {
        if value.is_nan() {
            return Self(Repr::Float(f64::NAN));
        }
        let whole = truncate(value);
        if whole.unsigned_abs() <= INTEGRAL_MAX.unsigned_abs() && is_same(widen(whole), value) {
            Self(Repr::Int(whole))
        } else {
            Self(Repr::Float(value))
        }
    }

    /// The integer, unless it is a float.
    #[must_use]
    pub const fn as_i64(self) -> Option<i64> {
        match self.0 {
            Repr::Int(value) => Some(value),
            Repr::Float(_) => None,
        }
    }

    /// The nearest float; exact but for integers beyond ±2^53.
    #[must_use]
    pub const fn to_f64(self) -> f64 {
        match self.0 {
            Repr::Int(value) => widen(value),
            Repr::Float(value) => value,
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "saturating is what the callers rely on")]
const fn truncate(value: f64) -> i64 {
    value as i64
}

#[expect(clippy::cast_precision_loss, reason = "callers need the nearest float")]
const fn widen(value: i64) -> f64 {
    value as f64
}

#[expect(
    clippy::float_cmp,
    reason = "exact equality is meant: zero has one form, NaN was excluded"
)]
fn is_same(left: f64, right: f64) -> bool {
    left == right
}

impl PartialEq for Repr {
    fn eq(&self, other: &Self) -> bool {
        Number(*self).cmp(&Number(*other)) == Ordering::Equal
    }
}

impl Eq for Repr {}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    /// By numerical value; NaN is the greatest number.
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.0, other.0) {
            (Repr::Int(left), Repr::Int(right)) => left.cmp(&right),
            (Repr::Float(left), Repr::Float(right)) => left.total_cmp(&right),
            (Repr::Int(left), Repr::Float(right)) => int_against_float(left, right),
            (Repr::Float(left), Repr::Int(right)) => int_against_float(right, left).reverse(),
        }
    }
}

fn int_against_float(int: i64, float: f64) -> Ordering {
    if float.is_nan() || float >= 9_223_372_036_854_775_808.0 {
        return Ordering::Less;
    }
    if float < -9_223_372_036_854_775_808.0 {
        return Ordering::Greater;
    }
    let whole = truncate(float);
    int.cmp(&whole).then_with(|| widen(whole).total_cmp(&float)).then_with(|| {
        // An integer beyond 2^53 may equal a float that is kept as a float: the kinds differ.
        Ordering::Less
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integral_floats_are_integers() {
        assert_eq!(Value::float(3.0), Value::int(3));
        assert_eq!(Value::float(-0.0), Value::int(0));
        assert_eq!(Number::from_f64(9_007_199_254_740_992.0).as_i64(), Some(INTEGRAL_MAX));
        assert_eq!(Number::from_f64(18_014_398_509_481_984.0).as_i64(), None);
        assert_eq!(Value::float(f64::NAN), Value::float(-f64::NAN));
    }

    #[test]
    fn depth_is_that_of_the_deepest_item() {
        let list = |items: &[Value]| Value::Array(items.to_vec());
        let map = |value| Value::Map(SortedMap::from([(String::from("a"), value)]));
        assert_eq!(Value::Null.depth(), 1);
        assert_eq!(list(&[]).depth(), 1);
        assert_eq!(Value::Map(SortedMap::new()).depth(), 1);
        assert_eq!(list(&[Value::Null, list(&[Value::Null]), Value::Null]).depth(), 3);
        assert_eq!(map(list(&[map(Value::int(1))])).depth(), 4);
    }

    #[test]
    #[expect(clippy::float_cmp, reason = "exact")]
    fn numbers_are_the_nearest_floats() {
        assert_eq!(Number::from_i64(-3).to_f64(), -3.0);
        assert_eq!(Number::from_i64(i64::MAX).to_f64(), 9_223_372_036_854_775_808.0);
        assert_eq!(Number::from_f64(0.5).to_f64(), 0.5);
    }

    #[test]
    fn numbers_order_by_value_across_kinds() {
        let ascending = [
            Number::from_f64(f64::NEG_INFINITY),
            Number::from_i64(i64::MIN),
            // As large, and of another kind.
            Number::from_f64(-9_223_372_036_854_775_808.0),
            Number::from_f64(-1.5),
            Number::from_i64(-1),
            Number::from_f64(-0.5),
            Number::from_i64(0),
            Number::from_f64(0.5),
            Number::from_i64(i64::MAX - 1),
            Number::from_i64(i64::MAX),
            Number::from_f64(9_223_372_036_854_775_808.0),
            Number::from_f64(f64::INFINITY),
            Number::from_f64(f64::NAN),
        ];
        for (at, left) in ascending.iter().enumerate() {
            for (other, right) in ascending.iter().enumerate() {
                assert_eq!(left.cmp(right), at.cmp(&other), "{left:?} {right:?}");
            }
        }
    }

    #[test]
    fn types_order_as_documented() {
        let ascending = [
            Value::Null,
            Value::Bool(false),
            Value::Bool(true),
            Value::int(-5),
            Value::float(0.5),
            Value::text(""),
            Value::text("a"),
            Value::Bytes(Vec::new()),
            Value::Array(Vec::new()),
            Value::Map(SortedMap::new()),
        ];
        assert!(ascending.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
