//! Putting right what looks damaged: it is read again, decided on, committed, and then the memory follows.
//!
//! Invariant: it has the pipeline for itself from the second reading to the end. Absent: what is decided (see
//! `damage`), and what looks damaged (see `scrub`).

use super::{
    Host, HostNote, HostOutput, PeerId,
    damage::{self, Context, Damaged, DamagedRow, Mend, Mended, Suspect},
    heal::rows_of,
    peer::{Peer, Stage as PeerStage},
    scrub::{Around, Stage, Step, Then},
    survey::Survey,
};
use crate::{
    io::Answer,
    protocol::message::{Bye, ByeCode},
    sorted::SortedSet,
    time::{Millis, Now},
};
use alloc::{string::String, vec::Vec};

/// Peers stay away so much longer with each further loss of one pass, up to the second.
const RENEWED_PAUSE: Millis = Millis(2_000);
const RENEWED_PAUSE_MAX: Millis = Millis(30_000);

impl Host {
    pub(super) fn confirm(
        &mut self,
        suspects: SortedSet<Suspect>,
        survey: Option<Survey>,
        around: Around,
    ) {
        let queries = damage::queries(&suspects);
        let stage = Stage::Confirm(suspects, survey);
        self.scrub_reads(Step { stage, around }, queries);
    }

    /// What looks damaged was read again.
    pub(super) fn confirmed(
        &mut self,
        now: Now,
        suspects: &SortedSet<Suspect>,
        survey: Option<&Survey>,
        around: Around,
        answers: Vec<Answer>,
    ) -> Result<(), Damaged> {
        let context = Context {
            head: self.head,
            head_bytes: &self.head_bytes,
            lineage: &self.lineage,
            horizon: &self.horizon,
            collections: &self.collections,
            is_unheard: self.scrub.is_unheard,
            is_serving: self.is_ready(),
            survey,
            planted: self.config.planted,
        };
        let mut mend = Mend::decide(suspects, answers, &context)?;
        if mend.asks {
            let survey = Survey::of(suspects);
            self.survey_records(suspects.clone(), survey, around, Vec::new());
        } else if mend.batch.writes.is_empty() {
            self.mended(now, mend, around.1);
        } else {
            let batch = core::mem::take(&mut mend.batch);
            self.scrub_commits(Step { stage: Stage::Commit(mend), around }, batch);
        }
        Ok(())
    }

    fn survey_records(
        &mut self,
        suspects: SortedSet<Suspect>,
        survey: Survey,
        around: Around,
        start: Vec<u8>,
    ) {
        let stage = Stage::Survey(suspects, survey);
        self.scrub_reads(Step { stage, around }, alloc::vec![Survey::query(start)]);
    }

    /// Some of the records were read: the others follow, and then it is decided.
    pub(super) fn surveyed_records(
        &mut self,
        suspects: SortedSet<Suspect>,
        mut survey: Survey,
        around: Around,
        answers: Vec<Answer>,
    ) -> Result<(), Damaged> {
        let more = answers.iter().any(|answer| matches!(answer, Answer::Page(page) if page.more));
        let mut last = None;
        for row in answers.into_iter().flat_map(rows_of) {
            survey.take(&row)?;
            last = Some(row.key);
        }
        if let (Some(mut start), true) = (last, more) {
            // The least key behind this one.
            start.push(0);
            self.survey_records(suspects, survey, around, start);
        } else {
            self.confirm(survey.name(suspects), Some(survey), around);
        }
        Ok(())
    }

    /// What was damaged is put right: the trees in memory follow, and whoever has to do with it hears of it.
    pub(super) fn mended(&mut self, now: Now, mend: Mend, then: Then) {
        for ((collection, hash), leaf) in mend.leaves {
            let held = self.collections.entry(collection).or_default();
            match leaf {
                Some((digest, len)) => {
                    if held.trie.insert(hash, digest).is_none() {
                        held.bytes += len;
                    }
                }
                None => drop(held.trie.remove(&hash)),
            }
        }
        self.collections.retain(|_, held| !held.trie.is_empty());
        self.roots.clear();
        let mut ended = SortedSet::new();
        for (row, mended) in mend.told {
            self.scrub.done.damaged += 1;
            self.scrub.done.lost += u64::from(mended == Mended::Lost);
            if let DamagedRow::Replica(replica) = row {
                ended.insert(replica);
            }
            if row == DamagedRow::Head {
                self.head_bytes = Some(self.head.encode());
            }
            self.out(HostOutput::Note(HostNote::Damaged { row, mended }));
        }
        let renews = mend.renews.is_some();
        if let Some((head, lineage)) = mend.renews {
            self.head = head;
            self.head_bytes = Some(head.encode());
            self.marks.epoch = head.epoch;
            self.lineage = lineage;
            self.tail.reset(head.seq);
            self.out(HostOutput::Note(HostNote::Renewed { epoch: head.epoch }));
        }
        let mut pause = Millis(0);
        if renews {
            // What else is lost is found soon; who comes back at once each time would come for each of it.
            pause = Millis(self.scrub.renewals * RENEWED_PAUSE.0).min(RENEWED_PAUSE_MAX);
            self.scrub.renewals += 1;
            self.scrub.hurries = true;
            self.scrub.is_unheard = true;
        }
        self.send_back(now, pause, |peer| {
            let welcomed = peer.stage != PeerStage::Opening;
            welcomed && (renews || ended.contains(&peer.hello.replica))
        });
        self.scrub_on(now, then);
    }

    /// Ends sessions whose peers must say hello again, not all at once.
    pub(super) fn send_back(&mut self, now: Now, pause: Millis, concerns: impl Fn(&Peer) -> bool) {
        let known = self.peers.iter().filter(|(_, peer)| concerns(peer));
        let all: Vec<PeerId> = known.map(|(id, _)| *id).collect();
        for (after, id) in (0..).zip(all) {
            let bye = Bye {
                code: ByeCode::Busy,
                reason: String::from("stored rows were damaged: say hello again"),
                retry_after: Some(Millis(pause.0 + after)),
            };
            self.bye(now, id, bye);
        }
    }
}
