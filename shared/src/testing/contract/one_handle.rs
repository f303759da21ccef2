//! What one handle on one world shows.

use super::{LOG, META, all, applied, conflict, everything, get, ok, put, row, same, scan};
use crate::{
    io::{Answer, Batch, CommitOutcome, KeyRange, Keyspace, Page, Query, Row},
    port::Store,
};
use alloc::{format, vec, vec::Vec};
use core::num::NonZeroU32;

pub(super) async fn absent_reads_as_none(store: &impl Store) {
    for keyspace in Keyspace::ALL {
        assert_eq!(get(store, keyspace, b"absent").await, None, "an absent key has a value");
        same(&all(store, keyspace).await, &[], "a fresh store has rows");
    }
    let mut batch = Batch::default();
    batch.delete(Keyspace::Meta, b"absent".to_vec());
    applied(store, batch, "deleting an absent key is an error").await;
}

pub(super) async fn keyspaces_do_not_share_keys(store: &impl Store) {
    let mut batch = Batch::default();
    for keyspace in Keyspace::ALL {
        batch.put(keyspace, b"key".to_vec(), keyspace.name().as_bytes().to_vec());
    }
    applied(store, batch, "a put into every keyspace").await;
    for keyspace in Keyspace::ALL {
        let expected = [row(b"key", keyspace.name().as_bytes())];
        same(&all(store, keyspace).await, &expected, "keyspaces share keys");
    }
    let mut batch = Batch::default();
    batch.delete(Keyspace::Records, b"key".to_vec());
    applied(store, batch, "a delete").await;
    for keyspace in Keyspace::ALL {
        let there = get(store, keyspace, b"key").await.is_some();
        assert_eq!(there, keyspace != Keyspace::Records, "a delete reached another keyspace");
    }
}

pub(super) async fn empty_value_is_not_absent(store: &impl Store) {
    put(store, b"empty", b"").await;
    assert_eq!(
        get(store, META, b"empty").await,
        Some(Vec::new()),
        "an empty value reads as absent"
    );
    same(&all(store, META).await, &[row(b"empty", b"")], "an empty value is missing in a scan");
}

pub(super) async fn scan_is_ascending_and_half_open(store: &impl Store) {
    let keys: [&[u8]; 9] = [b"", b"\0", b"A", b"a", b"a\0", b"a\xff", b"b", b"\x7f", b"\xff"];
    let mut sorted = keys.to_vec();
    sorted.sort_unstable();
    // written in neither order
    for key in keys.iter().step_by(2).chain(keys.iter().skip(1).step_by(2)) {
        put(store, key, key).await;
    }
    let rows: Vec<Row> = sorted.iter().map(|key| row(key, key)).collect();
    same(&all(store, META).await, &rows, "a scan is not ascending by unsigned bytes");
    let mut bounds: Vec<Option<Vec<u8>>> = sorted.iter().map(|key| Some(key.to_vec())).collect();
    bounds.extend([None, Some(b"aa".to_vec()), Some(b"\xff\xff".to_vec())]);
    for start in bounds.iter().map(|bound| bound.clone().unwrap_or_default()) {
        for end in &bounds {
            let range = KeyRange { start: start.clone(), end: end.clone() };
            let inside =
                |row: &&Row| row.key >= start && end.as_ref().is_none_or(|end| row.key < *end);
            let expected: Vec<Row> = rows.iter().filter(inside).cloned().collect();
            let page = scan(store, META, &range, 100).await;
            same(&page.rows, &expected, &format!("scan is not half-open over {range:?}"));
            assert!(!page.more, "a whole range has more: {range:?}");
        }
    }
    let prefix = scan(store, META, &KeyRange::prefix(b"a"), 100).await;
    same(&prefix.rows, &[row(b"a", b"a"), row(b"a\0", b"a\0"), row(b"a\xff", b"a\xff")], "prefix");
}

pub(super) async fn full_page_is_not_cut_short(store: &impl Store) {
    let keys: [&[u8]; 4] = [b"a", b"b", b"c", b"d"];
    for key in keys {
        put(store, key, b"").await;
    }
    for limit in 1..6_usize {
        for (end, size) in [(None, 4_usize), (Some(b"d".to_vec()), 3), (Some(b"a".to_vec()), 0)] {
            let range = KeyRange { start: Vec::new(), end };
            let page = scan(store, META, &range, u32::try_from(limit).unwrap_or(1)).await;
            assert_eq!(page.rows.len(), limit.min(size), "rows at limit {limit} of {size}");
            assert_eq!(page.more, limit < size, "`more` at limit {limit} of {size} rows");
        }
    }
}

pub(super) async fn scan_ends_with_the_row_that_reaches_its_bytes(store: &impl Store) {
    for (key, len) in [(b"a", 3), (b"b", 0), (b"c", 2), (b"d", 9)] {
        put(store, key, &vec![7; len]).await;
    }
    // How many rows take so many bytes: empty values take none, and a row that goes beyond is not cut.
    for (bytes, size) in [(1, 1), (3, 1), (4, 3), (5, 3), (6, 4), (14, 4), (u32::MAX, 4)] {
        for limit in 1..6 {
            let query = Query::Scan {
                keyspace: META,
                range: KeyRange::default(),
                limit: NonZeroU32::new(limit).unwrap_or(NonZeroU32::MIN),
                bytes: NonZeroU32::new(bytes).unwrap_or(NonZeroU32::MIN),
            };
            let rows = size.min(usize::try_from(limit).unwrap_or(usize::MAX));
            match ok(store.read(&[query]).await, "read of some bytes").pop() {
                Some(Answer::Page(page)) => {
                    assert_eq!(page.rows.len(), rows, "rows of {bytes} bytes, at most {limit}");
                    assert_eq!(page.more, rows < 4, "`more` at {bytes} bytes, {limit} rows");
                }
                other => panic!("a scan was answered with {other:?}"),
            }
        }
    }
}

pub(super) async fn read_answers_in_order(store: &impl Store) {
    put(store, b"a", b"1").await;
    put(store, b"b", b"2").await;
    assert_eq!(ok(store.read(&[]).await, "read of nothing"), [], "answers without queries");
    let key = |key: &[u8]| Query::Get { keyspace: META, key: key.to_vec() };
    let rows = |keyspace, limit| Query::scan(keyspace, KeyRange::default(), limit);
    let queries = [
        key(b"b"),
        rows(META, NonZeroU32::MIN),
        key(b"none"),
        key(b"a"),
        rows(LOG, NonZeroU32::MAX),
    ];
    let expected = [
        Answer::Value(Some(b"2".to_vec())),
        Answer::Page(Page { rows: vec![row(b"a", b"1")], more: true }),
        Answer::Value(None),
        Answer::Value(Some(b"1".to_vec())),
        Answer::Page(Page::default()),
    ];
    let answers = ok(store.read(&queries).await, "read of five queries");
    assert_eq!(answers, expected, "`read` does not answer its queries in order");
}

pub(super) async fn failed_guard_leaves_everything_untouched(store: &impl Store) {
    put(store, b"kept", b"old").await;
    put(store, b"deleted", b"old").await;
    let before = everything(store).await;
    let bad: [(&[u8], Option<&[u8]>); 3] =
        [(b"kept", Some(b"other")), (b"kept", None), (b"absent", Some(b"old"))];
    for (key, seen) in bad {
        for place in 0..3 {
            let mut batch = Batch::default();
            for guard in 0..3 {
                if guard == place {
                    batch.guard(META, key.to_vec(), seen.map(<[u8]>::to_vec));
                } else {
                    batch.guard(META, b"deleted".to_vec(), Some(b"old".to_vec()));
                }
            }
            for keyspace in Keyspace::ALL {
                batch.put(keyspace, b"new".to_vec(), b"new".to_vec());
            }
            batch.put(META, b"kept".to_vec(), b"new".to_vec());
            batch.delete(META, b"deleted".to_vec());
            let outcome = ok(store.commit(batch).await, "guarded commit");
            assert_eq!(outcome, CommitOutcome::Conflict, "a guard that does not hold passed");
            assert_eq!(everything(store).await, before, "a failed guard left a change");
        }
    }
}

pub(super) async fn guards_compare_exact_bytes(store: &impl Store) {
    let guarded = |seen: Option<&[u8]>| {
        let mut batch = Batch::default();
        batch.guard(META, b"key".to_vec(), seen.map(<[u8]>::to_vec));
        batch
    };
    // guards speak of the state before the batch, whatever it writes
    let mut create = guarded(None);
    create.put(META, b"key".to_vec(), b"value".to_vec());
    applied(store, create.clone(), "a guard on an absent key fails while it is absent").await;
    conflict(store, create, "a guard on an absent key passes once it exists").await;
    applied(store, guarded(Some(b"value")), "a guard on the exact value fails").await;
    for near in [&b"valu"[..], b"value\0", b"Value", b"", b"valuf"] {
        conflict(store, guarded(Some(near)), &format!("a guard on {near:?} passes")).await;
    }
    put(store, b"key", b"").await;
    applied(store, guarded(Some(b"")), "a guard on the empty value fails").await;
    conflict(store, guarded(None), "an empty value counts as absent").await;
    let mut remove = guarded(Some(b""));
    remove.delete(META, b"key".to_vec());
    applied(store, remove, "a guarded delete").await;
    conflict(store, guarded(Some(b"")), "an absent key counts as empty").await;
    let mut elsewhere = Batch::default();
    elsewhere.put(LOG, b"key".to_vec(), b"value".to_vec());
    applied(store, elsewhere, "a put").await;
    applied(store, guarded(None), "a guard looks into another keyspace").await;
}

pub(super) async fn later_write_wins_within_a_batch(store: &impl Store) {
    put(store, b"put delete", b"old").await;
    put(store, b"delete put", b"old").await;
    let mut batch = Batch::default();
    batch.put(META, b"put put".to_vec(), b"first".to_vec());
    batch.put(META, b"put delete".to_vec(), b"first".to_vec());
    batch.delete(META, b"delete put".to_vec());
    batch.put(META, b"put put".to_vec(), b"last".to_vec());
    batch.delete(META, b"put delete".to_vec());
    batch.put(META, b"delete put".to_vec(), b"last".to_vec());
    applied(store, batch, "a batch that writes its keys twice").await;
    let expected = [row(b"delete put", b"last"), row(b"put put", b"last")];
    same(&all(store, META).await, &expected, "the later write to a key does not win");
}

pub(super) async fn batch_without_writes_is_legal(store: &impl Store) {
    applied(store, Batch::default(), "the empty batch fails").await;
    let mut batch = Batch::default();
    batch.guard(META, b"absent".to_vec(), Some(Vec::new()));
    conflict(store, batch, "a batch of guards alone is not checked").await;
}

pub(super) async fn relaxed_batch_is_visible_and_guarded(store: &impl Store) {
    let mut batch = Batch { relaxed: true, ..Batch::default() };
    batch.guard(META, b"key".to_vec(), None);
    batch.put(META, b"key".to_vec(), b"value".to_vec());
    applied(store, batch.clone(), "a relaxed batch").await;
    assert_eq!(
        get(store, META, b"key").await,
        Some(b"value".to_vec()),
        "a relaxed put is not seen"
    );
    conflict(store, batch, "a relaxed batch ignores its guards").await;
}

pub(super) async fn paging_equals_one_big_scan(store: &impl Store) {
    const ROWS: u32 = 100_000;
    let number = |n: u32| n.wrapping_mul(2_654_435_761).to_be_bytes();
    let mut expected: Vec<Row> = (0..ROWS).map(|n| row(&number(n), &n.to_be_bytes())).collect();
    for chunk in expected.chunks(5_000) {
        let mut batch = Batch::default();
        for Row { key, value } in chunk {
            batch.put(LOG, key.clone(), value.clone());
        }
        applied(store, batch, "5,000 rows").await;
    }
    expected.sort_unstable_by(|left, right| left.key.cmp(&right.key));
    let whole = scan(store, LOG, &KeyRange::default(), ROWS).await;
    assert!(whole.rows == expected && !whole.more, "one big scan differs from what was written");
    let mut paged = Vec::new();
    let mut range = KeyRange::default();
    loop {
        let Page { rows, more } = scan(store, LOG, &range, 4_999).await;
        let Some(last) = rows.last() else { panic!("an empty page says that more follows") };
        // the least key behind `last`
        range.start = [last.key.as_slice(), &[0]].concat();
        paged.extend(rows);
        if !more {
            break;
        }
    }
    assert!(paged == expected, "paging differs from one big scan");
}
