//! Time in a browser: `Date.now`, `performance.now` and `setTimeout`, also within workers.

use crate::slot::Slot;
use core::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};
use js_sys::Function;
use rejoin_core::{
    port::Clock,
    time::{Millis, MonoMillis, Now, WallMillis},
};
use std::rc::Rc;
use wasm_bindgen::{JsCast, JsValue, closure::Closure, prelude::wasm_bindgen};

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_name = setTimeout)]
    fn set_timeout(callback: &Function, delay_ms: f64) -> JsValue;
    #[wasm_bindgen(js_name = clearTimeout)]
    fn clear_timeout(timer: &JsValue);
    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    fn monotonic_ms() -> f64;
}

/// Longest delay that `setTimeout` takes; a longer sleep wakes early and is asked for again.
const DELAY_MS_MAX: f64 = 2_147_483_647.0;

/// The browser's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BrowserClock;

/// Milliseconds since 1970.
pub(crate) fn wall() -> WallMillis {
    WallMillis(whole(js_sys::Date::now()))
}

/// Milliseconds since the page began.
pub(crate) fn mono() -> MonoMillis {
    MonoMillis(whole(monotonic_ms()))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates; times are positive and below 2^53"
)]
fn whole(ms: f64) -> u64 {
    ms as u64
}

impl Clock for BrowserClock {
    fn now(&self) -> Now {
        Now { wall: wall(), mono: mono() }
    }

    async fn sleep_until(&self, deadline: MonoMillis) {
        loop {
            let left = deadline.since(mono());
            if left == Millis(0) {
                return;
            }
            pause(left).await;
        }
    }
}

/// Fires once after a delay; dropping it takes the browser's timer back.
#[derive(Debug)]
pub(crate) struct Timer {
    fired: Rc<Slot<()>>,
    id: JsValue,
    // The browser calls it: it must live as long as the timer.
    _callback: Closure<dyn FnMut()>,
}

impl Timer {
    /// A timer that fires not before `delay`, rounded up to what the browser offers.
    pub(crate) fn after(delay: Millis) -> Self {
        let fired = Rc::new(Slot::default());
        let slot = Rc::clone(&fired);
        let callback = Closure::new(move || slot.fill(()));
        let function: &Function = callback.as_ref().unchecked_ref();
        let delay_ms = u32::try_from(delay.0).map_or(DELAY_MS_MAX, f64::from).min(DELAY_MS_MAX);
        let id = set_timeout(function, delay_ms);
        Self { fired, id, _callback: callback }
    }

    /// Waits until it has fired.
    pub(crate) async fn fired(&self) {
        self.fired.take().await;
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if !self.fired.is_filled() {
            clear_timeout(&self.id);
        }
    }
}

/// Waits for a span of time.
pub(crate) async fn pause(delay: Millis) {
    Timer::after(delay).fired().await;
}

/// Runs `work`, but gives it up after `limit`.
pub(crate) async fn within<T>(limit: Millis, work: impl Future<Output = T>) -> Option<T> {
    let timer = Timer::after(limit);
    let (mut late, mut work) = (pin!(timer.fired()), pin!(work));
    poll_fn(|context| {
        if let Poll::Ready(output) = work.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        late.as_mut().poll(context).map(|()| None)
    })
    .await
}
