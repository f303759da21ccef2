//! Rejoin in the browser: the exports that the npm package wraps.

mod clock;
mod entropy;
mod error;
mod slot;
mod store;
mod transport;

use wasm_bindgen::prelude::wasm_bindgen;

/// The version of the engine, as in its manifest.
#[wasm_bindgen]
#[must_use]
pub fn version() -> String {
    env!("CARGO_PKG_VERSION").into()
}
