//! Bodies: their types, codings and limits; forms of answers.

use super::{ask, of, within};
use crate::world::World;
use std::{
    io::Write,
    process::{Command, Stdio},
};

/// As a program codes it.
pub(crate) fn coded(program: &str, text: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program is there");
    let mut input = child.stdin.take().unwrap();
    let text = text.to_vec();
    let writing = std::thread::spawn(move || input.write_all(&text));
    let coded = child.wait_with_output().unwrap().stdout;
    writing.join().unwrap().unwrap();
    coded
}

#[tokio::test]
async fn bodies_are_json_and_say_so() {
    let world = World::new().await;
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""] {
        let told = of("PUT", "1").with("Content-Type", kind).bytes("{}").at(&world).await;
        assert_eq!(told.refused(415), "media_type", "{kind}");
    }
    assert_eq!(of("PUT", "1").bytes("{}").at(&world).await.refused(415), "media_type");
    let utf8 = of("PUT", "1").with("Content-Type", "Application/JSON; charset=utf-8");
    utf8.bytes("{}").at(&world).await.is(201);
    let deep = format!(r#"{{"a":{}1{}}}"#, "[".repeat(200), "]".repeat(200));
    for bad in ["", "{", "{\"a\":1}}", "\u{feff}{}", &deep] {
        assert_eq!(of("PUT", "1").json(bad).at(&world).await.refused(400), "invalid", "{bad}");
    }
    let broken = of("PUT", "1").with("Content-Type", "application/json").bytes(b"{\"a\":\"\xff\"}");
    assert_eq!(broken.at(&world).await.refused(400), "invalid");
    // What the parser takes may be more than a record does.
    let deep = format!(r#"{{"a":{}1{}}}"#, "[".repeat(100), "]".repeat(100));
    for bad in ["[]", "1", r#"{"a":{"$bytes":1}}"#, &deep] {
        assert_eq!(of("PUT", "1").json(bad).at(&world).await.refused(422), "invalid", "{bad}");
    }
}

#[tokio::test]
async fn what_is_too_large_is_refused_as_it_comes_and_as_it_is_decoded() {
    let world = World::new().await;
    let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(1 << 20));
    assert_eq!(of("PUT", "1").json(&large).at(&world).await.refused(413), "too_large");
    let value = format!(r#"{{"a":"{}"}}"#, "x".repeat(300_000));
    assert_eq!(of("PUT", "1").json(&value).at(&world).await.refused(413), "too_large");
    // Some hundred bytes that would be a hundred megabytes, and none of them a record.
    let bomb = coded("gzip", &vec![b' '; 100 << 20]);
    assert!(bomb.len() < 200_000);
    let bomb = of("PUT", "1").json("").with("Content-Encoding", "gzip").bytes(bomb);
    let begun = std::time::Instant::now();
    assert_eq!(bomb.at(&world).await.refused(413), "too_large");
    assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(of("GET", "1").at(&world).await.refused(404), "absent");
}

#[tokio::test]
async fn bodies_may_be_coded_and_answers_are_where_they_may() {
    let world = World::new().await;
    let text = format!(r#"{{"a":"{}"}}"#, "word ".repeat(2_000));
    let zipped = coded("gzip", text.as_bytes());
    let put = of("PUT", "1").json("").with("Content-Encoding", "gzip").bytes(zipped.clone());
    put.at(&world).await.is(201);
    let plain = of("GET", "1").at(&world).await.is(200);
    assert_eq!(plain.body, text.as_bytes());
    let told = of("GET", "1").with("Accept-Encoding", "gzip").at(&world).await.is(200);
    assert_eq!(told.header("content-encoding"), "gzip");
    assert!(told.body.starts_with(&[0x1f, 0x8b]) && told.body.len() < 200);
    let told = of("GET", "1").with("Accept-Encoding", "br, gzip;q=0.5").at(&world).await.is(200);
    assert_eq!(told.header("content-encoding"), "br");
    // The coding of an answer is read again as that of a body.
    let brotli = of("PUT", "2").json("").with("Content-Encoding", "br").bytes(told.body);
    brotli.at(&world).await.is(201);
    assert_eq!(of("GET", "2").at(&world).await.body, text.as_bytes());
    let (half, _) = zipped.split_at(zipped.len() / 2);
    for bad in [half, b"no gzip at all"] {
        let cut = of("PUT", "3").json("").with("Content-Encoding", "gzip").bytes(bad);
        assert_eq!(cut.at(&world).await.refused(400), "invalid");
    }
    let other = of("PUT", "3").json("{}").with("Content-Encoding", "zstd").at(&world).await;
    assert_eq!(other.refused(415), "media_type");
}

#[tokio::test]
async fn an_answer_that_is_not_accepted_is_not_given() {
    let world = World::new().await;
    of("PUT", "1").json("{}").at(&world).await.is(201);
    for accepted in
        ["application/json", "*/*", "text/html, application/*;q=0.1", "APPLICATION/JSON"]
    {
        of("GET", "1").with("Accept", accepted).at(&world).await.is(200);
    }
    for refused in ["text/html", "application/json;q=0", ""] {
        let told = of("GET", "1").with("Accept", refused).at(&world).await;
        assert_eq!(told.refused(406), "not_acceptable", "{refused}");
    }
    let told = within("GET", "changes").with("Accept", "text/event-stream").at(&world).await;
    assert_eq!(told.refused(406), "not_acceptable");
}

#[tokio::test]
async fn what_no_route_takes_is_told_as_a_problem() {
    let world = World::new().await;
    for path in ["/v1", "/v1/", "/v1/spaces", "/v1/spaces/demo/nothing", "/v2/spaces"] {
        let told = ask("GET", path).at(&world).await;
        if path.starts_with("/v1/") {
            assert_eq!(told.refused(404), "absent", "{path}");
        } else {
            told.is(404);
        }
    }
    let told = of("POST", "1").at(&world).await;
    assert_eq!(told.header("allow"), "GET,HEAD,PUT,PATCH,DELETE");
    assert_eq!(told.refused(405), "method");
}

#[tokio::test]
async fn large_bodies_that_never_come_hold_up_no_small_ones() {
    let world = World::new().await;
    let mut held = Vec::new();
    for _ in 0..80 {
        let mut slow = tokio::net::TcpStream::connect(world.address).await.unwrap();
        let head = format!(
            "PUT /v1/spaces/demo/collections/tasks/records/1 HTTP/1.1\r\nHost: {}\r\n\
             Content-Type: application/json\r\nContent-Length: 900000\r\n\r\n{{",
            world.address
        );
        tokio::io::AsyncWriteExt::write_all(&mut slow, head.as_bytes()).await.unwrap();
        held.push(slow);
    }
    for _ in 0..20 {
        of("PUT", "2").json("{}").at(&world).await;
    }
    of("GET", "2").at(&world).await.is(200);
    let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(100_000));
    let told = of("PUT", "3").json(&large).at(&world).await;
    assert_eq!(told.header("retry-after"), "1");
    assert_eq!(told.refused(503), "busy");
    drop(held);
    of("PUT", "3").json(&large).at(&world).await.is(201);
}

#[tokio::test]
async fn x05_bodies_nested_without_end_are_refused_and_end_nothing() {
    let world = World::new().await;
    let levels = 300_000;
    for deep in [
        "[".repeat(levels),
        r#"{"a":"#.repeat(levels / 2),
        format!("{{\"a\":{}", "[".repeat(levels)),
    ] {
        assert_eq!(of("PUT", "1").json(&deep).at(&world).await.refused(400), "invalid");
        let batch = ask("POST", "/v1/spaces/demo/batch").json(&deep);
        assert_eq!(batch.at(&world).await.refused(400), "invalid");
    }
    of("PUT", "1").json("{}").at(&world).await.is(201);
}
