//! What two replicas say to each other to find what differs, and what is a well-formed message.

use super::super::{
    prefix::Prefix,
    sketch::{CELLS_MAX, Cell, PROBE_BYTES_MAX},
};
use crate::id::Digest;
use alloc::vec::Vec;

/// Most hashes of one [`NodeState::List`] or [`NodeState::Want`].
pub const LIST_ENTRIES_MAX: usize = 64;

/// Most nodes of one message. [`super::respond`] gives fewer unless it must carry on what it was sent.
pub const NODES_MAX: usize = 32_768;

/// One message of a walk. Both ends speak the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalkMessage {
    /// Seasons the 32-bit hashes of this message. Chosen by the initiator, at random and anew for each
    /// walk, and repeated in every message: two hashes that collide under one salt do not under the
    /// next.
    pub salt: u64,
    /// What it says.
    pub body: WalkBody,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WalkBody {
    /// Opens a walk: the root of my tree.
    Root(Digest),
    /// Ends it: my root is the one you sent.
    Equal,
    /// Parts of my tree and questions about yours, ascending by prefix, no prefix inside another.
    /// What is below no prefix is settled.
    Nodes(Vec<WalkNode>),
    /// Ends it: nothing is open.
    End,
    /// A sketch of my whole tree; opens a walk, or answers one that was too short. Only to a peer that
    /// knows sketches.
    Cells(SketchCells),
    /// What the sketch shows that you hold and I lack: symbols, strictly ascending, at most
    /// [`CELLS_MAX`]. What you lack I know.
    Wanted(Vec<u64>),
}

/// The beginning of a sketch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SketchCells {
    /// Its first cells, at most [`CELLS_MAX`].
    pub cells: Vec<Cell>,
    /// Four bits each of cells at certain places further on, by which a peer that cannot decode the
    /// difference estimates it; at most [`PROBE_BYTES_MAX`]. Empty in an answer.
    pub probes: Vec<u8>,
}

/// One part of the tree that is not settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalkNode {
    /// Which part.
    pub prefix: Prefix,
    /// What is said of it.
    pub state: NodeState,
}

/// What is said of one part of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeState {
    /// The subtrees one or two nibbles below, ascending; one that is missing is empty.
    Inner {
        /// How far below.
        levels: Levels,
        /// Those that are not empty.
        children: Vec<ChildHash>,
    },
    /// Every entry I hold there, as strictly ascending hashes, at most [`LIST_ENTRIES_MAX`].
    List(Vec<u32>),
    /// Those hashes of your list that I lack, strictly ascending.
    Want(Vec<u32>),
    /// A limit kept me from saying more: tell me what you hold there.
    Open,
}

/// How far below a node its [`NodeState::Inner`] looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Levels {
    /// 16 children.
    One,
    /// 256 grandchildren.
    Two,
}

impl Levels {
    /// How many subtrees there are so far below a node.
    #[must_use]
    pub const fn fan_out(self) -> u16 {
        match self {
            Self::One => 16,
            Self::Two => 256,
        }
    }

    /// The prefix of subtree number `at` below `prefix`, if there is one.
    pub(super) fn descend(self, prefix: &Prefix, at: u8) -> Option<Prefix> {
        match self {
            Self::One => prefix.child(at),
            Self::Two => prefix.child(at >> 4)?.child(at & 15),
        }
    }
}

/// One subtree of a [`NodeState::Inner`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChildHash {
    /// Its nibble (0 to 15) or, two levels below, both of them (0 to 255).
    pub at: u8,
    /// Its digest, salted and cut to 32 bits.
    pub hash: u32,
}

/// Why a message is refused. Only a peer that breaks the rules sends such a one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WalkError {
    /// There are more nodes than [`NODES_MAX`].
    #[error("{got} nodes in a message, at most {max} are allowed", max = NODES_MAX)]
    Nodes {
        /// Nodes given.
        got: usize,
    },
    /// A prefix is not behind the one before it, or inside it.
    #[error("node {node} is out of order or inside the one before it")]
    Order {
        /// Position of the node in the message.
        node: usize,
    },
    /// Children or hashes of a node are not strictly ascending.
    #[error("the hashes or children of node {node} are not strictly ascending")]
    HashOrder {
        /// Position of the node in the message.
        node: usize,
    },
    /// A child has a number that none has, or lies deeper than a key hash is long.
    #[error("node {node} has a child number {at} that cannot be")]
    Child {
        /// Position of the node in the message.
        node: usize,
        /// Number of the child.
        at: u8,
    },
    /// A node that has no level so far below claims to show it.
    #[error("node {node} lies too deep to have children")]
    Depth {
        /// Position of the node in the message.
        node: usize,
    },
    /// There are more cells of a sketch, or symbols wanted of one, than [`CELLS_MAX`].
    #[error("{got} cells or symbols of a sketch, at most {max} are allowed", max = CELLS_MAX)]
    Cells {
        /// Cells or symbols given.
        got: usize,
    },
    /// There are more probes than [`PROBE_BYTES_MAX`].
    #[error("{got} bytes of probes, at most {max} are allowed", max = PROBE_BYTES_MAX)]
    Probes {
        /// Bytes given.
        got: usize,
    },
    /// Symbols are not strictly ascending.
    #[error("the symbols wanted are not strictly ascending")]
    SymbolOrder,
    /// There are more hashes than [`LIST_ENTRIES_MAX`].
    #[error("{got} hashes in node {node}, at most {max} are allowed", max = LIST_ENTRIES_MAX)]
    Hashes {
        /// Position of the node in the message.
        node: usize,
        /// Hashes given.
        got: usize,
    },
}

/// Checks what the types leave open.
pub(super) fn check(nodes: &[WalkNode]) -> Result<(), WalkError> {
    if nodes.len() > NODES_MAX {
        return Err(WalkError::Nodes { got: nodes.len() });
    }
    let mut before: Option<&Prefix> = None;
    for (node, WalkNode { prefix, state }) in nodes.iter().enumerate() {
        if before.is_some_and(|before| before >= prefix || before.contains(prefix)) {
            return Err(WalkError::Order { node });
        }
        before = Some(prefix);
        match state {
            NodeState::Inner { levels, children } => {
                check_children(node, prefix, *levels, children)?;
            }
            NodeState::List(hashes) | NodeState::Want(hashes) => check_hashes(node, hashes)?,
            NodeState::Open => {}
        }
    }
    Ok(())
}

/// Checks what the types leave open.
pub(super) const fn check_cells(sketch: &SketchCells) -> Result<(), WalkError> {
    if sketch.cells.len() > CELLS_MAX {
        return Err(WalkError::Cells { got: sketch.cells.len() });
    }
    if sketch.probes.len() > PROBE_BYTES_MAX {
        return Err(WalkError::Probes { got: sketch.probes.len() });
    }
    Ok(())
}

/// Checks what the types leave open.
pub(super) fn check_wanted(symbols: &[u64]) -> Result<(), WalkError> {
    if symbols.len() > CELLS_MAX {
        return Err(WalkError::Cells { got: symbols.len() });
    }
    if symbols.is_sorted_by(|a, b| a < b) { Ok(()) } else { Err(WalkError::SymbolOrder) }
}

fn check_children(
    node: usize,
    prefix: &Prefix,
    levels: Levels,
    children: &[ChildHash],
) -> Result<(), WalkError> {
    if levels.descend(prefix, 0).is_none() {
        return Err(WalkError::Depth { node });
    }
    if !children.is_sorted_by(|a, b| a.at < b.at) {
        return Err(WalkError::HashOrder { node });
    }
    match children.iter().find(|child| levels.descend(prefix, child.at).is_none()) {
        Some(child) => Err(WalkError::Child { node, at: child.at }),
        None => Ok(()),
    }
}

fn check_hashes(node: usize, hashes: &[u32]) -> Result<(), WalkError> {
    if hashes.len() > LIST_ENTRIES_MAX {
        return Err(WalkError::Hashes { node, got: hashes.len() });
    }
    if hashes.is_sorted_by(|a, b| a < b) { Ok(()) } else { Err(WalkError::HashOrder { node }) }
}
