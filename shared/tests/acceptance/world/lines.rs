//! Lines between devices and the host: what is on its way, what a bad line does to it, and who is told.

use super::World;
use rejoin_core::{
    id::{Incarnation, Pattern, ReplicaId},
    message::Right,
    protocol::{
        engine::Input,
        host::{Grant, HostInput, PeerId},
        message::{Bye, ByeCode, Message},
        wire::{self, BadLine, Chain},
    },
};
use std::collections::VecDeque;

pub(super) struct Line {
    pub(super) peer: PeerId,
    greeted: bool,
    pub(super) up: VecDeque<Vec<u8>>,
    pub(super) down: VecDeque<Vec<u8>>,
    pub(super) closed: bool,
    /// Down and up.
    ways: [Way; 2],
}

/// One way of a line: what both ends know of it, and a frame that the next one overtakes.
struct Way {
    sent: Chain,
    received: Chain,
    late: Option<Vec<u8>>,
}

impl Way {
    fn of(chain: &Chain) -> Self {
        Self { sent: chain.clone(), received: chain.clone(), late: None }
    }
}

/// What a bad line does to a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strike {
    Lost,
    Repeated,
    Late,
    Changed,
}

/// A frame that was delivered.
#[derive(Debug, Clone)]
pub(crate) struct Delivered {
    pub(crate) device: usize,
    pub(crate) up: bool,
    pub(crate) frame: Vec<u8>,
}

impl World {
    /// The device gives its line up and the host does not learn of it: what was sent arrives, some time.
    pub(crate) fn abandon(&mut self, device: usize) {
        if let Some(line) = self.devices[device].line.take() {
            self.ghosts.push(line);
            self.tell(device, Input::Disconnected);
        }
    }

    pub(super) fn ghost(&mut self, at: usize) {
        let ghost = &mut self.ghosts[at];
        let peer = ghost.peer;
        match ghost.up.pop_front() {
            Some(frame) => {
                let greeted = std::mem::replace(&mut ghost.greeted, true);
                self.arrive_at_host(peer, greeted, &frame);
            }
            None => {
                self.ghosts.remove(at);
                self.tell_host(HostInput::Gone { peer });
            }
        }
    }

    pub(super) fn hang_up(&mut self, device: usize) {
        if let Some(line) = self.devices[device].line.take() {
            self.tell_host(HostInput::Gone { peer: line.peer });
            self.tell(device, Input::Disconnected);
        }
    }

    pub(super) fn dial(&mut self, device: usize) {
        let peer = PeerId(self.name());
        self.devices[device].line = Some(Line {
            peer,
            greeted: false,
            up: VecDeque::new(),
            down: VecDeque::new(),
            closed: false,
            ways: [Chain::of_responder(), Chain::of_initiator()].map(|chain| Way::of(&chain)),
        });
        let input = Input::Connected {
            incarnation: Incarnation::from_bytes(self.rng.bytes()),
            fresh: ReplicaId::from_bytes(self.rng.bytes()),
            salt: self.rng.next_u64(),
        };
        self.tell(device, input);
    }

    pub(super) fn deliver(&mut self, device: usize, up: bool) {
        let line = self.devices[device].line.as_mut().expect("a line");
        let queue = if up { &mut line.up } else { &mut line.down };
        let frame = queue.pop_front().expect("a frame");
        let way = &mut line.ways[usize::from(up)];
        let mut sealed = way.sent.seal(frame.clone());
        let at = self.tape.len();
        let arriving = match self.strike.filter(|(struck, _)| *struck == at) {
            None => [Some(sealed), way.late.take()],
            Some((_, Strike::Lost)) => [None, None],
            Some((_, Strike::Repeated)) => [Some(sealed.clone()), Some(sealed)],
            Some((_, Strike::Late)) => {
                way.late = Some(sealed);
                [None, None]
            }
            Some((_, Strike::Changed)) => {
                let middle = sealed.len() / 2;
                sealed[middle] ^= 1;
                [Some(sealed), None]
            }
        };
        self.tape.push(Delivered { device, up, frame: frame.clone() });
        for sealed in arriving.into_iter().flatten() {
            self.open(device, up, &sealed);
        }
        if self.twice == Some(at) {
            self.arrive(device, up, &frame);
        }
    }

    /// A frame arrives with its check, at an end that listens.
    fn open(&mut self, device: usize, up: bool, sealed: &[u8]) {
        let line = self.devices[device].line.as_mut();
        let Some(line) = line.filter(|line| !(up && line.closed)) else { return };
        if let Ok(frame) = line.ways[usize::from(up)].received.open(sealed) {
            return self.arrive(device, up, frame);
        }
        self.bad_lines += 1;
        if !up {
            return self.tell(device, Input::BadLine);
        }
        let reason = BadLine::REASON.to_owned();
        let bye = Bye { code: ByeCode::BadLine, reason, retry_after: None };
        line.down.push_back(wire::encode_frame(0, &Message::Bye(bye)));
        line.closed = true;
        let peer = line.peer;
        self.tell_host(HostInput::Gone { peer });
    }

    /// A frame arrives, wherever it comes from.
    pub(crate) fn arrive(&mut self, device: usize, up: bool, frame: &[u8]) {
        if self.devices[device].line.is_none() {
            return;
        }
        if up {
            let line = self.devices[device].line.as_mut().expect("a line");
            let (peer, greeted) = (line.peer, std::mem::replace(&mut line.greeted, true));
            self.arrive_at_host(peer, greeted, frame);
        } else {
            if let Ok((_, bytes)) = wire::split_frame(frame)
                && let Ok(Message::Welcome(welcome)) = wire::decode(bytes)
            {
                self.devices[device].modes.extend(welcome.modes.iter().map(|(_, mode)| *mode));
            }
            self.tell(device, Input::Frame(frame.to_vec()));
        }
    }

    fn arrive_at_host(&mut self, peer: PeerId, greeted: bool, frame: &[u8]) {
        let (_, bytes) = wire::split_frame(frame).expect("a channel");
        if greeted {
            return self.tell_host(HostInput::Message { peer, bytes: bytes.to_vec() });
        }
        if let Ok(Message::Hello(hello)) = wire::decode(bytes) {
            let write = |name: &str, write| Right { pattern: Pattern::parse(name).unwrap(), write };
            let rights = if self.config.locked {
                vec![write("*", false), write("tasks", true), write("notes", true)]
            } else {
                vec![write("*", true)]
            };
            let grant = Grant { principal: "ann".to_owned(), rights };
            self.tell_host(HostInput::Opened { peer, hello, grant });
        }
    }

    pub(super) fn line_of(&mut self, peer: PeerId) -> Option<&mut Line> {
        let mut lines = self.devices.iter_mut().filter_map(|device| device.line.as_mut());
        lines.find(|line| line.peer == peer)
    }
}
