//! Randomness of the browser: `crypto.getRandomValues`.

use rejoin_core::port::Entropy;
use wasm_bindgen::prelude::wasm_bindgen;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = crypto, js_name = getRandomValues)]
    fn get_random_values(out: &mut [u8]);
}

/// What one call of the browser fills at most.
const CALL_BYTES_MAX: usize = 65_536;

/// The browser's generator.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BrowserEntropy;

impl Entropy for BrowserEntropy {
    fn fill(&mut self, out: &mut [u8]) {
        out.chunks_mut(CALL_BYTES_MAX).for_each(get_random_values);
    }
}

/// Fresh random bytes.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    BrowserEntropy.fill(&mut bytes);
    bytes
}
