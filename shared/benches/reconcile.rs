//! What it costs to find what two replicas hold differently, beside the `negentropy` crate: bytes both
//! ways, messages, CPU time of both sides; and what keeping the structure costs.
//!
//! `cargo bench -p rejoin-core --bench reconcile -- [--json] [--system S] [--n N] [--d D] [--callgrind]`
//!
//! Each of `d` records is lacking on one side, lacking on the other, or changed on one, in turn; they
//! lie anywhere. Records number `n` before that. Identification only: a run is over when all that
//! differs is known at both ends (with `negentropy`: at the initiator), so a closing `End` is no
//! message of it. Bytes are those of the steps alone, of either protocol, without the envelope that
//! names the collection. Two roots that differ are known to each other before a sketch is sent, as
//! from `Welcome` or `Roots`; 32 bytes are counted for that.
//!
//! CPU time is the median of several runs on one thread, encoding and decoding included. With
//! `--callgrind` it is the instructions of both sides that are counted, by valgrind, for differences of
//! up to a hundredth of the records; a million of them take it half an hour.
#![expect(clippy::print_stdout, reason = "it is what the program is for")]

use anyhow::{Context, ensure};
use cpu_time::ThreadTime;
use negentropy::{Id, Negentropy, NegentropyStorageVector};
use rejoin_core::{
    id::{CollectionName, Digest},
    message::{
        Message, Walk,
        wire::{decode, encode},
    },
    tree::{Entry, Trie, WalkBody, WalkLimits, WalkMessage, respond},
};
use std::{collections::BTreeSet, hint::black_box, io::ErrorKind, process::Command};

const SALT: u64 = 0x9d5c_1f2e_7a33_b60d;

fn main() -> anyhow::Result<()> {
    let wishes = Wishes::parse()?;
    for n in [10_000, 100_000, 1_000_000].into_iter().filter(|n| wishes.n.is_none_or(|w| w == *n)) {
        if wishes.callgrind {
            count_instructions(&wishes, n)?;
            continue;
        }
        let base: Vec<Entry> = (0..n).map(|at| entry(at, 0)).collect();
        let mut kept = Kept::build(&wishes, &base)?;
        for d in [0, 1, 10, 100, 1_000, 10_000].into_iter().filter(|d| wishes.wants_d(*d, n)) {
            measure(&wishes, &mut kept, &base, d)?;
        }
        if !wishes.counted {
            kept.update(&wishes, n)?;
        }
    }
    Ok(())
}

/// Runs this program again under callgrind, which writes a file of counts behind each reconciliation.
fn count_instructions(wishes: &Wishes, n: u32) -> anyhow::Result<()> {
    let dir = std::env::temp_dir().join(format!("reconcile-{}-{n}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--toggle-collect=*reconcile_once*"])
        .arg("--dump-after=reconcile::reconcile_once_rejoin")
        .arg("--dump-after=reconcile::reconcile_once_negentropy")
        .arg(format!("--callgrind-out-file={}", dir.join("counts").display()))
        .arg(std::env::current_exe()?)
        .args(["--counted", "--json", "--rounds", "1", "--n", &n.to_string()]);
    for (flag, value) in
        [("--system", wishes.system.clone()), ("--d", wishes.d.map(|d| d.to_string()))]
    {
        command.args(value.iter().flat_map(|value| [flag, value]));
    }
    let out = match command.output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            anyhow::bail!("valgrind is not there: install it (Debian: apt-get install valgrind)")
        }
        out => out?,
    };
    ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let runs = String::from_utf8(out.stdout)?;
    for (at, run) in (1..).zip(runs.lines().filter(|run| run.contains("cpu_ns"))) {
        let counts = std::fs::read_to_string(dir.join(format!("counts.{at}")))?;
        let total = counts.lines().find_map(|line| line.strip_prefix("totals: "));
        let (case, _) = run.split_once(",\"cpu_ns\"").context("a line of a run")?;
        println!("{case},\"instructions\":{}}}", total.context("no total")?.trim());
    }
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

struct Wishes {
    json: bool,
    system: Option<String>,
    n: Option<u32>,
    d: Option<u32>,
    rounds: Option<usize>,
    callgrind: bool,
    /// It is this program that is counted: nothing but what is to be compared.
    counted: bool,
}

impl Wishes {
    fn parse() -> anyhow::Result<Self> {
        let mut wishes = Self {
            json: false,
            system: None,
            n: None,
            d: None,
            rounds: None,
            callgrind: false,
            counted: false,
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word.as_str() {
                "--json" => wishes.json = true,
                "--system" => wishes.system = Some(value()?),
                "--n" => wishes.n = Some(value()?.parse()?),
                "--d" => wishes.d = Some(value()?.parse()?),
                "--rounds" => wishes.rounds = Some(value()?.parse()?),
                "--callgrind" => wishes.callgrind = true,
                "--counted" => wishes.counted = true,
                // What cargo itself adds.
                "--bench" => {}
                _ => anyhow::bail!("{word} is not known"),
            }
        }
        Ok(wishes)
    }

    fn wants(&self, system: &str) -> bool {
        self.system.as_ref().is_none_or(|wanted| wanted == system)
    }

    fn wants_d(&self, d: u32, n: u32) -> bool {
        let compared = !self.counted || (d > 0 && d <= n / 100);
        compared && d <= n && self.d.is_none_or(|wanted| wanted == d)
    }
}

/// One replica's set in the form of each system.
struct Kept {
    tree: Trie,
    items: NegentropyStorageVector,
}

impl Kept {
    fn build(wishes: &Wishes, base: &[Entry]) -> anyhow::Result<Self> {
        let clock = ThreadTime::now();
        let mut tree: Trie = base.iter().copied().collect();
        tree.root();
        let built = nanos(clock);
        let bytes = tree.memory_bytes();
        let clock = ThreadTime::now();
        black_box(WalkMessage::open_sketch(&mut tree, SALT, None, &WalkLimits::default()));
        let sketched = nanos(clock);
        let per_record = |bytes: usize| bytes as f64 / base.len() as f64;
        if wishes.wants("rejoin-walk") {
            wishes.print_kept("rejoin-walk", base.len(), "build_ns", built, per_record(bytes));
        }
        if wishes.wants("rejoin") {
            let bytes = tree.memory_bytes();
            wishes.print_kept(
                "rejoin",
                base.len(),
                "build_ns",
                built + sketched,
                per_record(bytes),
            );
        }
        let clock = ThreadTime::now();
        let items = items(base.iter())?;
        let built = nanos(clock);
        if wishes.wants("negentropy") {
            // A time and an id.
            wishes.print_kept("negentropy", base.len(), "build_ns", built, 40.0);
        }
        Ok(Self { tree, items })
    }

    /// One record changes, and whatever a session needs is made ready again.
    fn update(&mut self, wishes: &Wishes, n: u32) -> anyhow::Result<()> {
        let changes: Vec<Entry> = (0..20_000).map(|at| entry(at * 7919 % n, 3)).collect();
        for (system, with_sketch) in [("rejoin-walk", false), ("rejoin", true)] {
            if !wishes.wants(system) {
                continue;
            }
            let mut tree: Trie = self.tree.iter().copied().collect();
            tree.root();
            if with_sketch {
                black_box(WalkMessage::open_sketch(&mut tree, SALT, None, &WalkLimits::default()));
            }
            let clock = ThreadTime::now();
            for change in &changes {
                tree.insert(change.key_hash, change.digest);
                black_box(tree.root());
            }
            let bytes = tree.memory_bytes() as f64 / f64::from(n);
            wishes.print_kept(system, changes_len(n), "update_ns", nanos(clock) / 20_000, bytes);
        }
        if wishes.wants("negentropy") {
            let clock = ThreadTime::now();
            for change in changes.iter().take(20) {
                self.items.unseal()?;
                self.items.insert(time_of(change), id_of(change))?;
                self.items.seal()?;
            }
            wishes.print_kept("negentropy", changes_len(n), "update_ns", nanos(clock) / 20, 40.0);
        }
        Ok(())
    }
}

fn changes_len(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

impl Wishes {
    fn print_kept(&self, system: &str, n: usize, what: &str, nanos: u64, bytes_per_record: f64) {
        if self.json {
            println!(
                "{{\"system\":\"{system}\",\"n\":{n},\"{what}\":{nanos},\
                 \"bytes_per_record\":{bytes_per_record:.1}}}"
            );
        } else {
            println!(
                "{system:>12} n={n:<8} {what} {nanos}, {bytes_per_record:.1} bytes of memory per record"
            );
        }
    }

    fn print(&self, system: &str, case: Case, cost: &Cost) {
        let Case { n, d, hint } = case;
        let Cost { bytes, messages, cpu_ns } = cost;
        if self.json {
            let hint = hint.map_or_else(|| "null".to_owned(), |hint| hint.to_string());
            println!(
                "{{\"system\":\"{system}\",\"n\":{n},\"d\":{d},\"hint\":{hint},\"bytes\":{bytes},\
                 \"messages\":{messages},\"cpu_ns\":{cpu_ns}}}"
            );
        } else {
            let hint = hint.map_or_else(String::new, |hint| format!("hint={hint}"));
            println!(
                "{system:>12} n={n:<8} d={d:<6} {hint:<11} {bytes:>8} bytes, {messages} messages, \
                 {:>10.1} us",
                *cpu_ns as f64 / 1e3
            );
        }
    }
}

#[derive(Clone, Copy)]
struct Case {
    n: usize,
    d: u32,
    hint: Option<u32>,
}

#[derive(Default)]
struct Cost {
    bytes: usize,
    messages: usize,
    cpu_ns: u64,
}

fn measure(wishes: &Wishes, kept: &mut Kept, base: &[Entry], d: u32) -> anyhow::Result<()> {
    let n = base.len();
    let other = changed(base, d);
    let expected = differing(base, &other, d);
    let mut tree: Trie = other.iter().copied().collect();
    tree.root();
    black_box(WalkMessage::open_sketch(&mut tree, SALT, None, &WalkLimits::default()));
    let rounds = wishes.rounds.unwrap_or(if n > 100_000 { 5 } else { 15 });
    for (system, sketch, hint) in
        [("rejoin", true, None), ("rejoin", true, Some(d)), ("rejoin-walk", false, None)]
    {
        if !wishes.wants(system) || (d == 0 && hint.is_some()) {
            continue;
        }
        // What a session knows when it begins: whether the roots differ.
        let opening = if sketch && d > 0 { Opening::Sketch(hint) } else { Opening::Root };
        let mut runs = Vec::new();
        for _ in 0..rounds {
            let mut found = [BTreeSet::new(), BTreeSet::new()];
            let cost = reconcile_once_rejoin([&mut kept.tree, &mut tree], opening, &mut found)?;
            ensure!(found == expected, "what was found is not what differs");
            runs.push(cost);
        }
        wishes.print(system, Case { n, d, hint }, &median(runs));
    }
    if wishes.wants("negentropy") {
        let theirs = items(other.iter())?;
        let mut runs = Vec::new();
        for _ in 0..rounds.min(5) {
            let (cost, found) = reconcile_once_negentropy(&kept.items, &theirs)?;
            ensure!(found == expected.each_ref().map(BTreeSet::len), "not what differs");
            runs.push(cost);
        }
        wishes.print("negentropy", Case { n, d, hint: None }, &median(runs));
    }
    Ok(())
}

fn median(mut runs: Vec<Cost>) -> Cost {
    runs.sort_by_key(|cost| cost.cpu_ns);
    let middle = runs.len() / 2;
    runs.into_iter().nth(middle).unwrap_or_default()
}

#[derive(Clone, Copy)]
enum Opening {
    Root,
    Sketch(Option<u32>),
}

/// Key hashes found by each side, the initiator first, come into `found`.
#[inline(never)]
fn reconcile_once_rejoin(
    [mine, theirs]: [&mut Trie; 2],
    opening: Opening,
    found: &mut [BTreeSet<Digest>; 2],
) -> anyhow::Result<Cost> {
    let limits = WalkLimits::default();
    let collection = CollectionName::parse("tasks")?;
    let clock = ThreadTime::now();
    let (mut message, mut bytes) = match opening {
        Opening::Root => (WalkMessage::open(mine, SALT), 0),
        Opening::Sketch(hint) => (WalkMessage::open_sketch(mine, SALT, hint, &limits), 32),
    };
    let mut messages = 0;
    let mut differs = [Vec::new(), Vec::new()];
    let [of_mine, of_theirs] = &mut differs;
    let (mut me, mut peer) = ((mine, of_mine), (theirs, of_theirs));
    loop {
        let closing = message.body == WalkBody::End;
        let walk = Walk { subscription: 0, collection: collection.clone(), message };
        let wire = encode(&Message::Walk(walk));
        if closing {
            break;
        }
        messages += 1;
        bytes += wire.len() - ENVELOPE_BYTES;
        let Message::Walk(walk) = decode(&wire)? else {
            anyhow::bail!("a walk is not decoded as one");
        };
        core::mem::swap(&mut me, &mut peer);
        let response = respond(me.0, &walk.message, &limits)?;
        me.1.extend(response.differs);
        let Some(reply) = response.reply else { break };
        message = reply;
    }
    let cpu_ns = nanos(clock);
    for (found, differs) in found.iter_mut().zip(differs) {
        found.extend(differs);
    }
    Ok(Cost { bytes, messages, cpu_ns })
}

/// What [`encode`] puts around a step: type, dictionary with the collection's name, subscription and
/// the collection's place in the dictionary.
const ENVELOPE_BYTES: usize = 14;

/// How many ids the first set has and the second lacks, and the reverse.
#[inline(never)]
fn reconcile_once_negentropy(
    mine: &NegentropyStorageVector,
    theirs: &NegentropyStorageVector,
) -> anyhow::Result<(Cost, [usize; 2])> {
    let clock = ThreadTime::now();
    let mut initiator = Negentropy::borrowed(mine, 0)?;
    let mut responder = Negentropy::borrowed(theirs, 0)?;
    let (mut have, mut need) = (Vec::new(), Vec::new());
    let mut query = Some(initiator.initiate()?);
    let mut cost = Cost::default();
    while let Some(asked) = query {
        let answer = responder.reconcile(&asked)?;
        cost.bytes += asked.len() + answer.len();
        cost.messages += 2;
        query = initiator.reconcile_with_ids(&answer, &mut have, &mut need)?;
    }
    cost.cpu_ns = nanos(clock);
    Ok((cost, [have.len(), need.len()]))
}

fn entry(at: u32, version: u8) -> Entry {
    Entry {
        key_hash: Digest::of("key", &[&at.to_be_bytes()]),
        digest: Digest::of("record", &[&at.to_be_bytes(), &[version]]),
    }
}

/// The other side's set.
fn changed(base: &[Entry], d: u32) -> Vec<Entry> {
    let n = u32::try_from(base.len()).unwrap_or(u32::MAX);
    let mut other = base.to_vec();
    let mut gone = BTreeSet::new();
    for turn in 0..d {
        // A prime step visits each record once.
        let at = u64::from(turn) * 7919 % u64::from(n);
        let at = usize::try_from(at).unwrap_or_default();
        match turn % 3 {
            0 => {
                if let Some(entry) = other.get_mut(at) {
                    entry.digest = Digest::of("changed", &[&turn.to_be_bytes()]);
                }
            }
            1 => drop(gone.insert(at)),
            _ => other.push(entry(n + turn, 0)),
        }
    }
    other.into_iter().enumerate().filter(|(at, _)| !gone.contains(at)).map(|(_, e)| e).collect()
}

/// Key hashes that each side must find.
fn differing(base: &[Entry], other: &[Entry], d: u32) -> [BTreeSet<Digest>; 2] {
    if d == 0 {
        return [BTreeSet::new(), BTreeSet::new()];
    }
    let one: BTreeSet<&Entry> = base.iter().collect();
    let two: BTreeSet<&Entry> = other.iter().collect();
    [&one - &two, &two - &one].map(|set| set.into_iter().map(|entry| entry.key_hash).collect())
}

/// A record's state as an event: its time, and an id that is its hash.
fn items<'a>(entries: impl Iterator<Item = &'a Entry>) -> anyhow::Result<NegentropyStorageVector> {
    let mut items = NegentropyStorageVector::new();
    for entry in entries {
        items.insert(time_of(entry), id_of(entry))?;
    }
    items.seal()?;
    Ok(items)
}

/// Anywhere within a year, in seconds.
fn time_of(entry: &Entry) -> u64 {
    let [a, b, c, d, ..] = *entry.digest.as_bytes();
    1_700_000_000 + u64::from(u32::from_be_bytes([a, b, c, d])) % 31_536_000
}

fn id_of(entry: &Entry) -> Id {
    let id = Digest::of("id", &[entry.key_hash.as_bytes(), entry.digest.as_bytes()]);
    Id::from_byte_array(*id.as_bytes())
}

fn nanos(since: ThreadTime) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
