//! How chaos ends: everybody has died often enough, some devices are healed and the others stay dead, and later
//! these come back too, or never do.

use super::{Event, World, history::replica_of};
use crate::{
    id::RecordKey,
    replica::{Row, RowState},
};
use alloc::{collections::BTreeSet, string::String, vec::Vec};

impl World {
    /// Whether somebody has not crashed often enough yet; he does so now, if he is up.
    pub(super) fn dies_again(&mut self) -> bool {
        let least = self.plan.generations;
        let young = |lives: u64| lives < least;
        let mut again = false;
        if young(self.server.kills) {
            again = true;
            if self.server.host.is_some() {
                self.server_kill();
            }
        }
        for device in 0..self.devices.len() {
            if !self.devices.get(device).is_some_and(|device| young(device.deaths)) {
                continue;
            }
            again = true;
            if self.faults.once_in(2) {
                self.device_kill(device);
            } else {
                let tab = self.faults.index(self.plan.tabs);
                self.tab_kill(device, tab);
            }
        }
        again
    }

    /// Draws who stays dead when the others are healed. What rots must be held by somebody who is there.
    pub(super) fn draw_dead(&mut self) {
        if !self.plan.heals_some || self.plan.rot_one_in > 0 {
            return;
        }
        let spared = self.faults.index(self.devices.len());
        for device in (0..self.devices.len()).filter(|device| *device != spared) {
            if self.faults.once_in(2) {
                continue;
            }
            self.mark("left dead");
            self.device_kill(device);
            self.dead.insert(device);
            let of_it = self.lines.iter().filter(|(_, line)| line.device == device);
            let lines: Vec<u64> = of_it.map(|(line, _)| *line).collect();
            lines.into_iter().for_each(|line| self.cut(line));
        }
        self.revives = self.faults.once_in(2);
    }

    /// Those who were left dead come back, if they ever do; whether so.
    pub(super) fn revive(&mut self) -> bool {
        if self.dead.is_empty() || !self.revives {
            return false;
        }
        self.mark("dead came back");
        self.calm_since = self.now;
        for device in core::mem::take(&mut self.dead) {
            for tab in 0..self.plan.tabs {
                self.at(1, Event::Reopen { device, tab });
                self.at(10_000, Event::Hint { device, tab });
            }
            self.will_decide(device);
        }
        true
    }

    /// Rows that perhaps only the dead have.
    fn unsent_of_dead(&self) -> Vec<Row> {
        let stores = self.dead.iter().filter_map(|at| Some(&self.devices.get(*at)?.store));
        let replicas = stores.map(replica_of);
        let waiting = replicas.flat_map(|replica| {
            let rows = replica.overlay().rows();
            let waits = rows.filter(|(_, outbox)| outbox.state == RowState::Waiting);
            waits.map(|(_, outbox)| outbox.row.clone()).collect::<Vec<_>>()
        });
        waiting.collect()
    }

    /// Records that perhaps only the dead have written to.
    pub(super) fn keys_of_dead(&self) -> BTreeSet<RecordKey> {
        let writes = self.unsent_of_dead().into_iter().flat_map(|row| row.writes);
        writes.map(|write| write.key).collect()
    }

    /// Tokens that perhaps only the dead know: of what they have not sent, and of what a server lost that they would
    /// return.
    pub(super) fn tokens_of_dead(&self) -> BTreeSet<String> {
        let mut tokens = super::history::tokens_of(&self.unsent_of_dead());
        if self.server_rewound {
            for device in self.dead.iter().filter_map(|at| self.devices.get(*at)) {
                tokens.extend(super::history::tokens_of_store(&device.store));
            }
        }
        tokens
    }
}
