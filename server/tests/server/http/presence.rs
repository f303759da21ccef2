//! Who is here, without a session.

use super::{of, within};
use crate::world::World;
use serde_json::json;

#[tokio::test]
async fn what_is_shown_is_seen_until_it_is_hidden() {
    let world = World::new().await;
    let show = |name: &str, value: &str| within("PUT", &format!("presence/{name}")).json(value);
    assert_eq!(show("a", r#"{"at":1}"#).at(&world).await.is(200).json(), json!({"seconds": 30}));
    show("b", "\"here\"").at(&world).await.is(200);
    show("a", r#"{"at":2}"#).at(&world).await.is(200);
    let present = within("GET", "presence").at(&world).await.is(200).json();
    let values: Vec<_> = present["present"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (&one["principal"], &one["value"]))
        .collect();
    assert_eq!(values, [(&json!("anyone"), &json!({"at": 2})), (&json!("anyone"), &json!("here"))]);
    within("DELETE", "presence/a").at(&world).await.is(204);
    assert_eq!(within("DELETE", "presence/a").at(&world).await.refused(404), "absent");
    let present = within("GET", "presence").at(&world).await.is(200).json();
    assert_eq!(present["present"].as_array().unwrap().len(), 1);
    // It is kept nowhere.
    assert_eq!(of("GET", "a").at(&world).await.refused(404), "absent");
}

#[tokio::test]
async fn what_is_shown_is_bounded() {
    let world = World::new().await;
    let show = |name: &str, value: &str| within("PUT", &format!("presence/{name}")).json(value);
    let large = format!("\"{}\"", "x".repeat(5_000));
    assert_eq!(show("a", &large).at(&world).await.refused(413), "too_large");
    assert_eq!(show("a", r#"{"$bytes":1}"#).at(&world).await.refused(422), "invalid");
    assert_eq!(show("%00", "1").at(&world).await.refused(400), "invalid");
    for number in 0..64 {
        show(&number.to_string(), "1").at(&world).await.is(200);
    }
    let told = show("more", "1").at(&world).await;
    assert_eq!(told.header("retry-after"), "5");
    assert_eq!(told.refused(429), "busy");
    show("7", "2").at(&world).await.is(200);
}
