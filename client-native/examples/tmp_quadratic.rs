use rejoin_client::*;
use std::time::Instant;
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let dir = tempfile::tempdir().unwrap();
    let n: i64 = std::env::args().nth(1).unwrap().parse().unwrap();
    let url = std::env::args().nth(2).unwrap();
    let mut o = Options::new(dir.path().join("x.db"), SpaceId::parse("q").unwrap(), vec![Pattern::parse("t").unwrap()]);
    o.server = Some(url);
    let c = Client::open(o).await.unwrap();
    c.pause();
    let k = key("t", "shared").unwrap();
    c.write(vec![put(k.clone(), [set("a", Value::int(1)).unwrap()])]).await.unwrap();
    let t = Instant::now();
    for i in 0..n {
        let f = FieldChange { field: FieldName::parse("v").unwrap(), action: FieldAction::Add(i) };
        c.write(vec![update(k.clone(), [f])]).await.unwrap();
    }
    println!("write {:?}", t.elapsed());
    let t = Instant::now();
    c.resume();
    c.synced().await.unwrap();
    println!("sync {:?}", t.elapsed());
    println!("{:?}", c.get(&k));
}
