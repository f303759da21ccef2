//! Messages of a walk, both ways. Hashes are packed: as integers they would take a quarter more.

use super::{
    Numbered,
    decode::{self, Read, numbered, out_of_range, variant},
    encode,
};
use crate::{
    codec::{Reader, Writer},
    tree::{
        CELLS_MAX, Cell, ChildHash, LIST_ENTRIES_MAX, Levels, NODES_MAX, NodeState,
        PROBE_BYTES_MAX, Prefix, SketchCells, WalkBody, WalkMessage, WalkNode,
    },
};
use alloc::vec::Vec;

pub(super) fn write_walk(out: &mut Writer, message: &WalkMessage) {
    out.array(2);
    out.uint(message.salt);
    match &message.body {
        WalkBody::Root(root) => {
            out.array(2);
            out.uint(0);
            encode::digest(out, root);
        }
        WalkBody::Equal => {
            out.array(1);
            out.uint(1);
        }
        WalkBody::Nodes(nodes) => {
            out.array(2);
            out.uint(2);
            encode::pairs(out, nodes, |out, node| {
                write_prefix(out, &node.prefix);
                write_state(out, &node.state);
            });
        }
        WalkBody::End => {
            out.array(1);
            out.uint(3);
        }
        WalkBody::Cells(SketchCells { cells, probes }) => {
            out.array(3);
            out.uint(4);
            out.bytes(&cells.iter().flat_map(|cell| cell.to_bytes()).collect::<Vec<u8>>());
            out.bytes(probes);
        }
        WalkBody::Wanted(symbols) => {
            out.array(2);
            out.uint(5);
            out.bytes(&symbols.iter().flat_map(|symbol| symbol.to_be_bytes()).collect::<Vec<u8>>());
        }
    }
}

pub(super) fn read_walk(input: &mut Reader<'_>) -> Read<WalkMessage> {
    input.array_exact(2)?;
    let salt = input.uint()?;
    let at = input.position();
    let body = match variant(input)? {
        (1, 0) => WalkBody::Root(decode::digest(input)?),
        (0, 1) => WalkBody::Equal,
        (1, 2) => WalkBody::Nodes(decode::pairs(input, NODES_MAX, |input| {
            Ok(WalkNode { prefix: read_prefix(input)?, state: read_state(input)? })
        })?),
        (0, 3) => WalkBody::End,
        (2, 4) => {
            let cells = packed(input, CELLS_MAX, Cell::from_bytes)?;
            let at = input.position();
            let probes = input.bytes()?;
            if probes.len() > PROBE_BYTES_MAX {
                return Err(out_of_range(at));
            }
            WalkBody::Cells(SketchCells { cells, probes: probes.to_vec() })
        }
        (1, 5) => WalkBody::Wanted(packed(input, CELLS_MAX, u64::from_be_bytes)?),
        _ => {
            return Err(out_of_range(at));
        }
    };
    Ok(WalkMessage { salt, body })
}

fn write_state(out: &mut Writer, state: &NodeState) {
    match state {
        NodeState::Inner { levels, children } => {
            out.array(3);
            out.uint(0);
            out.uint(levels.number());
            let packed = children.iter().flat_map(|child| {
                let [a, b, c, d] = child.hash.to_be_bytes();
                [child.at, a, b, c, d]
            });
            out.bytes(&packed.collect::<Vec<u8>>());
        }
        NodeState::List(hashes) => {
            out.array(2);
            out.uint(1);
            write_hashes(out, hashes);
        }
        NodeState::Want(hashes) => {
            out.array(2);
            out.uint(2);
            write_hashes(out, hashes);
        }
        NodeState::Open => {
            out.array(1);
            out.uint(3);
        }
    }
}

fn read_state(input: &mut Reader<'_>) -> Read<NodeState> {
    let at = input.position();
    match variant(input)? {
        (2, 0) => {
            let levels: Levels = numbered(input)?;
            let children = packed(input, usize::from(levels.fan_out()), |[at, a, b, c, d]| {
                ChildHash { at, hash: u32::from_be_bytes([a, b, c, d]) }
            })?;
            Ok(NodeState::Inner { levels, children })
        }
        (1, 1) => packed(input, LIST_ENTRIES_MAX, u32::from_be_bytes).map(NodeState::List),
        (1, 2) => packed(input, LIST_ENTRIES_MAX, u32::from_be_bytes).map(NodeState::Want),
        (0, 3) => Ok(NodeState::Open),
        _ => Err(out_of_range(at)),
    }
}

fn write_hashes(out: &mut Writer, hashes: &[u32]) {
    out.bytes(&hashes.iter().flat_map(|hash| hash.to_be_bytes()).collect::<Vec<u8>>());
}

/// At most `max` items of `N` bytes each, in one byte string.
fn packed<const N: usize, T>(
    input: &mut Reader<'_>,
    max: usize,
    unpack: impl FnMut([u8; N]) -> T,
) -> Read<Vec<T>> {
    let at = input.position();
    let (items, rest) = input.bytes()?.as_chunks::<N>();
    if !rest.is_empty() || items.len() > max {
        return Err(out_of_range(at));
    }
    Ok(items.iter().copied().map(unpack).collect())
}

/// One byte string: the number of nibbles, then the nibbles, two to a byte.
fn write_prefix(out: &mut Writer, prefix: &Prefix) {
    let mut bytes = Vec::with_capacity(1 + prefix.packed().len());
    bytes.push(prefix.nibbles());
    bytes.extend_from_slice(prefix.packed());
    out.bytes(&bytes);
}

fn read_prefix(input: &mut Reader<'_>) -> Read<Prefix> {
    let at = input.position();
    input
        .bytes()?
        .split_first()
        .and_then(|(nibbles, packed)| Prefix::from_packed(*nibbles, packed).ok())
        .ok_or_else(|| out_of_range(at))
}
