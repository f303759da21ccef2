//! Disks and clocks that misbehave: full for a while, a write that fails once or until a restart, a power loss
//! that tears what was not synced, a wall clock that runs fast or slow, or jumps.

use super::{Event, World};
use crate::io::FaultClass;

/// What is wrong with a disk.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    /// Nothing fits on it before.
    full_until: u64,
    sick: Option<Sick>,
}

/// A write that fails.
#[derive(Debug, Clone, Copy)]
struct Sick {
    /// How many pass before it.
    passing: u64,
    /// Whether all behind it fail too, until a restart.
    lasting: bool,
    class: FaultClass,
}

impl Disk {
    /// What becomes of the next write.
    pub(super) fn write_fails(&mut self, now: u64) -> Option<FaultClass> {
        if self.full_until > now {
            return Some(FaultClass::Full);
        }
        let sick = self.sick.as_mut()?;
        if let Some(left) = sick.passing.checked_sub(1) {
            sick.passing = left;
            return None;
        }
        let Sick { lasting, class, .. } = *sick;
        if !lasting {
            self.sick = None;
        }
        Some(class)
    }

    /// Its owner starts anew.
    pub(super) const fn restarts(&mut self) {
        self.sick = None;
    }
}

impl World {
    /// The disk of a device, or of the server, is full for a while.
    pub(super) fn fill(&mut self, device: usize) {
        let until = self.now + self.faults.one_of(200, &[5_000, 60_000]);
        if self.faults.once_in(2) {
            self.mark("server disk full");
            self.server.disk.full_until = until;
        } else if let Some(device) = self.devices.get_mut(device) {
            device.disk.full_until = until;
            self.mark("device disk full");
        }
    }

    /// A write of a device, or of the server, will fail.
    pub(super) fn sicken(&mut self, device: usize) {
        let sick = Sick {
            passing: self.faults.below(20),
            lasting: self.faults.once_in(2),
            class: self.faults.one_of(FaultClass::Transient, &[FaultClass::Permanent]),
        };
        if self.faults.once_in(2) {
            self.mark("server disk sick");
            self.server.disk.sick = Some(sick);
        } else if let Some(device) = self.devices.get_mut(device) {
            device.disk.sick = Some(sick);
            self.mark("device disk sick");
        }
    }

    /// Whether a write of a device fails, and how; else as any operation may.
    pub(super) fn device_write_fails(&mut self, device: usize) -> Option<FaultClass> {
        let now = self.now;
        let disk = self.devices.get_mut(device).map(|device| &mut device.disk);
        let class = disk.and_then(|disk| disk.write_fails(now));
        self.write_failed(class, "device write failed")
    }

    /// The same of the server.
    pub(super) fn server_write_fails(&mut self) -> Option<FaultClass> {
        let class = self.server.disk.write_fails(self.now);
        self.write_failed(class, "server write failed")
    }

    fn write_failed(
        &mut self,
        class: Option<FaultClass>,
        name: &'static str,
    ) -> Option<FaultClass> {
        if class.is_some() {
            self.mark(name);
        }
        class.or_else(|| self.store_fails().then_some(FaultClass::Transient))
    }

    /// Whether a write that failed for this reason happened all the same.
    pub(super) fn happened(&mut self, class: Option<FaultClass>) -> bool {
        match class {
            None => true,
            Some(FaultClass::Full) => false,
            Some(_) => self.disk.once_in(2),
        }
    }

    /// A tab's store does not work, and it will not try again by itself: its user loads it anew.
    pub(super) fn unreadable(&mut self, device: usize, tab: usize, class: FaultClass) {
        self.mark("unreadable");
        if class == FaultClass::Permanent {
            let delay = 500 + self.faults.below(5_000);
            let life = self.tab(device, tab).map_or(0, |tab| tab.life);
            self.at(delay, Event::Reload { device, tab, life });
        }
    }

    /// A tab is loaded anew, and its store opened anew.
    pub(super) fn reload(&mut self, device: usize, tab: usize, life: u64) {
        if self.tab(device, tab).is_some_and(|tab| tab.life == life && tab.engine.is_some()) {
            self.mark("reloaded");
            if let Some(device) = self.devices.get_mut(device) {
                device.disk.restarts();
            }
            self.tab_kill(device, tab);
        }
    }

    /// A power loss takes what was not synced, or some of it.
    pub(super) fn lose_power(&mut self, device: usize) {
        let Some(store) = self.devices.get(device).map(|device| device.store.clone()) else {
            return;
        };
        let unsynced = store.relaxed_commits();
        let kept = if self.plan.torn { self.faults.index(unsynced + 1) } else { 0 };
        if kept < unsynced {
            self.mark(if kept > 0 { "commits torn off" } else { "commits lost" });
        }
        store.crash_keeping(kept);
    }

    /// How far a wall clock that drifts is from one that does not.
    pub(super) fn drifted(&self, ppm: i64) -> i64 {
        let now = i64::try_from(self.now).unwrap_or(i64::MAX);
        now.saturating_mul(ppm) / 1_000_000
    }

    /// Draws how clocks drift.
    pub(super) fn draw_drift(&mut self) {
        let most = i64::try_from(self.plan.drift_ppm).unwrap_or(0);
        if most == 0 {
            return;
        }
        self.mark("clocks drift");
        let mut draw = || self.faults.one_of(most, &[-most, most / 2, 0]);
        self.server.drift_ppm = draw();
        for device in &mut self.devices {
            device.drift_ppm = draw();
        }
    }
}
