//! The walk: two replicas compare their trees from the root down until both know which of their
//! records the other lacks or holds differently.
//!
//! Both ends answer each message with [`respond`], which looks at nothing but its own tree and the
//! message: a node whose hash differs is answered by its children or, once it has few entries, by the
//! list of them; a list by what is wanted of it. Because nothing is remembered, a tree may change
//! between two messages and a walk may go on over another connection.
//!
//! Invariant: every part of the tree that a message leaves open is, in the answer, settled, refined
//! or named again as [`NodeState::Open`], and the first one is settled or refined. So a walk ends,
//! whatever the limits, and what a limit cut is never taken for equal.
//!
//! Where both ends know how, a walk opens with a [sketch](super::sketch) instead: a small difference
//! is then found in the first answer or the second. What no sketch finds is walked.
//!
//! Hashes here are 32 bits. One that collides hides a difference, and never invents one: the 32-byte
//! roots decide, and if they still differ once everything found has been sent, the next walk takes
//! another salt.
//!
//! After Merkle-tree anti-entropy as in Demers et al., "Epidemic Algorithms for Replicated Database
//! Maintenance", 1987 (<https://doi.org/10.1145/41840.41841>); leaf lists, two levels at a time and
//! the absence of state are ours.

mod cells;
mod message;

use super::{
    prefix::Prefix,
    sketch::CELLS_MAX,
    trie::{Entry, LEAF_ENTRIES_MAX, Subtree, Trie},
};
use crate::id::Digest;
use alloc::vec::Vec;

pub use message::{
    ChildHash, LIST_ENTRIES_MAX, Levels, NODES_MAX, NodeState, SketchCells, WalkBody, WalkError,
    WalkMessage, WalkNode,
};

/// How much one call of [`respond`] does. A limit is looked at before each step, and a step that has
/// begun is finished (at most 256 hashes); the first step is always taken. So any value, also
/// zero, gives a walk that ends, only a longer one. The two ends need not agree, but what one says
/// beyond the other's limits is said in vain and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalkLimits {
    /// Hashes computed and entries looked at to understand the message.
    pub work_max: usize,
    /// Estimated bytes of the reply.
    pub reply_bytes_max: usize,
    /// Nodes of the reply; more than half of [`NODES_MAX`] counts as that. A reply may still have as
    /// many as its message had, and what its first node opens.
    pub nodes_max: usize,
    /// Key hashes found in one message, but by a sketch.
    pub differs_max: usize,
    /// Entries of a subtree that is listed instead of parted; more than [`LIST_ENTRIES_MAX`] counts as
    /// that, zero as one.
    pub list_entries_max: usize,
    /// So long as no more nodes than this are to be parted, each shows two levels at once: up to 1 kB
    /// more per node for a round trip less.
    pub deep_nodes_max: usize,
    /// Cells of a sketch that is sent, 12 bytes each, and of one that is decoded; hence also the key
    /// hashes found by one. Zero switches sketches off: one that comes nevertheless is answered by a
    /// walk.
    pub cells_max: usize,
    /// Entries of a tree below which it is walked all the same.
    pub sketched_entries_min: usize,
}

impl Default for WalkLimits {
    fn default() -> Self {
        Self {
            work_max: 262_144,
            reply_bytes_max: 512 * 1024,
            nodes_max: NODES_MAX / 2,
            differs_max: 16_384,
            list_entries_max: LIST_ENTRIES_MAX,
            deep_nodes_max: 8,
            cells_max: CELLS_MAX,
            sketched_entries_min: SKETCHED_ENTRIES_MIN,
        }
    }
}

/// Below so many entries a walk costs less than a sketch.
pub const SKETCHED_ENTRIES_MIN: usize = 512;

/// What follows from a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response {
    /// To be sent. `None`: the message ended the walk.
    pub reply: Option<WalkMessage>,
    /// Key hashes of records that I hold and the peer lacks or holds differently.
    ///
    /// In a walk both ways the caller sends these records. In a walk that only fetches, the initiator
    /// keeps them instead: each of them that the peer has sent by the end was replaced, the others
    /// are not there any more. A key may be named again if the tree changed or a limit cut the walk.
    pub differs: Vec<Digest>,
    /// How many nodes a limit put off; they are in the reply, as [`NodeState::Open`].
    pub put_off: usize,
}

impl WalkMessage {
    /// The message that opens a walk; see [`WalkMessage::salt`].
    #[must_use]
    pub fn open(tree: &mut Trie, salt: u64) -> Self {
        Self { salt, body: WalkBody::Root(tree.root()) }
    }

    /// The message that opens a walk with a sketch, for when the roots are known to differ and the
    /// peer knows sketches. Where `limits` want none it opens as in [`Self::open`].
    ///
    /// `hint`: about how many records differ, if that is known. A wrong one costs bytes or a message.
    ///
    /// A sketch may miss a difference that somebody prepared. So if the roots still differ once
    /// everything found has been sent, the next walk opens with [`Self::open`].
    #[must_use]
    pub fn open_sketch(tree: &mut Trie, salt: u64, hint: Option<u32>, limits: &WalkLimits) -> Self {
        match cells::open(tree, hint, limits) {
            Some(body) => Self { salt, body },
            None => Self::open(tree, salt),
        }
    }

    /// Whether the one who sends it has nothing more to ask, and gets no answer.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        matches!(self.body, WalkBody::Equal | WalkBody::End)
    }
}

/// Answers one message of a walk, at either end.
///
/// The time taken is bounded by `limits` and the message's length, apart from the root of a tree that
/// has changed ([`Trie::root`]).
///
/// # Errors
/// [`WalkError`] when the message is not well-formed. No message that passes can do more harm than to
/// make the peer's own view wrong.
pub fn respond(
    tree: &mut Trie,
    message: &WalkMessage,
    limits: &WalkLimits,
) -> Result<Response, WalkError> {
    let salt = message.salt;
    let root = tree.root();
    let describe_all =
        |tree: &Trie| go_on(tree, salt, limits, |answer| answer.plan(Prefix::ROOT, Plan::Describe));
    Ok(match &message.body {
        WalkBody::Equal | WalkBody::End => Response::default(),
        WalkBody::Root(theirs) if *theirs == root => Response::saying(salt, WalkBody::Equal),
        WalkBody::Root(_) => describe_all(tree),
        WalkBody::Nodes(nodes) => {
            message::check(nodes)?;
            go_on(tree, salt, limits, |answer| answer.read(nodes))
        }
        WalkBody::Cells(sketch) => {
            message::check_cells(sketch)?;
            cells::answer(tree, salt, sketch, limits).unwrap_or_else(|| describe_all(tree))
        }
        WalkBody::Wanted(symbols) => {
            message::check_wanted(symbols)?;
            cells::answer_wanted(tree, salt, symbols, limits)
        }
    })
}

impl Response {
    const fn saying(salt: u64, body: WalkBody) -> Self {
        Self { reply: Some(WalkMessage { salt, body }), differs: Vec::new(), put_off: 0 }
    }
}

/// Walks one message further.
fn go_on<'a>(
    tree: &'a Trie,
    salt: u64,
    limits: &'a WalkLimits,
    begin: impl FnOnce(&mut Answer<'a>),
) -> Response {
    let mut answer = Answer::new(tree, salt, limits);
    begin(&mut answer);
    let nodes = answer.write();
    let body = if nodes.is_empty() { WalkBody::End } else { WalkBody::Nodes(nodes) };
    let Answer { differs, put_off, .. } = answer;
    Response { differs, put_off, ..Response::saying(salt, body) }
}

/// What the reply will say of a prefix.
enum Plan {
    /// What I hold there.
    Describe,
    /// That a limit was reached.
    PutOff,
    Say(NodeState),
}

struct Answer<'a> {
    tree: &'a Trie,
    salt: Salt,
    limits: &'a WalkLimits,
    work: usize,
    // Nodes of the message not read yet: each may need a place in the reply.
    unread: usize,
    // Ascending by prefix and disjoint, since the message is and is read in order.
    plans: Vec<(Prefix, Plan)>,
    differs: Vec<Digest>,
    put_off: usize,
}

impl<'a> Answer<'a> {
    fn new(tree: &'a Trie, salt: u64, limits: &'a WalkLimits) -> Self {
        Self {
            tree,
            salt: Salt::new(salt),
            limits,
            work: 0,
            unread: 0,
            plans: Vec::new(),
            differs: Vec::new(),
            put_off: 0,
        }
    }

    fn plan(&mut self, prefix: Prefix, plan: Plan) {
        self.plans.push((prefix, plan));
    }

    fn read(&mut self, nodes: &[WalkNode]) {
        for (at, WalkNode { prefix, state }) in nodes.iter().enumerate() {
            self.unread = nodes.len() - at - 1;
            let fan_out = match state {
                NodeState::Inner { levels, .. } => usize::from(levels.fan_out()),
                NodeState::List(_) | NodeState::Want(_) | NodeState::Open => 1,
            };
            // Without the exception for the first node two narrow limits could pass a node to and fro
            // for ever.
            if at > 0 && self.is_spent(fan_out) {
                self.plan(*prefix, Plan::PutOff);
                continue;
            }
            match state {
                NodeState::Inner { levels, children } => self.compare(prefix, *levels, children),
                NodeState::List(hashes) => self.read_list(*prefix, hashes),
                NodeState::Want(hashes) => self.read_want(*prefix, hashes),
                NodeState::Open => self.plan(*prefix, Plan::Describe),
            }
        }
    }

    fn is_spent(&self, nodes: usize) -> bool {
        let nodes_max = self.limits.nodes_max.min(NODES_MAX / 2);
        self.work >= self.limits.work_max
            || self.found_enough()
            || self.plans.len() + self.unread + nodes > nodes_max
    }

    fn found_enough(&self) -> bool {
        self.differs.len() >= self.limits.differs_max.max(1)
    }

    /// Looks for the children that are not the peer's.
    fn compare(&mut self, prefix: &Prefix, levels: Levels, children: &[ChildHash]) {
        let whole = self.tree.under(prefix);
        if whole.is_empty() {
            return self.plan(*prefix, Plan::Say(NodeState::List(Vec::new())));
        }
        let mut theirs = children.iter().peekable();
        for (at, child, mine) in subtrees(prefix, whole, levels) {
            let theirs = theirs.next_if(|child| child.at == at);
            self.work += 1;
            match theirs {
                None => self.push_all(child, mine),
                Some(_) if mine.is_empty() => {
                    self.plan(child, Plan::Say(NodeState::List(Vec::new())));
                }
                Some(theirs) if self.salt.of_node(&mine.digest()) != theirs.hash => {
                    self.plan(child, Plan::Describe);
                }
                Some(_) => {}
            }
        }
    }

    /// Compares entry by entry.
    fn read_list(&mut self, prefix: Prefix, theirs: &[u32]) {
        let part = self.tree.under(&prefix);
        if theirs.is_empty() {
            return self.push_all(prefix, part);
        }
        if part.count() > COMPARED_MAX {
            return self.plan(prefix, Plan::Describe);
        }
        self.work += part.count() + 1;
        let mut mine = Vec::with_capacity(part.count());
        for entry in part.entries() {
            let hash = self.salt.of_entry(entry);
            if theirs.binary_search(&hash).is_err() {
                self.differs.push(entry.key_hash);
            }
            mine.push(hash);
        }
        mine.sort_unstable();
        let wanted: Vec<u32> =
            theirs.iter().copied().filter(|hash| mine.binary_search(hash).is_err()).collect();
        if !wanted.is_empty() {
            self.plan(prefix, Plan::Say(NodeState::Want(wanted)));
        }
    }

    /// Finds what is wanted. An entry that changed since it was listed is a later write: it is found by
    /// what carries later writes, or by the next walk.
    fn read_want(&mut self, prefix: Prefix, wanted: &[u32]) {
        let part = self.tree.under(&prefix);
        if part.count() > COMPARED_MAX {
            return self.plan(prefix, Plan::Describe);
        }
        self.work += part.count() + 1;
        for entry in part.entries() {
            if wanted.binary_search(&self.salt.of_entry(entry)).is_ok() {
                self.differs.push(entry.key_hash);
            }
        }
    }

    /// The peer holds nothing there.
    fn push_all(&mut self, prefix: Prefix, part: Subtree<'_>) {
        let count = part.count();
        if count == 0 {
            return;
        }
        if self.found_enough() {
            return self.plan(prefix, Plan::PutOff);
        }
        let room = self.limits.differs_max.saturating_sub(self.differs.len());
        if count <= room.max(LEAF_ENTRIES_MAX) {
            self.work += count;
            self.differs.extend(part.entries().map(|entry| entry.key_hash));
            return;
        }
        for (_, child, mine) in subtrees(&prefix, part, Levels::One) {
            self.push_all(child, mine);
        }
    }

    /// Turns the plans into the nodes of the reply.
    fn write(&mut self) -> Vec<WalkNode> {
        let plans = core::mem::take(&mut self.plans);
        let list_max = self.limits.list_entries_max.clamp(1, LIST_ENTRIES_MAX);
        let parted = plans
            .iter()
            .filter(|(prefix, plan)| {
                matches!(plan, Plan::Describe) && self.tree.under(prefix).count() > list_max
            })
            .count();
        let deep = parted <= self.limits.deep_nodes_max;
        let mut bytes: usize = plans.iter().map(|(prefix, plan)| plan.bytes(prefix)).sum();
        let mut described = false;
        let mut nodes = Vec::with_capacity(plans.len());
        for (prefix, plan) in plans {
            let state = match plan {
                Plan::Say(state) => state,
                Plan::Describe if !described || bytes < self.limits.reply_bytes_max => {
                    described = true;
                    let state = self.describe(&prefix, list_max, deep);
                    bytes += state.bytes();
                    state
                }
                Plan::Describe | Plan::PutOff => {
                    self.put_off += 1;
                    NodeState::Open
                }
            };
            nodes.push(WalkNode { prefix, state });
        }
        nodes
    }

    fn describe(&self, prefix: &Prefix, list_max: usize, deep: bool) -> NodeState {
        let part = self.tree.under(prefix);
        if part.count() <= list_max {
            let mut hashes: Vec<u32> =
                part.entries().map(|entry| self.salt.of_entry(entry)).collect();
            hashes.sort_unstable();
            hashes.dedup();
            return NodeState::List(hashes);
        }
        // One level suffices if the children can be expected to be listed.
        let two = deep && part.count() > 16 * list_max && Levels::Two.descend(prefix, 0).is_some();
        let levels = if two { Levels::Two } else { Levels::One };
        let children = subtrees(prefix, part, levels)
            .filter(|(_, _, child)| !child.is_empty())
            .map(|(at, _, child)| ChildHash { at, hash: self.salt.of_node(&child.digest()) })
            .collect();
        NodeState::Inner { levels, children }
    }
}

impl Plan {
    fn bytes(&self, prefix: &Prefix) -> usize {
        let said = match self {
            Self::Say(state) => state.bytes(),
            Self::Describe | Self::PutOff => 0,
        };
        2 + prefix.packed().len() + said
    }
}

impl NodeState {
    /// Estimate of its encoded length.
    const fn bytes(&self) -> usize {
        match self {
            Self::Inner { levels: Levels::One, children } => 2 + 4 * children.len(),
            Self::Inner { levels: Levels::Two, children } => 32 + 4 * children.len(),
            Self::List(hashes) | Self::Want(hashes) => 1 + 4 * hashes.len(),
            Self::Open => 0,
        }
    }
}

/// Number, prefix and content of each subtree so far below `prefix`, in order.
fn subtrees<'a>(
    prefix: &Prefix,
    part: Subtree<'a>,
    levels: Levels,
) -> impl Iterator<Item = (u8, Prefix, Subtree<'a>)> {
    (0..levels.fan_out()).filter_map(move |at| {
        let at = u8::try_from(at).ok()?;
        let child = match levels {
            Levels::One => part.child(at),
            Levels::Two => part.child(at >> 4).child(at & 15),
        };
        Some((at, levels.descend(prefix, at)?, child))
    })
}

/// Hashes of 32 bits, different under each salt.
struct Salt {
    key: [u8; 32],
    // All ones, but where a test wants hashes to collide.
    mask: u32,
}

impl Salt {
    fn new(salt: u64) -> Self {
        let mut key = *b"rejoin.tree.v1.walk.............";
        let salt = salt.to_be_bytes();
        for (to, from) in key.iter_mut().rev().zip(salt.iter().rev()) {
            *to = *from;
        }
        #[cfg(not(test))]
        let mask = u32::MAX;
        #[cfg(test)]
        let mask = tests::HASH_MASK.get();
        Self { key, mask }
    }

    fn of_node(&self, digest: &Digest) -> u32 {
        self.cut(digest.as_bytes())
    }

    // 64 bytes, where a node has 32: neither can pass for the other.
    fn of_entry(&self, entry: &Entry) -> u32 {
        let mut bytes = [0; 64];
        let (key_hash, digest) = bytes.split_at_mut(32);
        key_hash.copy_from_slice(entry.key_hash.as_bytes());
        digest.copy_from_slice(entry.digest.as_bytes());
        self.cut(&bytes)
    }

    fn cut(&self, bytes: &[u8]) -> u32 {
        let [a, b, c, d, ..] = *blake3::keyed_hash(&self.key, bytes).as_bytes();
        u32::from_be_bytes([a, b, c, d]) & self.mask
    }
}

// A list has at most LIST_ENTRIES_MAX hashes; where I hold far more, parting is cheaper.
const COMPARED_MAX: usize = 4 * LIST_ENTRIES_MAX;

#[cfg(test)]
mod tests;
