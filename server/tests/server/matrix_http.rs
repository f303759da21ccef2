//! Who may do what over HTTP: the principals, objects and model of `matrix`, with requests in place of messages.

use crate::{
    issuer::Issuer,
    matrix::{COLLECTIONS, FILLED, Principal, SPACES, fill, guarded, label, principals, search},
    world::PATIENCE,
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Requests about a collection, with `true` if it matters whether the record is there.
const OF_COLLECTIONS: [(&str, bool); 7] = [
    ("get", true),
    ("put", true),
    ("patch", true),
    ("delete", true),
    ("batch", true),
    ("post", false),
    ("list", false),
];
const OF_SPACES: [&str; 4] = ["collections", "changes", "presence", "show"];

/// One cell of the matrix.
#[derive(Clone, Copy)]
struct Case<'a> {
    who: &'a Principal,
    kind: &'static str,
    space: &'static str,
    collection: &'static str,
    there: bool,
}

/// What the model expects of a cell.
fn expected(cell: &Case<'_>) -> u16 {
    let Case { who, kind, space, collection, there } = *cell;
    let (reads, writes) = (who.reads(space, collection), who.writes(space, collection));
    if !who.known {
        return 401;
    }
    match kind {
        _ if who.rights_in(space).next().is_none() => 404,
        "collections" | "changes" | "presence" | "show" => 200,
        // Each item has its own.
        _ if !reads => 404,
        "list" => 200,
        "get" => {
            if there {
                200
            } else {
                404
            }
        }
        _ if !writes => 403,
        "post" => 201,
        "put" | "batch" => {
            if there {
                200
            } else {
                201
            }
        }
        "patch" => {
            if there {
                200
            } else {
                404
            }
        }
        "delete" => {
            if there {
                204
            } else {
                404
            }
        }
        other => panic!("{other}"),
    }
}

/// Asks, over a connection of its own; the status and the body.
async fn ask(
    address: SocketAddr,
    (method, path): (&str, &str),
    token: Option<&String>,
    body: Option<&Value>,
) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let token =
        token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
    let (head, body) = match body.map(Value::to_string) {
        Some(body) => {
            (format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()), body)
        }
        None => (String::new(), String::new()),
    };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{token}{head}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    let text = String::from_utf8(answer).unwrap();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
    (status, text)
}

/// Does what the cell says; what came of it.
async fn observed(address: SocketAddr, cell: &Case<'_>, serial: u32) -> (u16, String) {
    let Case { who, kind, space, collection, there } = *cell;
    let token = who.token.as_ref();
    let space = space.replace('/', "%2F");
    let own = collection.replace('/', "%2F");
    let of_space = format!("/v1/spaces/{space}");
    let records = format!("{of_space}/collections/{own}/records");
    let writes = who.writes(cell.space, collection);
    let deletes = kind == "delete" && there && writes;
    // What is removed is made before.
    let id = if there && !deletes { "there".to_owned() } else { format!("gone-{serial:05}") };
    let record = format!("{records}/{id}");
    // Who may write leaves what is to be found there by those who may read.
    let fields =
        json!({ "f": if writes { label(cell.space, collection) } else { who.name.to_owned() } });
    match kind {
        "get" => ask(address, ("GET", &record), token, None).await,
        "put" => ask(address, ("PUT", &record), token, Some(&fields)).await,
        "patch" => ask(address, ("PATCH", &record), token, Some(&fields)).await,
        "delete" => {
            if deletes {
                assert_eq!(ask(address, ("PUT", &record), token, Some(&fields)).await.0, 201);
            }
            ask(address, ("DELETE", &record), token, None).await
        }
        "post" => ask(address, ("POST", &records), token, Some(&fields)).await,
        "batch" => {
            let item = json!({ "op": "put", "collection": collection, "id": id, "fields": fields });
            let batch = json!({ "items": [item] });
            let path = format!("{of_space}/batch");
            let (status, text) = ask(address, ("POST", &path), token, Some(&batch)).await;
            let body = text.split_once("\r\n\r\n").unwrap().1;
            let results = serde_json::from_str::<Value>(body).unwrap();
            let of_item = results["results"][0]["status"].as_u64();
            (of_item.map_or(status, |status| u16::try_from(status).unwrap()), text)
        }
        "list" => ask(address, ("GET", &records), token, None).await,
        "show" => {
            let path = format!("{of_space}/presence/me");
            let value = json!(format!("<presence in {}>", cell.space));
            ask(address, ("PUT", &path), token, Some(&value)).await
        }
        kind => ask(address, ("GET", &format!("{of_space}/{kind}")), token, None).await,
    }
}

/// The cells of one space: kind of request, collection, whether it is about a record that is there.
fn cells_of(space: &'static str) -> impl Iterator<Item = (&'static str, &'static str, bool)> {
    let of_collections = COLLECTIONS.into_iter().flat_map(move |collection| {
        OF_COLLECTIONS.into_iter().flat_map(move |(kind, matters)| {
            let is_filled = FILLED.contains(&(space, collection));
            let there = [true, false].into_iter();
            let there =
                there.filter(move |there| if matters { is_filled || !there } else { *there });
            there.map(move |there| (kind, collection, there))
        })
    });
    of_collections.chain(OF_SPACES.into_iter().map(|kind| (kind, COLLECTIONS[0], true)))
}

#[tokio::test]
async fn x12_each_request_by_each_principal_on_each_object_does_what_the_model_says() {
    let issuer = Issuer::new();
    let world = guarded().await;
    let _writers = fill(&world).await;
    let (mut cells, mut compared, mut shown) = (0, 0, 0);
    for who in &principals(&issuer) {
        // What was heard of what may not be read, by the kind of request: where it is there, and where it is not.
        let mut of_hidden: BTreeMap<&str, BTreeMap<bool, BTreeSet<String>>> = BTreeMap::new();
        for space in SPACES {
            for (kind, collection, there) in cells_of(space) {
                let cell = Case { who, kind, space, collection, there };
                let (status, text) = observed(world.address, &cell, cells).await;
                let at = format!("{kind} by {} on {space} {collection} there={there}", who.name);
                assert_eq!(status, expected(&cell), "{at}: {text}");
                cells += 1;
                shown += u32::from(text.contains(&label(space, collection)));
                search(who, std::slice::from_ref(&text));
                if !who.reads(space, collection) && !OF_SPACES.contains(&kind) {
                    let exists = FILLED.contains(&(space, collection)) && there;
                    let date = text.find("date: ").map_or("", |at| text.get(at..at + 35).unwrap());
                    of_hidden
                        .entry(kind)
                        .or_default()
                        .entry(exists)
                        .or_default()
                        .insert(text.replace(date, ""));
                }
            }
        }
        for (kind, heard) in &of_hidden {
            let [exists, does_not] = [true, false].map(|exists| heard.get(&exists));
            if let (Some(exists), Some(does_not)) = (exists, does_not) {
                assert!(
                    exists.is_subset(does_not),
                    "{kind} by {}: {exists:?} {does_not:?}",
                    who.name
                );
                compared += 1;
            }
        }
    }
    assert!(cells >= 2_000 && compared > 50 && shown > 20, "{cells}, {compared}, {shown}");
}
