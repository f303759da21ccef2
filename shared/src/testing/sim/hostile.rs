//! One who may read, and means harm: it says hello in its own name, with others' ids and cursors, and sends what it has
//! seen others send, or that with some bytes changed.
//!
//! Whatever it sends, the server lives, and nobody else sees or loses anything by it. Absent: what it learns; it may read
//! all there is.

use super::World;
use crate::{
    message::{Hello, Message},
    protocol::wire,
};
use alloc::{collections::VecDeque, string::String, vec::Vec};

/// Its name.
pub(super) const MALLORY: &str = "mallory";

/// Messages of others that it keeps.
const SEEN_MAX: usize = 60;

/// What it has.
#[derive(Debug, Default)]
pub(super) struct Hostile {
    hellos: VecDeque<Hello>,
    seen: VecDeque<Vec<u8>>,
    /// Its lines.
    lines: Vec<u64>,
}

impl World {
    /// It sees a message on its way to the server. (No tokens.)
    pub(super) fn overhear(&mut self, frame: &[u8]) {
        if self.plan.hostile_one_in == 0 {
            return;
        }
        let message = wire::split_frame(frame).and_then(|(_, message)| wire::decode(message));
        match message {
            Ok(Message::Hello(hello)) => {
                let token = Some(String::from(MALLORY));
                self.hostile.hellos.push_back(Hello { token, ..hello });
                if self.hostile.hellos.len() > SEEN_MAX {
                    self.hostile.hellos.pop_front();
                }
            }
            Ok(Message::Refresh { .. }) | Err(_) => {}
            Ok(_) => {
                self.hostile.seen.push_back(frame.to_vec());
                if self.hostile.seen.len() > SEEN_MAX {
                    self.hostile.seen.pop_front();
                }
            }
        }
    }

    /// It says hello on a line of its own, or sends something on one, or leaves.
    pub(super) fn attack(&mut self) {
        if self.hostile.lines.len() < 3 && self.faults.once_in(2) {
            self.greet();
        }
        let at = self.faults.index(self.hostile.lines.len());
        let Some(line) = self.hostile.lines.get(at).copied() else {
            return;
        };
        for _ in 0..1 + self.faults.below(6) {
            let bytes = self.hostile_message();
            self.server_frame(line, line, &bytes);
        }
        if self.faults.once_in(4) {
            self.hostile.lines.swap_remove(at);
            self.server_gone(line);
        }
    }

    fn greet(&mut self) {
        let at = self.faults.index(self.hostile.hellos.len());
        let Some(mut hello) = self.hostile.hellos.get(at).cloned() else {
            return;
        };
        if self.faults.once_in(2) {
            hello.replica = crate::id::ReplicaId::from_bytes(self.faults.bytes());
        }
        let line = self.next_line;
        self.next_line += 1;
        self.hostile.lines.push(line);
        self.mark("hostile hello");
        let bytes = wire::encode_frame(0, &Message::Hello(hello));
        self.server_frame(line, line, &bytes);
    }

    fn hostile_message(&mut self) -> Vec<u8> {
        let at = self.faults.index(self.hostile.seen.len());
        let seen = self.hostile.seen.get(at).cloned();
        let changes = self.faults.one_of(0_u64, &[1, 2, 8]);
        let random = self.faults.once_in(8);
        let mut bytes = match seen.filter(|_| !random) {
            Some(seen) => seen,
            None => (0..self.faults.index(200)).map(|_| self.faults.byte()).collect(),
        };
        for _ in 0..changes {
            let at = 1 + self.faults.index(bytes.len().saturating_sub(1));
            if let Some(byte) = bytes.get_mut(at) {
                *byte = self.faults.byte();
            }
        }
        let means =
            wire::split_frame(&bytes).is_ok_and(|(_, content)| wire::decode(content).is_ok());
        self.mark(if means { "hostile message" } else { "hostile bytes" });
        bytes
    }

    /// It leaves.
    pub(super) fn end_attack(&mut self) {
        for line in core::mem::take(&mut self.hostile.lines) {
            self.server_gone(line);
        }
    }
}
