//! Lines that live on and do not carry what was put on them: frames are lost, repeated, swapped, put off and changed.
//!
//! Whatever they do costs a connection at worst: an end that took anything of it in would say that the other
//! misbehaves, and nobody here does.

use super::World;
use crate::{
    message::{Bye, ByeCode, Message},
    planted::Bug,
    protocol::{
        engine::Input,
        wire::{self, BadLine, CHECK_BYTES, Chain},
    },
};
use alloc::{string::String, vec::Vec};

/// What both ends of a line know of its frames, and what it does to them. Ways are to the device and to the server.
#[derive(Debug)]
pub(super) struct Carried {
    sent: [Chain; 2],
    received: [Chain; 2],
    /// Whether it ever did anything to a frame.
    pub(super) badly: bool,
    late: Vec<Late>,
}

/// A frame that waits for others to overtake it.
#[derive(Debug)]
struct Late {
    to_server: bool,
    behind: u64,
    sealed: Vec<u8>,
}

impl Default for Carried {
    fn default() -> Self {
        let chains = || [Chain::of_responder(), Chain::of_initiator()];
        Self { sent: chains(), received: chains(), badly: false, late: Vec::new() }
    }
}

impl World {
    /// A frame leaves with its check, and passes, if the line is good.
    pub(super) fn carry(&mut self, line: u64, to_server: bool, frame: Vec<u8>) {
        let Some(open) = self.lines.get_mut(&line) else {
            return;
        };
        let [to_device, up] = &mut open.carried.sent;
        let mut sealed = if to_server { up } else { to_device }.seal(frame);
        let one_in = self.plan.mangle_one_in;
        if self.calm || one_in == 0 || !self.net.once_in(one_in) {
            self.pass(line, to_server, sealed);
            return self.overtake(line, to_server);
        }
        open.carried.badly = true;
        match self.net.below(5) {
            0 => self.mark("frame lost"),
            1 => {
                self.mark("frame repeated");
                self.pass(line, to_server, sealed.clone());
                self.overtake(line, to_server);
                let behind = self.net.below(4);
                self.put_off(line, to_server, behind, sealed);
            }
            2 => {
                self.mark("frames swapped");
                self.put_off(line, to_server, 1, sealed);
            }
            3 => {
                self.mark("frame late");
                let behind = 2 + self.net.below(6);
                self.put_off(line, to_server, behind, sealed);
            }
            _ => {
                self.mark("frame changed");
                let (at, bit) = (self.net.index(sealed.len()), self.net.below(8));
                if let Some(byte) = sealed.get_mut(at) {
                    *byte ^= 1 << bit;
                }
                self.pass(line, to_server, sealed);
                self.overtake(line, to_server);
            }
        }
    }

    /// A frame passes when so many others have.
    fn put_off(&mut self, line: u64, to_server: bool, behind: u64, sealed: Vec<u8>) {
        if behind == 0 {
            self.pass(line, to_server, sealed);
        } else if let Some(open) = self.lines.get_mut(&line) {
            open.carried.late.push(Late { to_server, behind, sealed });
        }
    }

    /// A frame has passed: those that waited for it follow.
    fn overtake(&mut self, line: u64, to_server: bool) {
        let Some(open) = self.lines.get_mut(&line) else {
            return;
        };
        let late = open.carried.late.iter_mut().filter(|late| late.to_server == to_server);
        late.for_each(|late| late.behind = late.behind.saturating_sub(1));
        let follows = |late: &mut Late| late.to_server == to_server && late.behind == 0;
        let followers: Vec<Late> = open.carried.late.extract_if(.., follows).collect();
        for late in followers {
            self.pass(line, to_server, late.sealed);
        }
    }

    /// What came on a line without its check, if it is what was sent next.
    pub(super) fn opened(
        &mut self,
        line: u64,
        to_server: bool,
        sealed: &[u8],
    ) -> Result<Vec<u8>, BadLine> {
        let open = self.lines.get_mut(&line).ok_or(BadLine)?;
        let [to_device, up] = &mut open.carried.received;
        let opened = if to_server { up } else { to_device }.open(sealed).map(<[u8]>::to_vec);
        if self.plan.bug == Some(Bug::ChecksIgnored) {
            let length = sealed.len().saturating_sub(CHECK_BYTES);
            return Ok(sealed.get(..length).unwrap_or_default().to_vec());
        }
        opened
    }

    /// An end has found a line to be bad: it says so, and leaves.
    pub(super) fn bad_line(&mut self, line: u64, to_server: bool) {
        let Some(open) = self.lines.get(&line) else {
            return;
        };
        let (device, tab, life, peer) = (open.device, open.tab, open.life, open.peer);
        let [_, server_left] = open.left;
        if !open.carried.badly {
            self.object(String::from("a good line was taken for a bad one"));
        }
        if !to_server {
            self.mark("bad line: device");
            self.tab_input((device, tab, life), line, Input::BadLine);
        } else if !server_left && self.server.host.is_some() {
            self.mark("bad line: server");
            let reason = String::from(BadLine::REASON);
            let bye = Bye { code: ByeCode::BadLine, reason, retry_after: None };
            self.send(line, false, wire::encode_frame(0, &Message::Bye(bye)));
            self.server_gone(peer);
            self.close_line(line, true);
        }
    }
}
