use super::*;
use crate::{
    codec::{CodecFault, Writer, encode_record},
    message::{Message, PROOF_BYTES, wire},
    testing::{
        generators::{arbitrary_key, arbitrary_record},
        messages::arbitrary_chunk,
        rng::Rng,
    },
};

fn records(rng: &mut Rng, count: usize) -> Vec<ChunkRecord> {
    let record = |rng: &mut Rng| ChunkRecord {
        key: arbitrary_key(rng),
        seq: Seq(rng.any_size()),
        proof: rng.bytes(),
        bytes: encode_record(&arbitrary_record(rng)),
    };
    (0..count).map(|_| record(rng)).collect()
}

fn pack(records: Vec<ChunkRecord>) -> Chunk {
    Chunk::pack(1, (None, None), (true, 7), records)
}

fn sorted(mut records: Vec<ChunkRecord>) -> Vec<ChunkRecord> {
    records.sort_by_key(|record| alloc::format!("{record:?}"));
    records
}

#[test]
fn what_is_opened_is_what_was_packed() {
    for seed in 0..200 {
        let rng = &mut Rng::new(seed);
        let count = rng.index(20);
        let packed = records(rng, count);
        for chunk in [pack(packed.clone()), pack(packed.clone()).deflated()] {
            let opened = chunk.open().unwrap().unwrap();
            assert_eq!(sorted(opened), sorted(packed.clone()), "seed {seed}");
        }
    }
}

#[test]
fn bytes_that_are_no_record_come_out_as_they_were() {
    let rng = &mut Rng::new(3);
    let mut odd = records(rng, 3);
    odd[0].bytes = Vec::new();
    odd[1].bytes = Vec::from([0xff, 0x84, 0x80]);
    odd[2].bytes.push(0);
    let opened = pack(odd.clone()).deflated().open().unwrap().unwrap();
    assert_eq!(sorted(opened), sorted(odd));
}

#[test]
fn m11_a_chunk_with_a_flipped_bit_brings_nothing_else_than_the_chunk() {
    for seed in 0..8 {
        let chunk = arbitrary_chunk(&mut Rng::new(seed));
        let bytes = wire::encode(&Message::Chunk(chunk.clone()));
        let whole = chunk.open().unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(Message::Chunk(other)) = wire::decode(&flipped) {
                // The last byte of a deflated stream has bits that mean nothing.
                let same = |opened: &_| *opened == whole && other.upto == chunk.upto;
                let opened = other.open().ok().filter(Option::is_some);
                assert!(opened.as_ref().is_none_or(same), "seed {seed}, bit {bit}: {other:?}");
            }
        }
    }
}

#[test]
fn records_that_are_alike_are_sent_small_and_noise_is_sent_as_it_is() {
    let rng = &mut Rng::new(1);
    let one = records(rng, 1).remove(0);
    let alike: Vec<_> = (0..500)
        .map(|at| ChunkRecord { seq: Seq(at), key: arbitrary_key(rng), ..one.clone() })
        .collect();
    let plain: usize = alike.iter().map(|record| record.bytes.len()).sum();
    let deflated = pack(alike).deflated();
    assert!(deflated.packed.columns.len() * 2 < plain + 500 * 20);
    let noise: Vec<u8> = (0..64_u64 << 10).map(|_| rng.byte()).collect();
    let noisy = ChunkRecord { bytes: noise, ..one };
    assert_eq!(pack(Vec::from([noisy])).deflated().packed.inflated, None);
    assert_eq!(wire::deflated(&wire::encode(&Message::Ping { nonce: 1 })), None);
}

/// A chunk of these columns, deflated, that claims to inflate to `size`.
fn claiming(columns: &[u8], size: usize) -> Chunk {
    let mut chunk = pack(Vec::new());
    chunk.packed.sum = chunk.sum(columns);
    chunk.packed.columns = deflate::compress_to_vec(columns, LEVEL);
    chunk.packed.inflated = Some(u32::try_from(size).unwrap());
    chunk
}

#[test]
fn what_would_inflate_beyond_its_limits_is_refused_before_it_does() {
    let zeros = alloc::vec![0; CHUNK_BYTES_MAX + 1];
    let fault = claiming(&zeros, zeros.len()).open().unwrap_err();
    assert_eq!(fault, ChunkFault::TooLarge { got: CHUNK_BYTES_MAX + 1 });
    // It inflates to more than it says.
    let fault = claiming(&zeros, 1_000).open().unwrap_err();
    assert_eq!(fault, ChunkFault::Deflated { inflated: 1_000 });
    // To less.
    let fault = claiming(&[1, 2, 3], 100).open().unwrap_err();
    assert_eq!(fault, ChunkFault::Deflated { inflated: 100 });
    let deflated = deflate::compress_to_vec(&zeros[..1 << 20], LEVEL).len();
    let fault = claiming(&zeros[..1 << 20], 1 << 20).open().unwrap_err();
    assert_eq!(fault, ChunkFault::Ratio { deflated, inflated: 1 << 20 });
    let mut garbage = claiming(&[1, 2, 3], 3);
    garbage.packed.columns = Vec::from([0xff; 40]);
    assert_eq!(garbage.open().unwrap_err(), ChunkFault::Deflated { inflated: 3 });
}

/// Columns of one record by the first of so many templates: `uses` says which one it takes.
fn columns_of_one(uses: u8) -> Vec<u8> {
    let mut out = Writer::new();
    out.array(2);
    out.text("notes");
    out.uint(1);
    out.text("r");
    out.int(0);
    out.array(1);
    out.array(0);
    out.bytes(&[7]);
    out.bytes(&[uses]);
    out.bytes(&[]);
    out.array(0);
    out.into_bytes()
}

fn of_columns(columns: Vec<u8>, proofs: usize) -> Chunk {
    let mut chunk = pack(Vec::new());
    chunk.packed.columns = columns;
    chunk.packed.proofs = alloc::vec![0; proofs];
    chunk.remarked()
}

#[test]
fn columns_that_do_not_fit_each_other_are_refused() {
    let range = |chunk: Chunk| {
        let opened = chunk.open();
        matches!(opened, Err(ChunkFault::Columns(error)) if error.kind == CodecFault::Range)
    };
    let opened = of_columns(columns_of_one(0), PROOF_BYTES).open().unwrap().unwrap();
    assert_eq!(opened[0].bytes, [7]);
    assert!(range(of_columns(columns_of_one(1), PROOF_BYTES)), "a template that is not there");
    for proofs in [0, 1, PROOF_BYTES - 1, PROOF_BYTES + 1, 2 * PROOF_BYTES] {
        assert!(range(of_columns(columns_of_one(0), proofs)), "{proofs} bytes of proofs");
    }
    let large = of_columns(alloc::vec![0; CHUNK_BYTES_MAX + 1], 0);
    assert_eq!(large.open(), Err(ChunkFault::TooLarge { got: CHUNK_BYTES_MAX + 1 }));
    assert_eq!(large.clone().deflated(), large, "what nobody would open is not made smaller");
}

#[test]
fn a_template_that_many_records_repeat_takes_no_more_memory_than_a_chunk_may() {
    let count = 20_u8;
    let mut out = Writer::new();
    out.array(2);
    out.text("notes");
    out.uint(u64::from(count));
    (0..count).for_each(|at| out.text(&alloc::format!("r{at:02}")));
    (0..count).for_each(|_| out.int(0));
    out.array(1);
    out.array(1);
    out.bytes(&alloc::vec![7; 1 << 20]);
    out.bytes(&alloc::vec![0; usize::from(count)]);
    out.bytes(&[]);
    out.array(0);
    let mut chunk = pack(Vec::new());
    chunk.packed.columns = out.into_bytes();
    chunk.packed.proofs = alloc::vec![0; PROOF_BYTES * usize::from(count)];
    chunk.packed.sum = chunk.sum(&chunk.packed.columns);
    assert!(matches!(chunk.open(), Err(ChunkFault::TooLarge { .. })), "{:?}", chunk.open());
}

#[test]
fn columns_that_are_cut_or_changed_under_a_good_mark_are_errors_and_never_panic() {
    for seed in 0..40 {
        let rng = &mut Rng::new(seed);
        let chunk = pack(records(rng, 4));
        for _ in 0..40 {
            let mut other = chunk.clone();
            let len = other.packed.columns.len();
            if rng.once_in(2) {
                other.packed.columns.truncate(rng.index(len));
            } else {
                other.packed.columns[rng.index(len)] = rng.byte();
            }
            other.packed.sum = other.sum(&other.packed.columns);
            drop(other.open());
        }
    }
}
