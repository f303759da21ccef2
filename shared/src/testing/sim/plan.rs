//! Which faults a world has, and how large it is.

use super::tape::{Stream, Streams};
use crate::{
    planted::Bug,
    protocol::limits::{FLOOR_BYTES_PER_S, PAGE_BYTES_AIM, RECORD_BYTES_MAX},
    tree::{CELLS_MAX, WalkLimits},
};

/// Which faults a run has, and how large it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent traits of a world")]
pub struct Plan {
    /// Devices.
    pub devices: usize,
    /// Tabs of each device.
    pub tabs: usize,
    /// Writes that the app attempts in all.
    pub writes: u64,
    /// Different records.
    pub records: u64,
    /// One in so many messages cuts its connection; 0 for never.
    pub cut_one_in: u64,
    /// One in so many messages makes its connection half-open; 0 for never.
    pub silence_one_in: u64,
    /// One in so many steps of the workload crashes a tab or a device; 0 for never.
    pub crash_one_in: u64,
    /// One in so many steps of the workload restarts the server; 0 for never.
    pub restart_one_in: u64,
    /// One in so many steps of the workload moves a wall clock; 0 for never.
    pub step_one_in: u64,
    /// One in so many store operations fails; 0 for never.
    pub fault_one_in: u64,
    /// One in so many steps rolls a device back to an earlier copy of its store, or clones it; 0 for never.
    pub rollback_one_in: u64,
    /// Whether some writes go where the principal may not write.
    pub rejections: bool,
    /// Whether some writes are relaxed.
    pub relaxed: bool,
    /// Size at which the server closes a page of changes.
    pub page_bytes_aim: usize,
    /// Entries at which a log is folded, if not at the usual number.
    pub fold_entries_min: Option<u64>,
    /// Size that a chunk of a snapshot aims at.
    pub chunk_bytes_aim: u64,
    /// Whether the server's part of a walk is cut into many small messages.
    pub long_walks: bool,
    /// Whether the server knows sketches.
    pub server_sketches: bool,
    /// Whether the devices know sketches.
    pub device_sketches: bool,
    /// Records that a batch may write in each of its two collections.
    pub pairs: u64,
    /// Records that a batch writes, at most.
    pub batch_records: u64,
    /// Whether one subscription covers the whole space.
    pub whole_space: bool,
    /// Whether the last device begins late, so that it takes a snapshot while others write.
    pub newcomer: bool,
    /// One in so many steps erases a device's store; 0 for never.
    pub evict_one_in: u64,
    /// One in so many steps changes a device's account; 0 for never.
    pub account_one_in: u64,
    /// One in so many steps copies the server's store, or puts the copy back; 0 for never.
    pub copy_one_in: u64,
    /// Whether the server's secret is lost with its history: nothing that devices return is proved.
    pub loses_secret: bool,
    /// One in so many messages of changes is left out by its sender; 0 for never.
    pub lose_one_in: u64,
    /// Bytes that a line carries in a second each way; 0 for any number.
    pub line_bytes_per_s: u64,
    /// One in so many writes of text is of some 100 kB; 0 for never.
    pub large_one_in: u64,
    /// Milliseconds that the server keeps what is dead for, if not as long as usual.
    pub retention_ms: Option<u64>,
    /// One in so many steps takes a device away, often for longer than that; 0 for never.
    pub away_one_in: u64,
    /// One in so many steps flips a bit of the server's store; 0 for never. If ever, the server scrubs.
    pub rot_one_in: u64,
    /// Whether only records rot.
    pub rots_records: bool,
    /// Largest record that the server takes.
    pub record_bytes_max: u32,
    /// One in so many messages is cut short, and its line with it, or stands behind garbage; 0 for never.
    pub tamper_one_in: u64,
    /// One in so many steps parts some devices from the server, one way or both; 0 for never.
    pub part_one_in: u64,
    /// One in so many steps one who may read, and means harm, sends something; 0 for never.
    pub hostile_one_in: u64,
    /// One in so many steps fills a disk for a while, of a device or of the server; 0 for never.
    pub full_one_in: u64,
    /// One in so many steps gives a disk a write that fails, once or until its owner restarts; 0 for never.
    pub sick_one_in: u64,
    /// Whether a power loss spares some of what was not synced.
    pub torn: bool,
    /// How fast wall clocks run away, in millionths, at most.
    pub drift_ppm: u64,
    /// Whether the server's wall clock jumps while it runs.
    pub server_steps: bool,
    /// Whether only some devices are healed at first, and the others later or never.
    pub heals_some: bool,
    /// How often the server, and each device, crashes at least.
    pub generations: u64,
    /// One in so many frames is lost, repeated, late or changed, though its line lives on; 0 for never.
    pub mangle_one_in: u64,
    /// One in so many steps lets the token of a device run out; 0 for never.
    pub expiry_one_in: u64,
    /// Whether each start of a server or a tab is of another release: what only one end knows is not used.
    pub upgrades: bool,
    /// One in so many steps somebody who has no replica asks the server to write; 0 for never.
    pub call_one_in: u64,
    /// A bug, to see that an oracle finds it.
    pub bug: Option<Bug>,
}

impl Plan {
    /// Draws which faults there are, and how often.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        Self::draw_from(&mut Streams::of_seed(seed).plan)
    }

    /// The quiet choice is everywhere that there is no fault.
    pub(super) fn draw_from(rng: &mut Stream) -> Self {
        let some = |rng: &mut Stream, range: u64| {
            if rng.once_in(2) { 2 + rng.below(range) } else { 0 }
        };
        let mut plan = Self {
            devices: 1 + rng.index(3),
            tabs: 1 + rng.index(2),
            writes: 4 + rng.below(80),
            records: 1 + rng.below(12),
            cut_one_in: some(rng, 60),
            silence_one_in: if rng.once_in(4) { 40 + rng.below(100) } else { 0 },
            crash_one_in: some(rng, 40),
            restart_one_in: some(rng, 40),
            step_one_in: some(rng, 40),
            fault_one_in: if rng.once_in(3) { 20 + rng.below(200) } else { 0 },
            rollback_one_in: if rng.once_in(4) { 20 + rng.below(40) } else { 0 },
            rejections: rng.once_in(2),
            relaxed: rng.once_in(2),
            page_bytes_aim: if rng.once_in(2) { 200 + rng.index(2_000) } else { PAGE_BYTES_AIM },
            fold_entries_min: if rng.once_in(2) { Some(1 + rng.below(40)) } else { None },
            chunk_bytes_aim: if rng.once_in(2) { 200 + rng.below(2_000) } else { 256 << 10 },
            long_walks: rng.once_in(2),
            server_sketches: true,
            device_sketches: true,
            pairs: rng.one_of(4, &[12, 40]),
            batch_records: 2 + rng.below(8),
            whole_space: rng.once_in(3),
            newcomer: rng.once_in(3),
            evict_one_in: if rng.once_in(4) { 10 + rng.below(40) } else { 0 },
            account_one_in: if rng.once_in(5) { 10 + rng.below(40) } else { 0 },
            copy_one_in: if rng.once_in(4) { 5 + rng.below(20) } else { 0 },
            lose_one_in: if rng.once_in(8) { 20 + rng.below(40) } else { 0 },
            record_bytes_max: u32::try_from(RECORD_BYTES_MAX).unwrap_or(u32::MAX),
            ..Self::default()
        };
        if rng.once_in(6) {
            plan.record_bytes_max = 700;
        }
        if rng.once_in(6) {
            plan.batch_records = 30;
        }
        plan.server_sketches = !rng.once_in(4);
        plan.device_sketches = !rng.once_in(4);
        plan.loses_secret = rng.once_in(3);
        plan.draw_long_lives(rng);
        plan.draw_more(rng);
        plan
    }

    /// Slow lines, what is forgotten, what rots.
    fn draw_long_lives(&mut self, rng: &mut Stream) {
        let plan = self;
        if rng.once_in(12) && !plan.has_small_records() {
            // The slowest line that sessions get on on, and messages that take long on it.
            plan.line_bytes_per_s = FLOOR_BYTES_PER_S as u64;
            plan.large_one_in = 10;
            plan.writes = plan.writes.min(30);
        }
        // What takes longer to fetch than it is kept is never had.
        if rng.once_in(3) && plan.line_bytes_per_s == 0 {
            plan.retention_ms = Some(40_000 + rng.below(200_000));
            plan.away_one_in = 3 + rng.below(12);
            plan.writes += 40;
            plan.records = plan.records.min(5);
        }
        // What is collected and what has rotted look alike to an oracle.
        if rng.once_in(5) && plan.retention_ms.is_none() {
            plan.rot_one_in = 2 + rng.below(20);
            plan.rots_records = rng.once_in(2);
            plan.keep_copies();
        }
    }

    /// Faults of lines, disks, clocks and endings.
    fn draw_more(&mut self, rng: &mut Stream) {
        let some = |rng: &mut Stream, times: u64, range: u64| {
            if rng.once_in(times) { 2 + rng.below(range) } else { 0 }
        };
        self.tamper_one_in = some(rng, 4, 60);
        self.part_one_in = some(rng, 3, 20);
        self.full_one_in = some(rng, 4, 20);
        self.sick_one_in = some(rng, 4, 20);
        self.torn = rng.once_in(2);
        self.drift_ppm = if rng.once_in(4) { rng.one_of(100, &[2_000, 50_000]) } else { 0 };
        self.server_steps = rng.once_in(2);
        self.heals_some = rng.once_in(2);
        // Only a world whose tape has ended is calm.
        self.generations = if rng.is_over() { 0 } else { 4 };
        self.hostile_one_in = some(rng, 4, 8);
        self.mangle_one_in = some(rng, 4, 100);
        self.expiry_one_in = some(rng, 4, 20);
        self.upgrades = rng.once_in(4);
        // What they write nobody holds until it is fetched: rot may take it for good.
        self.call_one_in = if self.rot_one_in == 0 { some(rng, 4, 8) } else { 0 };
    }

    /// A short life in which stores are copied all the time, with whatever they have not sent.
    #[must_use]
    pub fn draw_copies(seed: u64) -> Self {
        let rng = &mut Stream::of_seed(seed ^ 0x636f_7079);
        let some = |rng: &mut Stream, range: u64| {
            if rng.once_in(2) { 2 + rng.below(range) } else { 0 }
        };
        Self {
            devices: 2 + rng.index(3),
            tabs: if rng.once_in(5) { 2 } else { 1 },
            writes: 6 + rng.below(24),
            records: 1 + rng.below(3),
            cut_one_in: some(rng, 20),
            silence_one_in: if rng.once_in(6) { 20 + rng.below(40) } else { 0 },
            crash_one_in: some(rng, 20),
            restart_one_in: some(rng, 20),
            step_one_in: if rng.once_in(3) { 3 + rng.below(10) } else { 0 },
            fault_one_in: if rng.once_in(4) { 20 + rng.below(100) } else { 0 },
            rollback_one_in: 2 + rng.below(5),
            rejections: rng.once_in(4),
            account_one_in: if rng.once_in(4) { 4 + rng.below(10) } else { 0 },
            fold_entries_min: if rng.once_in(2) { Some(1 + rng.below(10)) } else { None },
            pairs: 6,
            batch_records: 3,
            newcomer: false,
            evict_one_in: 0,
            copy_one_in: 0,
            lose_one_in: 0,
            rot_one_in: 0,
            record_bytes_max: u32::try_from(RECORD_BYTES_MAX).unwrap_or(u32::MAX),
            ..Self::draw(seed)
        }
    }

    /// Nothing but rot takes what somebody holds.
    pub fn keep_copies(&mut self) {
        self.rollback_one_in = 0;
        self.evict_one_in = 0;
        self.account_one_in = 0;
        self.copy_one_in = 0;
        self.call_one_in = 0;
        self.record_bytes_max = u32::try_from(RECORD_BYTES_MAX).unwrap_or(u32::MAX);
    }

    /// Whether the release of a tab knows sketches.
    pub(super) fn device_knows_sketches(&self, life: u64) -> bool {
        self.device_sketches ^ (self.upgrades && life % 2 == 1)
    }

    /// Whether the release of the server does.
    pub(super) fn server_knows_sketches(&self, life: u64) -> bool {
        self.server_sketches ^ (self.upgrades && life % 2 == 1)
    }

    /// How much a device does for one message of a walk.
    pub(super) fn walk_of_device(&self, life: u64) -> WalkLimits {
        // Trees are small here, and are to be sketched all the same.
        let cells_max = if self.device_knows_sketches(life) { CELLS_MAX } else { 0 };
        WalkLimits { cells_max, sketched_entries_min: 1, ..WalkLimits::default() }
    }

    /// How much the server does for one message of a walk.
    pub(super) fn walk_of_server(&self, life: u64) -> WalkLimits {
        let cells_max = if self.server_knows_sketches(life) { CELLS_MAX } else { 0 };
        let usual = WalkLimits { cells_max, ..self.walk_of_device(0) };
        if !self.long_walks {
            return usual;
        }
        WalkLimits {
            work_max: 8,
            reply_bytes_max: 200,
            nodes_max: 2,
            differs_max: 2,
            list_entries_max: 2,
            deep_nodes_max: 0,
            ..usual
        }
    }

    /// Whether a record may be too large for the server.
    pub(super) fn has_small_records(&self) -> bool {
        (self.record_bytes_max as usize) < RECORD_BYTES_MAX
    }
}
