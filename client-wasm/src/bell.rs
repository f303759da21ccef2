//! How everyone else wakes the loop: rings wait in a queue until it looks.

use core::{
    cell::RefCell,
    future::poll_fn,
    task::{Poll, Waker},
};
use rejoin_core::driver::{Bell as BellPort, Ring};
use std::{collections::VecDeque, rc::Rc};

#[derive(Debug, Default)]
struct Rings {
    queue: VecDeque<Ring>,
    waker: Option<Waker>,
}

/// The loop's end.
#[derive(Debug)]
pub(crate) struct Bell(Rc<RefCell<Rings>>);

/// Everyone else's end.
#[derive(Debug, Clone)]
pub(crate) struct Rope(Rc<RefCell<Rings>>);

/// A bell and its rope.
pub(crate) fn hang() -> (Rope, Bell) {
    let rings = Rc::default();
    (Rope(Rc::clone(&rings)), Bell(rings))
}

impl Rope {
    /// Wakes the loop. Of several equal rings in a row it hears one.
    pub(crate) fn ring(&self, ring: Ring) {
        let mut rings = self.0.borrow_mut();
        if rings.queue.back() != Some(&ring) {
            rings.queue.push_back(ring);
        }
        if let Some(waker) = rings.waker.take() {
            waker.wake();
        }
    }
}

impl BellPort for Bell {
    async fn rung(&mut self) -> Ring {
        poll_fn(|context| {
            let mut rings = self.0.borrow_mut();
            match rings.queue.pop_front() {
                Some(ring) => Poll::Ready(ring),
                None => {
                    rings.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}
