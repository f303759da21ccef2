//! Objects for JavaScript, made from values that are known to fit. Absent: reading what JavaScript gives.

use js_sys::{Object, Reflect};
use serde::Serialize;
use wasm_bindgen::JsValue;

/// Makes a plain object; `None` is `null`.
pub(crate) fn to_js<T: Serialize>(value: &T) -> JsValue {
    let serializer = serde_wasm_bindgen::Serializer::new().serialize_missing_as_null(true);
    // Only numbers beyond 2^53 could be refused, and there are none in what is told.
    value.serialize(&serializer).unwrap_or(JsValue::NULL)
}

/// Makes an object with these properties.
pub(crate) fn object(fields: &[(&str, JsValue)]) -> JsValue {
    let object = Object::new();
    for (name, value) in fields {
        // A new object takes every property.
        drop(Reflect::set(&object, &JsValue::from_str(name), value));
    }
    object.into()
}
