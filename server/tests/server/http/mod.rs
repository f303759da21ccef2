//! Records over HTTP: what is promised to programs that keep no replica.

mod batches;
pub(crate) mod bodies;
mod described;
mod documented;
mod feeds;
mod once;
mod presence;
mod records;
mod rights;

use crate::world::{PATIENCE, World};
use serde_json::Value as Json;
use std::{collections::BTreeMap, net::SocketAddr};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};

/// A request as it is sent, on a connection of its own.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    method: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

pub(crate) fn ask(method: &'static str, path: impl Into<String>) -> Ask {
    Ask { method, path: path.into(), headers: Vec::new(), body: Vec::new() }
}

/// Of a record of the space `demo`.
fn of(method: &'static str, record: &str) -> Ask {
    ask(method, format!("/v1/spaces/demo/collections/tasks/records/{record}"))
}

/// Below the space `demo`.
fn within(method: &'static str, path: &str) -> Ask {
    ask(method, format!("/v1/spaces/demo/{path}"))
}

impl Ask {
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn bytes(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn json(self, body: &str) -> Self {
        self.with("Content-Type", "application/json").bytes(body)
    }

    async fn send(&self, address: SocketAddr) -> BufReader<TcpStream> {
        self.sent(address).await.expect("a connection that takes the request")
    }

    async fn sent(&self, address: SocketAddr) -> Result<BufReader<TcpStream>, std::io::Error> {
        let mut stream = TcpStream::connect(address).await?;
        let Self { method, path, headers, body } = self;
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\nConnection: close\r\n\r\n", body.len()));
        stream.write_all(head.as_bytes()).await?;
        // Who refuses a body need not read it.
        stream.write_all(body).await.ok();
        Ok(BufReader::new(stream))
    }

    /// The answer; an error where the connection broke.
    pub(crate) async fn tried(&self, address: SocketAddr) -> Result<Told, std::io::Error> {
        let work = async {
            let mut stream = self.sent(address).await?;
            let mut told = head(&mut stream).await?;
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await?;
            told.body =
                if told.headers.contains_key("transfer-encoding") { joined(&rest) } else { rest };
            let length = told.headers.get("content-length").and_then(|length| length.parse().ok());
            if length.is_some_and(|length: usize| told.body.len() < length) && self.method != "HEAD"
            {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            Ok(told)
        };
        timeout(PATIENCE, work).await.expect("an answer in time")
    }

    pub(crate) async fn at(&self, world: &World) -> Told {
        self.at_address(world.address).await
    }

    pub(crate) async fn at_address(&self, address: SocketAddr) -> Told {
        self.tried(address).await.expect("an answer")
    }
}

/// The status and the headers.
async fn head(stream: &mut BufReader<TcpStream>) -> Result<Told, std::io::Error> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    Ok(Told { status, headers, body: Vec::new() })
}

/// A body without the lengths of its chunks.
fn joined(mut chunked: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = chunked.windows(2).position(|pair| pair == b"\r\n") {
        let (length, rest) = chunked.split_at(end);
        let length = std::str::from_utf8(length).expect("a length");
        let length = usize::from_str_radix(length, 16).expect("a length");
        let Some(rest) = rest.get(2..).filter(|rest| length > 0 && rest.len() >= length + 2) else {
            break;
        };
        let (chunk, rest) = rest.split_at(length);
        body.extend_from_slice(chunk);
        chunked = rest.split_at(2).1;
    }
    body
}

impl Told {
    pub(crate) fn body(&self) -> Vec<u8> {
        self.body.clone()
    }

    pub(crate) fn json(&self) -> Json {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The answer as it should be.
    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "{:?} {text}", self.headers);
        self
    }

    /// The code of a problem.
    #[track_caller]
    fn refused(self, status: u16) -> String {
        let told = self.is(status);
        assert_eq!(told.header("content-type"), "application/problem+json");
        let json = told.json();
        assert_eq!(json["status"], status);
        json["code"].as_str().expect("a code").to_owned()
    }

    #[track_caller]
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name}: {:?}", self.headers))
    }
}

/// An event of a live feed.
#[derive(Debug, Clone, Default)]
struct Event {
    id: String,
    kind: String,
    data: String,
}

/// A live feed that is read.
struct Events(BufReader<TcpStream>);

impl Events {
    /// Connects, going on behind an event.
    async fn open(address: SocketAddr, path: &str, last: Option<&str>) -> Self {
        let mut asked = within("GET", path).with("Accept", "text/event-stream");
        asked.headers.extend(last.map(|last| ("Last-Event-ID".to_owned(), last.to_owned())));
        let mut stream = asked.send(address).await;
        let told = timeout(PATIENCE, head(&mut stream)).await.expect("in time").expect("a head");
        assert_eq!(told.status, 200);
        Self(stream)
    }

    /// The next event with data; `None` at the end. Lengths of chunks stand on lines of their own and say nothing.
    async fn next(&mut self) -> Option<Event> {
        let mut event = Event::default();
        loop {
            let mut line = String::new();
            let read = timeout(PATIENCE, self.0.read_line(&mut line)).await.expect("in time");
            if read.ok()? == 0 {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some(("id", id)) => event.id = id.to_owned(),
                Some(("event", kind)) => event.kind = kind.to_owned(),
                Some(("data", data)) => event.data = data.to_owned(),
                _ if line.trim_end().is_empty() && !event.data.is_empty() => return Some(event),
                _ => {}
            }
        }
    }

    /// The next change.
    async fn change(&mut self) -> (String, Json) {
        let event = self.next().await.expect("an event");
        assert_eq!(event.kind, "change", "{event:?}");
        (event.id, serde_json::from_str(&event.data).expect("JSON"))
    }
}
