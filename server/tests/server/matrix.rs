//! Who may do what with what: each kind of message, by each sort of principal, on each sort of object.
//!
//! What is expected is said by a model of a few lines that knows the entries of the principals and nothing of the
//! server. Everything that a principal is sent is searched for what it may not read, and what it hears of an object
//! that it may not read is compared with what it hears of one that is not there.

use crate::{
    client::wall,
    issuer::{Issuer, SECRET, claims, claims_with, now_and},
    jwts::jwt,
    line::{Line, key, record, told},
    world::{World, without_rates},
};
use rejoin_core::{
    codec::decode_record,
    hlc::{Hlc, Stamp},
    id::{CollectionName, Epoch, RecordKey, ReplicaId, Seq},
    protocol::message::{
        AskChunk, AskRoots, ChunkFrom, Kept, Message, Origin, Place, Presence, Recall, Refill,
        RefillOutcome, Resume, Walk,
    },
    record::Value,
    tree::{NodeState, Prefix, WalkBody, WalkMessage, WalkNode},
};
use rejoin_server::{JwtConfig, SpaceGrant};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) const SPACES: [&str; 4] = ["team-a", "team-b", "team-c", "rejoin/age"];
pub(crate) const COLLECTIONS: [&str; 4] = ["tasks", "tasks/42", "notes", "plans"];
pub(crate) const FILLED: [(&str, &str); 6] = [
    ("team-a", "tasks"),
    ("team-a", "tasks/42"),
    ("team-a", "notes"),
    ("team-b", "tasks"),
    ("team-b", "tasks/42"),
    ("team-b", "notes"),
];

/// Messages about a collection, with `true` if it matters whether the record is there.
const OF_COLLECTIONS: [(&str, bool); 13] = [
    ("hello", false),
    ("hello below", false),
    ("add", true),
    ("update", true),
    ("remove", true),
    ("batch", true),
    ("refill", true),
    ("roots", false),
    ("walk", false),
    ("chunk", false),
    ("chunk behind", false),
    ("resume", false),
    ("feed", false),
];
/// Of these the answer is about the object, and not about what else may be read.
const ABOUT_ONE_OBJECT: [&str; 8] =
    ["hello", "hello below", "add", "update", "remove", "batch", "refill", "walk"];
const OF_SPACES: [&str; 6] =
    ["hello all", "presence", "recall", "ping", "bad refresh", "refresh of another"];

pub(crate) const TOKENS: &str = "
tokens = [
  { token = 'owner', principal = 'owner', spaces = [{ space = 'team-a', write = true }] },
  { token = 'reader', principal = 'reader', spaces = [{ space = 'team-a' }] },
  { token = 'part-writer', principal = 'part-writer', spaces = [
    { space = 'team-a', collections = ['tasks/*'], write = true }] },
  { token = 'part-reader', principal = 'part-reader', spaces = [
    { space = 'team-a', collections = ['tasks'] }] },
  { token = 'mixed', principal = 'mixed', spaces = [
    { space = 'team-a' }, { space = 'team-a', collections = ['notes'], write = true }] },
  { token = 'tenant', principal = 'tenant', spaces = [{ space = 'team-b', write = true }] },
  { token = 'notes-of-all', principal = 'notes-of-all', spaces = [
    { space = 'team-*', collections = ['notes'] }] },
  { token = 'reader-of-all', principal = 'reader-of-all', spaces = [{ space = '*' }] },
  { token = 'expired', principal = 'owner', expires = 2001-01-01T00:00:00Z, spaces = [
    { space = 'team-a', write = true }] },
]
revoked = [{ principal = 'revoked', before = 2100-01-01T00:00:00Z }]
";

/// One sort of principal, as the model knows it.
pub(crate) struct Principal {
    pub(crate) name: &'static str,
    pub(crate) token: Option<String>,
    /// Whether the token is good.
    pub(crate) known: bool,
    /// Space, collections, whether to write.
    rights: &'static [(&'static str, &'static str, bool)],
}

pub(crate) fn principals(issuer: &Issuer) -> Vec<Principal> {
    let good = |name: &'static str, rights| Principal {
        name,
        token: Some(name.to_owned()),
        known: true,
        rights,
    };
    let jwt = |name, claims, known, rights| {
        let token = Some(issuer.token("HS256", &claims));
        Principal { name, token, known, rights }
    };
    let mut of_tenant = claims("42");
    of_tenant["tenants"] = json!(["b", "x"]);
    let mut by_claim = claims("by-claim");
    by_claim["rejoin"] =
        json!({ "spaces": [{ "space": "team-a", "collections": ["plans"], "write": true }] });
    let mut everything = claims_with("exp", json!(now_and(-60)));
    everything["rejoin"] = json!({ "spaces": [{ "space": "*", "write": true }] });
    let mut revoked = claims("revoked");
    revoked["rejoin"] = json!({ "spaces": [{ "space": "team-b", "write": true }] });
    vec![
        good("owner", &[("team-a", "*", true)]),
        good("reader", &[("team-a", "*", false)]),
        good("part-writer", &[("team-a", "tasks/*", true)]),
        good("part-reader", &[("team-a", "tasks", false)]),
        good("mixed", &[("team-a", "*", false), ("team-a", "notes", true)]),
        good("tenant", &[("team-b", "*", true)]),
        good("notes-of-all", &[("team-*", "notes", false)]),
        good("reader-of-all", &[("*", "*", false)]),
        jwt("jwt by template", of_tenant, true, &[("team-b", "tasks/42", true)]),
        jwt("jwt by claim", by_claim, true, &[("team-a", "plans", true)]),
        jwt("jwt without rights", claims("nobody"), true, &[]),
        jwt("expired jwt", everything, false, &[]),
        jwt("revoked jwt", revoked, false, &[]),
        Principal { known: false, ..good("expired", &[]) },
        Principal { known: false, ..good("stranger", &[]) },
        Principal { name: "nobody", token: None, known: false, rights: &[] },
    ]
}

impl Principal {
    pub(crate) fn rights_in(&self, space: &str) -> impl Iterator<Item = (&'static str, bool)> {
        let rights = self.rights.iter().filter(|_| !space.starts_with("rejoin/"));
        rights
            .filter(move |(name, ..)| match name.strip_suffix('*') {
                Some(start) => space.starts_with(start),
                None => space == *name,
            })
            .map(|(_, collections, write)| (*collections, *write))
    }

    pub(crate) fn reads(&self, space: &str, collection: &str) -> bool {
        self.rights_in(space).any(|(of, _)| covers(of, collection))
    }

    pub(crate) fn writes(&self, space: &str, collection: &str) -> bool {
        self.rights_in(space).any(|(of, write)| write && covers(of, collection))
    }

    /// What it hears where it may do nothing.
    fn refusal(&self) -> &'static str {
        if self.known { "bye NoSpace" } else { "bye Unauthorized" }
    }
}

fn covers(collections: &str, name: &str) -> bool {
    match collections.strip_suffix('*') {
        Some("") => true,
        Some(below) => name.starts_with(below) || format!("{name}/") == below,
        None => collections == name,
    }
}

/// What the model expects of a cell. `filled`: the collections that have records.
fn expected(cell: &Case<'_>, filled: &BTreeSet<(&str, &str)>) -> String {
    let Case { who, kind, space, collection, there } = cell;
    if who.rights_in(space).next().is_none() {
        return who.refusal().to_owned();
    }
    let (reads, writes) = (who.reads(space, collection), who.writes(space, collection));
    let with = |what: &str| {
        let with = reads && filled.contains(&(*space, *collection));
        format!("{what} {}", if with { "with" } else { "without" })
    };
    let asked = |allowed: bool| if allowed { "welcome" } else { "bye NoSpace" }.to_owned();
    match *kind {
        "hello" => asked(reads),
        "hello below" => {
            let below = format!("{collection}/*");
            asked(
                who.rights_in(space)
                    .any(|(of, _)| of == "*" || of == below || of.ends_with("/*") && reads),
            )
        }
        "hello all" => asked(who.rights_in(space).any(|(of, _)| of == "*")),
        "add" | "remove" | "batch" if writes => "accepted".to_owned(),
        "update" if writes && *there => "accepted".to_owned(),
        "update" if writes => "rejected RecordGone".to_owned(),
        "add" | "update" | "remove" | "batch" => "rejected Forbidden".to_owned(),
        "refill" if writes => "joined".to_owned(),
        "refill" if reads => "refused Forbidden".to_owned(),
        "walk" if reads => with("records"),
        "refill" | "walk" => "bye Misbehaved".to_owned(),
        "roots" => with("roots"),
        "chunk" | "chunk behind" => with("chunk"),
        "resume" => with("changes"),
        "feed" => format!("feed {}", if reads { "with" } else { "without" }),
        "presence" => format!("others {}", if *space == "team-c" { "without" } else { "with" }),
        "recall" => "recalled none".to_owned(),
        "ping" => "pong".to_owned(),
        // Theirs are tokens of one space.
        "refresh of another" if *space != "team-a" => "bye NoSpace".to_owned(),
        "bad refresh" | "refresh of another" => "bye Unauthorized".to_owned(),
        other => panic!("{other}"),
    }
}

/// One cell of the matrix.
struct Case<'a> {
    who: &'a Principal,
    kind: &'static str,
    space: &'static str,
    collection: &'static str,
    there: bool,
}

/// What no one else's messages may have in them.
pub(crate) fn label(space: &str, collection: &str) -> String {
    format!("<secret of {space} {collection}>")
}

/// Whether entries or records of a collection are among what came.
fn some_of(came: &[Message], collection: &str) -> &'static str {
    let is_of = |key: &RecordKey| key.collection.as_str() == collection;
    let has = came.iter().any(|message| match message {
        Message::Changes(changes) => changes.entries.iter().any(|entry| is_of(&entry.key)),
        Message::Records(records) => records.entries.iter().any(|entry| is_of(&entry.key)),
        Message::Chunk(chunk) => chunk.open().unwrap().unwrap().iter().any(|held| is_of(&held.key)),
        Message::Roots(roots) => roots.roots.iter().any(|(name, _)| name.as_str() == collection),
        _ => false,
    });
    if has { "with" } else { "without" }
}

fn answer(came: &[Message], what: &str, collection: &str) -> String {
    match came.last().unwrap() {
        Message::Bye(bye) => format!("bye {:?}", bye.code),
        _ => format!("{what} {}", some_of(came, collection)),
    }
}

/// Does what the cell says; what came of it.
async fn observed(line: &mut Line, cell: &Case<'_>, writers: &mut BTreeMap<&str, Line>) -> String {
    let Case { who, kind, space, collection, there } = *cell;
    let below = format!("{collection}/*");
    let other = who.rights_in(space).next().map(|(of, _)| of);
    let pattern = match kind {
        "hello" => collection,
        "hello below" => below.as_str(),
        "hello all" => "*",
        _ if who.reads(space, collection) => collection,
        _ => other.unwrap_or(collection),
    };
    let welcome = line.hello(space, who.token.as_ref(), Some(pattern)).await;
    let Message::Welcome(welcome) = welcome else {
        return told(&welcome);
    };
    let id = if there { "there".to_owned() } else { format!("gone-{}", line.serial) };
    let (own, evil) = (key(collection, &id), format!("of {}", who.name));
    let sub = 1;
    let observed = match kind {
        "hello" | "hello below" | "hello all" => "welcome".to_owned(),
        "add" | "update" | "remove" => {
            let row = line.row(&[(own, &evil, kind == "update")], kind == "remove");
            line.push(row).await
        }
        "batch" => {
            let allowed = COLLECTIONS.into_iter().find(|name| who.writes(space, name));
            let first = key(allowed.unwrap_or(collection), &format!("first-{}", line.serial));
            let row = line.row(&[(first, &evil, false), (own, &evil, false)], false);
            line.push(row).await
        }
        "refill" => {
            let stamp = Stamp { replica: ReplicaId::from_bytes([99; 16]), ..line.stamp() };
            let (epoch, seq) = (Epoch::from_bytes([98; 16]), Seq(5));
            let entry = Kept { key: own, epoch, seq, proof: [0; 8], record: record(stamp, &evil) };
            line.say(&Message::Refill(Refill { subscription: sub, entries: vec![entry] })).await;
            let came = line.until(|message| matches!(message, Message::Refilled(_))).await;
            match came.last().unwrap() {
                Message::Refilled(refilled) => match refilled.outcomes[0] {
                    RefillOutcome::Joined(_) => "joined".to_owned(),
                    RefillOutcome::Refused(code) => format!("refused {code:?}"),
                },
                other => told(other),
            }
        }
        "roots" => {
            line.say(&Message::AskRoots(AskRoots { subscription: sub, after: None })).await;
            let came = line.until(|message| matches!(message, Message::Roots(_))).await;
            answer(&came, "roots", collection)
        }
        "walk" => {
            let node = WalkNode { prefix: Prefix::ROOT, state: NodeState::List(Vec::new()) };
            let message = WalkMessage { salt: 3, body: WalkBody::Nodes(vec![node]) };
            let collection = CollectionName::parse(collection).unwrap();
            line.say(&Message::Walk(Walk { subscription: sub, collection, message })).await;
            let came = line.until(|message| matches!(message, Message::Walk(_))).await;
            answer(&came, "records", cell.collection)
        }
        "chunk" | "chunk behind" => {
            let behind = ChunkFrom::Behind(key(collection, "a"));
            let from = if kind == "chunk" { ChunkFrom::Start } else { behind };
            line.say(&Message::AskChunk(AskChunk { subscription: sub, from })).await;
            let came = line.until(|message| matches!(message, Message::Chunk(_))).await;
            answer(&came, "chunk", collection)
        }
        "resume" | "feed" => {
            let behind = (kind == "resume").then(|| key(collection, "a"));
            let seq = if kind == "resume" { Seq(welcome.head.0.min(1)) } else { welcome.head };
            let place = Place { seq, key: behind };
            let resume =
                Resume { subscription: sub, place, time: welcome.horizon.max(Hlc::at(wall())) };
            line.say(&Message::Resume(resume)).await;
            let at_head = |message: &Message| matches!(message, Message::Changes(changes) if changes.state.is_some());
            let mut came = line.until(at_head).await;
            if kind == "feed" {
                let writer = writers.get_mut(space).unwrap();
                let id = format!("feed-{}", line.serial);
                let text = label(space, collection);
                let row = writer.row(&[(key(collection, &id), &text, false)], false);
                assert_eq!(writer.push(row).await, "accepted");
                line.say(&Message::Ping { nonce: 5 }).await;
                came = line.until(|message| matches!(message, Message::Pong { .. })).await;
            }
            answer(&came, if kind == "feed" { "feed" } else { "changes" }, collection)
        }
        "presence" => {
            let here = vec![(1, Value::text(&format!("<presence in {space}>")))];
            line.say(&Message::Presence(Presence { here, gone: Vec::new() })).await;
            let came = line.until(|message| matches!(message, Message::Others(_))).await;
            match came.last().unwrap() {
                Message::Others(others) if others.here.is_empty() => "others without".to_owned(),
                Message::Others(_) => "others with".to_owned(),
                other => told(other),
            }
        }
        "recall" => {
            // A row of another's, with a guessed digest.
            let stamp = Stamp { hlc: Hlc::at(wall()), replica: ReplicaId::from_bytes([0; 16]) };
            let rows = vec![Origin { stamp, digest: [0; 16] }];
            line.say(&Message::Recall(Recall { rows })).await;
            let came = line.until(|message| matches!(message, Message::Recalled(_))).await;
            match came.last().unwrap() {
                Message::Recalled(recalled) if recalled.accepted.is_empty() => {
                    "recalled none".to_owned()
                }
                other => format!("{other:?}"),
            }
        }
        "ping" => {
            line.say(&Message::Ping { nonce: 6 }).await;
            line.until(|message| matches!(message, Message::Pong { .. })).await;
            "pong".to_owned()
        }
        "bad refresh" | "refresh of another" => {
            let another = if who.name == "owner" { "reader" } else { "owner" };
            let token = if kind == "bad refresh" { "no token" } else { another };
            line.say(&Message::Refresh { token: token.to_owned() }).await;
            told(line.until(|_| false).await.last().unwrap())
        }
        other => panic!("{other}"),
    };
    line.end().await;
    observed
}

/// A server that knows the principals.
pub(crate) async fn guarded() -> World {
    let template = SpaceGrant {
        space: "team-{tenants}".to_owned(),
        collections: vec!["tasks/{sub}".to_owned()],
        write: true,
    };
    World::with(|directory, config| {
        without_rates(config);
        config.tokens = Some(directory.file("tokens.toml", TOKENS));
        let secret = Some(directory.file("secret", SECRET));
        config.jwt = Some(JwtConfig { secret, ..jwt(vec![template]) });
    })
    .await
}

/// Fills the spaces, and stays there, seen by all who may be there.
pub(crate) async fn fill(world: &World) -> BTreeMap<&'static str, Line> {
    let mut writers = BTreeMap::new();
    for (serial, (space, token)) in
        [("team-a", "owner"), ("team-b", "tenant")].into_iter().enumerate()
    {
        let mut line = Line::new(world.address, 1_000 + serial as u64).await;
        let welcome = line.hello(space, Some(&token.to_owned()), None).await;
        assert_eq!(told(&welcome), "welcome");
        for (of, collection) in FILLED {
            if of == space {
                let row = line
                    .row(&[(key(collection, "there"), &label(space, collection), false)], false);
                assert_eq!(line.push(row).await, "accepted");
            }
        }
        let here = vec![(1, Value::text(&format!("<presence in {space}>")))];
        line.say(&Message::Presence(Presence { here, gone: Vec::new() })).await;
        writers.insert(space, line);
    }
    writers
}

/// Nothing that came to a principal is of what it may not read.
pub(crate) fn search(who: &Principal, heard: &[String]) {
    for text in heard {
        for space in SPACES {
            for collection in COLLECTIONS {
                let leaks =
                    text.contains(&label(space, collection)) && !who.reads(space, collection);
                assert!(!leaks, "{} was told of {space} {collection}: {text}", who.name);
            }
            let is_there = who.rights_in(space).next().is_some();
            let leaks = text.contains(&format!("<presence in {space}>")) && !is_there;
            assert!(!leaks, "{} was told who is in {space}: {text}", who.name);
        }
    }
}

/// What was heard, without the number of the row that was pushed.
fn without_names(heard: &[String], line: &Line) -> String {
    heard.join("\n").replace(&line.clock.to_string(), "ROW")
}

/// What was done so far.
struct Tally<'a> {
    who: &'a Principal,
    /// What was heard of what may not be read, by the message and whether the space may be entered: where it is there,
    /// and where it is not.
    of_hidden: BTreeMap<(&'static str, bool), BTreeMap<bool, BTreeSet<String>>>,
    counts: &'a mut Counts,
}

#[derive(Default)]
struct Counts {
    cells: u32,
    refused: u32,
    compared: u32,
    shown: u32,
}

impl Tally<'_> {
    fn add(&mut self, cell: &Case<'_>, observed: &str, line: &mut Line) {
        let Case { who, kind, space, collection, there } = *cell;
        search(who, &line.heard);
        let of_it = label(space, collection);
        let mut heard = std::mem::take(&mut line.heard);
        self.counts.cells += 1;
        let refusals = ["bye", "rejected", "refused"];
        let is_refused = refusals.iter().any(|refusal| observed.starts_with(refusal));
        self.counts.refused += u32::from(is_refused);
        self.counts.shown += u32::from(heard.iter().any(|text| text.contains(&of_it)));
        if who.reads(space, collection) || !ABOUT_ONE_OBJECT.contains(&kind) {
            return;
        }
        // These tell of the space, and of what may be read: not of the object.
        heard.retain(|text| !["Welcome", "Changes"].iter().any(|name| text.starts_with(name)));
        let enters = who.rights_in(space).next().is_some();
        let exists = there && FILLED.contains(&(space, collection));
        let of_kind = self.of_hidden.entry((kind, enters)).or_default();
        of_kind.entry(exists).or_default().insert(without_names(&heard, line));
    }

    /// What may not be read is not told from what is not there.
    fn compare(self) {
        for (at, heard) in &self.of_hidden {
            let [exists, does_not] = [true, false].map(|exists| heard.get(&exists));
            if let (Some(exists), Some(does_not)) = (exists, does_not) {
                assert_eq!(exists, does_not, "{at:?} by {}", self.who.name);
                assert_eq!(exists.len(), 1, "{at:?} by {}", self.who.name);
                self.counts.compared += 1;
            }
        }
    }
}

/// The cells of one space: kind of message, collection, whether it is about a record that is there.
fn cells_of(space: &'static str) -> impl Iterator<Item = (&'static str, &'static str, bool)> {
    let of_collections = COLLECTIONS.into_iter().flat_map(move |collection| {
        OF_COLLECTIONS.into_iter().flat_map(move |(kind, matters)| {
            // Nobody feeds, or has put a record of that name into, what is empty.
            let is_filled = FILLED.contains(&(space, collection));
            let feeds = kind != "feed" || FILLED.iter().any(|(of, _)| *of == space);
            let there = [true, false].into_iter();
            let there =
                there.filter(move |there| if matters { is_filled || !there } else { *there });
            there.filter(move |_| feeds).map(move |there| (kind, collection, there))
        })
    });
    of_collections.chain(OF_SPACES.into_iter().map(|kind| (kind, COLLECTIONS[0], true)))
}

/// Nothing was written by whoever may not write there.
async fn search_written(world: &World, principals: &[Principal]) {
    for (space, token) in [("team-a", "owner"), ("team-b", "tenant")] {
        let mut line = Line::new(world.address, 5_000).await;
        line.hello(space, Some(&token.to_owned()), Some("*")).await;
        line.say(&Message::AskChunk(AskChunk { subscription: 1, from: ChunkFrom::Start })).await;
        let came = line.until(|message| matches!(message, Message::Chunk(_))).await;
        let Message::Chunk(chunk) = &came[0] else { panic!("{came:?}") };
        assert!(!chunk.more);
        for held in chunk.open().unwrap().unwrap() {
            let text = format!("{:?}", decode_record(&held.bytes).unwrap());
            for who in principals {
                let wrote = text.contains(&format!("of {}\"", who.name));
                let may = who.writes(space, held.key.collection.as_str());
                assert!(may || !wrote, "{}: {text}", who.name);
            }
        }
    }
}

#[tokio::test]
async fn x12_x13_each_message_by_each_principal_on_each_object_does_what_a_model_says() {
    let issuer = Issuer::new();
    let world = guarded().await;
    let mut writers = fill(&world).await;
    let mut filled = BTreeSet::from(FILLED);
    let (principals, mut counts) = (principals(&issuer), Counts::default());
    for (serial, who) in principals.iter().enumerate() {
        let mut line = Line::new(world.address, serial as u64 + 1).await;
        let mut tally = Tally { who, of_hidden: BTreeMap::new(), counts: &mut counts };
        for space in SPACES {
            for (kind, collection, there) in cells_of(space) {
                let cell = Case { who, kind, space, collection, there };
                let expects = expected(&cell, &filled);
                let observed = observed(&mut line, &cell, &mut writers).await;
                let at = format!("{kind} by {} on {space} {collection} there={there}", who.name);
                assert_eq!(observed, expects, "{at}");
                if matches!(&*observed, "accepted" | "joined") || kind == "feed" {
                    filled.insert((space, collection));
                }
                tally.add(&cell, &observed, &mut line);
            }
        }
        tally.compare();
    }
    let Counts { cells, refused, compared, shown } = counts;
    assert!(cells >= 4_000 && refused > 1_000, "{cells}, {refused}");
    assert!(compared > 100, "{compared}");
    assert!(shown > 100, "those who may read do: {shown}");
    search_written(&world, &principals).await;
}
