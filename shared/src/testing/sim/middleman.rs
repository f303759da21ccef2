//! What lies between a device and the server: a network that parts them, and a middleman that cuts messages short and
//! puts garbage between them.
//!
//! Whatever it does costs a connection at worst. It takes frames and sends its own, with the checks that they need.
//! Absent: frames whose checks are wrong, which are bad lines'.

use super::{World, partition::Stall};
use crate::protocol::wire;
use alloc::vec::Vec;

/// What a middleman did to a line.
#[derive(Debug, Default)]
pub(super) struct Tampered {
    /// Whether it did anything: its ends may say that the other misbehaves.
    pub(super) ever: bool,
    /// Nothing passes any more this way: to the device, to the server.
    pub(super) mute: [bool; 2],
    /// What is tried again this way.
    pub(super) stalled: [Option<Stall>; 2],
}

/// What becomes of what is sent while a network loses it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Lost {
    /// Its line carries nothing that way any more.
    #[default]
    Forever,
    /// It passes as soon as the network is whole, as far as its line is there.
    Meanwhile,
    /// TCP tries it again after pauses that double.
    UntilTriedAgain,
}

/// A device that is parted from the server.
#[derive(Debug, Clone, Default)]
pub(super) struct Parted {
    /// Until when nothing passes to the device, and to the server.
    pub(super) until: [u64; 2],
    /// What becomes of what was sent meanwhile.
    pub(super) lost: Lost,
    /// Whether who dials meanwhile waits for an answer in vain; else he is told at once that nobody is there.
    pub(super) swallows: bool,
}

impl Parted {
    /// It is over.
    pub(super) fn end(&mut self, now: u64) {
        self.until.iter_mut().for_each(|until| *until = now.min(*until));
    }

    /// Whether no line can be opened.
    pub(super) fn is_parted(&self, now: u64) -> bool {
        self.until.iter().any(|until| *until > now)
    }
}

impl World {
    /// Some devices are parted from the server for a while, one way or both.
    pub(super) fn part(&mut self) {
        let until = self.now + 1 + self.faults.one_of(500, &[10_000, 60_000, 120_000]);
        let ways = self.faults.one_of([true, true], &[[true, false], [false, true]]);
        let lost = if self.faults.once_in(2) { Lost::Meanwhile } else { Lost::Forever };
        self.mark(match ways {
            [true, false] => "parted: device deaf",
            [false, true] => "parted: device mute",
            _ => "parted: both ways",
        });
        let mut parted = 0;
        for device in 0..self.devices.len() {
            let Some(device) = self.devices.get_mut(device).filter(|_| self.faults.once_in(2))
            else {
                continue;
            };
            parted += 1;
            device.parted.lost = lost;
            for (until_way, struck) in device.parted.until.iter_mut().zip(ways) {
                if struck {
                    *until_way = until.max(*until_way);
                }
            }
        }
        if parted > 1 {
            self.mark("group parted");
        }
    }

    /// For how long a message waits for its network; never passes if `None`.
    pub(super) fn held_up(&mut self, line: u64, to_server: bool) -> Option<u64> {
        let open = self.lines.get_mut(&line)?;
        let way = usize::from(to_server);
        let mute = open.tampered.mute.get_mut(way)?;
        let parted = &self.devices.get(open.device)?.parted;
        if parted.lost == Lost::UntilTriedAgain {
            return Some(parted.tried_again(open.tampered.stalled.get_mut(way)?, way, self.now));
        }
        let waits = parted.until.get(way)?.saturating_sub(self.now);
        *mute |= waits > 0 && parted.lost == Lost::Forever;
        (!*mute).then_some(waits)
    }

    /// What becomes of a message on its way: its beginning, with the line dying behind it, or itself behind garbage.
    pub(super) fn tamper(&mut self, line: u64, to_server: bool, bytes: Vec<u8>) -> Vec<u8> {
        let one_in = self.plan.tamper_one_in;
        if self.calm || one_in == 0 || !self.net.once_in(one_in) {
            return bytes;
        }
        if let Some(open) = self.lines.get_mut(&line) {
            open.tampered.ever = true;
        }
        if self.net.once_in(2) {
            self.mark("message cut short");
            let delay = 300 + self.net.below(50);
            self.at(delay, super::Event::Cut { line });
            let cut = self.net.index(bytes.len());
            return bytes.get(..cut).unwrap_or_default().to_vec();
        }
        self.mark("message garbled");
        let garbage = self.garble(&bytes);
        self.carry(line, to_server, garbage);
        bytes
    }

    /// Bytes that are no message: random ones, or these with some changed.
    fn garble(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut garbage = if self.net.once_in(2) {
            let length = self.net.index(64);
            (0..length).map(|_| self.net.byte()).collect()
        } else {
            bytes.to_vec()
        };
        // The channel stays: on another one nobody listens.
        if let Some(channel) = garbage.first_mut() {
            *channel = 0;
        }
        loop {
            let content = wire::split_frame(&garbage).map_or(&[][..], |(_, content)| content);
            if wire::decode(content).is_err() && !wire::is_part(content) {
                return garbage;
            }
            let at = 1 + self.net.index(garbage.len().saturating_sub(1));
            if let Some(byte) = garbage.get_mut(at) {
                *byte = self.net.byte();
            }
        }
    }
}
