//! Whatever is done to a map, it says what the standard one says.

use super::{Entry, SortedMap, SortedSet};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use core::ops::Bound;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Insert(u16, u8),
    Remove(u16),
    PopFirst,
    PopLast,
    Retain(u8),
    SplitOff(u16),
    Extend(Vec<(u16, u8)>),
    Rising(u16, u8),
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..600_u16;
    prop_oneof![
        8 => (key.clone(), any::<u8>()).prop_map(|(key, value)| Step::Insert(key, value)),
        6 => key.clone().prop_map(Step::Remove),
        1 => Just(Step::PopFirst),
        1 => Just(Step::PopLast),
        1 => (2..9_u8).prop_map(Step::Retain),
        1 => key.clone().prop_map(Step::SplitOff),
        2 => proptest::collection::vec((key.clone(), any::<u8>()), 0..200).prop_map(Step::Extend),
        2 => (key, 0..200_u8).prop_map(|(from, count)| Step::Rising(from, count)),
        1 => Just(Step::Clear),
    ]
}

fn act(step: Step, map: &mut SortedMap<u16, u8>, model: &mut BTreeMap<u16, u8>) {
    match step {
        Step::Insert(key, value) => {
            assert_eq!(map.insert(key, value), model.insert(key, value));
        }
        Step::Remove(key) => assert_eq!(map.remove(&key), model.remove(&key)),
        Step::PopFirst => assert_eq!(map.pop_first(), model.pop_first()),
        Step::PopLast => assert_eq!(map.pop_last(), model.pop_last()),
        Step::Retain(part) => {
            map.retain(|key, _| key % u16::from(part) == 0);
            model.retain(|key, _| key % u16::from(part) == 0);
        }
        Step::SplitOff(key) => {
            let (mut rest, mut model_rest) = (map.split_off(&key), model.split_off(&key));
            assert!(rest.iter().eq(&model_rest));
            assert_eq!(rest.len(), model_rest.len());
            if key % 2 == 0 {
                map.append(&mut rest);
                model.append(&mut model_rest);
            }
        }
        Step::Extend(entries) => {
            map.extend(entries.clone());
            model.extend(entries);
        }
        Step::Rising(from, count) => {
            for key in from..from + u16::from(count) {
                *map.entry(key).or_default() ^= 1;
                *model.entry(key).or_default() ^= 1;
            }
        }
        Step::Clear => {
            map.clear();
            model.clear();
        }
    }
}

fn agree(map: &SortedMap<u16, u8>, model: &BTreeMap<u16, u8>, low: u16, high: u16) {
    assert_eq!((map.len(), map.is_empty()), (model.len(), model.is_empty()));
    assert!(map.iter().eq(model));
    assert!(map.iter().rev().eq(model.iter().rev()));
    assert!(map.keys().eq(model.keys()) && map.values().rev().eq(model.values().rev()));
    assert_eq!(map.first_key_value(), model.first_key_value());
    assert_eq!(map.last_key_value(), model.last_key_value());
    for key in [low, high] {
        assert_eq!(map.get(&key), model.get(&key));
        assert_eq!(map.contains_key(&key), model.contains_key(&key));
    }
    let ends = [Bound::Unbounded, Bound::Included(low), Bound::Excluded(low)];
    for start in ends {
        for end in [Bound::Unbounded, Bound::Included(high), Bound::Excluded(high)] {
            if start == Bound::Excluded(low) && end == Bound::Excluded(high) && low == high {
                continue;
            }
            assert!(map.range((start, end)).eq(model.range((start, end))));
            assert!(map.range((start, end)).rev().eq(model.range((start, end)).rev()));
            if low < high && start != Bound::Unbounded {
                // The standard one panics.
                let swapped = (Bound::Included(high), Bound::Included(low));
                assert_eq!(map.range(swapped).next(), None);
            }
        }
    }
    let mut ends = map.clone().into_iter();
    let mut model_ends = model.clone().into_iter();
    for turn in 0..map.len() {
        let (ours, theirs) = if turn % 3 == 0 {
            (ends.next_back(), model_ends.next_back())
        } else {
            (ends.next(), model_ends.next())
        };
        assert_eq!(ours, theirs);
    }
    assert_eq!((ends.next(), ends.next_back()), (None, None));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn maps_say_what_standard_maps_say(
        steps in proptest::collection::vec(step(), 1..60),
        low in 0..600_u16,
        width in 0..600_u16,
    ) {
        let (mut map, mut model) = (SortedMap::new(), BTreeMap::new());
        for step in steps {
            act(step, &mut map, &mut model);
            agree(&map, &model, low, low + width);
        }
        for (_, value) in &mut map {
            *value = value.wrapping_add(1);
        }
        model.values_mut().for_each(|value| *value = value.wrapping_add(1));
        prop_assert!(map.iter().eq(&model));
        // The same entries in other runs are the same map.
        let again: SortedMap<u16, u8> = model.iter().rev().map(|(key, value)| (*key, *value)).collect();
        prop_assert_eq!(&again, &map);
        prop_assert_eq!(again.cmp(&map), core::cmp::Ordering::Equal);
    }

    #[test]
    fn maps_are_ordered_as_standard_maps(
        left in proptest::collection::vec((0..5_u8, 0..3_u8), 0..6),
        right in proptest::collection::vec((0..5_u8, 0..3_u8), 0..6),
    ) {
        let ours = |entries: &[(u8, u8)]| entries.iter().copied().collect::<SortedMap<_, _>>();
        let models = |entries: &[(u8, u8)]| entries.iter().copied().collect::<BTreeMap<_, _>>();
        prop_assert_eq!(ours(&left).cmp(&ours(&right)), models(&left).cmp(&models(&right)));
        prop_assert_eq!(ours(&left) == ours(&right), models(&left) == models(&right));
    }

    #[test]
    fn sets_say_what_standard_sets_say(
        items in proptest::collection::vec(0..300_u16, 0..400),
        others in proptest::collection::vec(0..300_u16, 0..400),
    ) {
        let (mut set, mut model) = (SortedSet::new(), BTreeSet::new());
        for item in items {
            prop_assert_eq!(set.insert(item), model.insert(item));
        }
        let (others, model_others): (SortedSet<u16>, BTreeSet<u16>) =
            (others.iter().copied().collect(), others.iter().copied().collect());
        prop_assert!(set.difference(&others).eq(model.difference(&model_others)));
        for item in &model_others {
            prop_assert_eq!(set.contains(item), model.contains(item));
            prop_assert_eq!(set.remove(item), model.remove(item));
        }
        prop_assert!(set.iter().rev().eq(model.iter().rev()));
        prop_assert_eq!((set.first(), set.last()), (model.first(), model.last()));
        prop_assert_eq!(set.pop_first(), model.pop_first());
        prop_assert!(set.range(100..).eq(model.range(100..)));
        prop_assert!(set.into_iter().eq(model));
    }
}

#[test]
fn a_place_that_is_taken_is_changed_and_a_free_one_is_filled() {
    let mut map = SortedMap::from([(1, 1)]);
    map.entry(1).and_modify(|value| *value += 1).or_insert(9);
    map.entry(2).and_modify(|value| *value += 1).or_insert(9);
    assert!(matches!(map.entry(2), Entry::Occupied(9)));
    assert!(map.into_iter().eq([(1, 2), (2, 9)]));
}
