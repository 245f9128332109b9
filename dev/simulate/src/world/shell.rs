//! The control process as the engine has it: moves to stable at once, then latch and journal, then the rest. It may die
//! between any two of these steps, and another one takes over from what is on the disk.

use std::collections::{BTreeSet, VecDeque};

use serin_core::{
    Timestamp,
    judge::Checkpoint,
    release::{Check, CheckStatus, Effect, EffectId, Entry, Input, Output, Phase, Release, Wait},
};

use super::{
    Sim, Stop,
    queue::{Event, Fate},
};
use crate::{rules::Rules, scenario::Kind};

/// Between two attempts to write a journal that cannot be written.
const STORE_RETRY_MS: u64 = 250;
/// Between two checkpoints.
const CHECKPOINT_MS: u64 = 1_000;

/// A running control process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) release: Release,
    pub(super) epoch: u64,
    pub(super) since_ms: u64,
    /// What the release waits for since it was last told something.
    pub(super) wait: Wait,
    /// Decided, but not yet durable.
    backlog: VecDeque<Output>,
    /// Effects under way: asking for one again while it runs changes nothing.
    running: BTreeSet<EffectId>,
    retries_at_ms: Option<u64>,
    /// It dies after this many more steps.
    dies_in: Option<u64>,
}

/// What survives a control process.
#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) journal: Vec<Entry>,
    latch: bool,
    checkpoint: Option<(Timestamp, Checkpoint)>,
    checkpoint_ms: u64,
}

impl Process {
    pub(super) fn new(release: Release, epoch: u64, since_ms: u64) -> Self {
        let wait = release.next_deadline();
        Self { release, epoch, since_ms, wait, backlog: VecDeque::new(), running: BTreeSet::new(), retries_at_ms: None, dies_in: None }
    }

    /// Over, and everything of it is on the disk.
    pub(super) fn is_over(&self) -> bool {
        self.release.state().is_final() && self.backlog.is_empty()
    }
}

impl Sim {
    /// Tells the release something, and does what it wants.
    pub(super) fn tell(&mut self, input: Input) -> Result<(), Stop> {
        let now = self.clock.read(self.now_ms);
        let Some(process) = &mut self.process else { return Ok(()) };
        self.rules.telling(&input, now.max(process.release.now()));
        self.transcript.mix(number(&input));
        if !matches!(input, Input::Tick | Input::WorkloadSeen(_) | Input::RouterSeen { .. }) {
            self.transcript.line(self.now_ms, || words(&input));
        }
        process.release.handle(input, now);
        self.turn()
    }

    /// Takes what the release wants: traffic to stable at once, then the journal, then the rest.
    pub(super) fn turn(&mut self) -> Result<(), Stop> {
        let Some(process) = &mut self.process else { return Ok(()) };
        let output = process.release.take_output();
        self.note(&output);
        let Some(process) = &mut self.process else { return Ok(()) };
        process.wait = process.release.next_deadline();
        self.rules.output(&output, &process.release, &process.wait)?;
        self.follow(output)
    }

    fn follow(&mut self, mut output: Output) -> Result<(), Stop> {
        let retreats = !output.urgent.is_empty();
        for (id, effect) in std::mem::take(&mut output.urgent) {
            self.step()?;
            self.carry_out(id, &effect);
        }
        let Some(process) = &mut self.process else { return Ok(()) };
        if !output.entries.is_empty() || (process.backlog.is_empty() && !output.effects.is_empty()) {
            process.backlog.push_back(output);
        }
        let retreated = matches!(process.release.state().phase, Phase::Retreated { .. } | Phase::RollingBack { .. });
        if retreats || !process.backlog.is_empty() || (retreated && !self.disk.latch) {
            self.step()?;
            if (retreats || retreated) && !self.has(Kind::DiskDead) {
                self.disk.latch = true;
            }
            self.flush()?;
        }
        Ok(())
    }

    /// Writes what is not written yet, and does what waits for it.
    pub(super) fn flush(&mut self) -> Result<(), Stop> {
        let is_broken = self.has(Kind::DiskFull) || self.has(Kind::DiskDead);
        let now_ms = self.now_ms;
        let Some(process) = &mut self.process else { return Ok(()) };
        if process.retries_at_ms.is_some_and(|at| now_ms < at) {
            return Ok(());
        }
        process.retries_at_ms = None;
        while let Some(process) = &mut self.process {
            if process.backlog.is_empty() {
                break;
            }
            if is_broken {
                process.retries_at_ms = Some(now_ms + STORE_RETRY_MS);
                self.queue.put(now_ms + STORE_RETRY_MS, Event::Store);
                return Ok(());
            }
            self.step()?;
            let Some(process) = &mut self.process else { break };
            let Some(batch) = process.backlog.pop_front() else { break };
            self.disk.journal.extend(batch.entries);
            let state = process.release.state();
            let taken_back = state.rollback.is_some() || matches!(state.phase, Phase::Retreated { .. });
            if process.backlog.is_empty() && !taken_back {
                self.disk.latch = false;
            }
            for (id, effect) in batch.effects {
                self.step()?;
                // What was decided while the journal could not be written may be overtaken by now.
                let wanted = self.process.as_ref().is_some_and(|process| process.release.state().outstanding.contains_key(&id));
                if wanted {
                    self.carry_out(id, &effect);
                }
            }
        }
        Ok(())
    }

    /// A point at which the process may die.
    fn step(&mut self) -> Result<(), Stop> {
        let Some(process) = &mut self.process else { return Err(Stop::Died) };
        match &mut process.dies_in {
            Some(0) => Err(Stop::Died),
            Some(steps) => {
                *steps -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The process will die soon, in the middle of something.
    pub(super) fn doom(&mut self) {
        let steps = self.luck.faults.below(12);
        if let Some(process) = &mut self.process {
            process.dies_in.get_or_insert(steps);
        }
    }

    /// The process is dead. What was on its way has arrived, or never will; some disks have promised too much.
    pub(super) fn died(&mut self) -> Result<(), Stop> {
        let Some(process) = self.process.take() else { return Ok(()) };
        self.counted.crashes += 1;
        // What lands now was asked for by what is on the disk, whatever was decided since.
        self.rules.crashed(process.release.now(), &self.disk.journal);
        for change in self.queue.changes_of(process.epoch) {
            if self.luck.faults.chance(0.5) {
                self.takes(change)?;
            }
        }
        let had = self.disk.journal.len();
        if self.has(Kind::DiskLies) {
            let keep =
                if self.luck.faults.chance(0.8) { had - self.luck.faults.index(8.min(had) + 1) } else { self.luck.faults.index(had + 1) };
            self.disk.journal.truncate(keep);
            self.lies += u32::from(keep < had);
        }
        if self.has(Kind::CheckpointLost) {
            self.disk.checkpoint = None;
        }
        let kept = self.disk.journal.len();
        self.say(|| format!("control   dies; {kept} of {had} entries stay"));
        self.rules.crashed(process.release.now(), &self.disk.journal);
        for router in &mut self.routers {
            router.is_orphaned |= !self.rules.was_asked(&router.name);
        }
        let longest_ms = if self.is_good { 2_000 } else { self.luck.faults.pick(&[100, 2_000, 60_000, self.scenario.tick_ms * 8]) };
        let gap_ms = self.luck.faults.range(20, longest_ms);
        self.queue.put(self.now_ms + gap_ms, Event::Starts);
        Ok(())
    }

    /// Another control process takes over from what is on the disk.
    pub(super) fn starts(&mut self) -> Result<(), Stop> {
        if self.process.is_some() {
            return Ok(());
        }
        self.epoch += 1;
        let last_at = self.disk.journal.last().map_or(Timestamp(0), |entry| entry.at);
        self.clock.start_at_least(self.now_ms, last_at);
        let now = self.clock.read(self.now_ms);
        let (last_seen, checkpoint) = match &self.disk.checkpoint {
            Some((at, checkpoint)) => (*at, Some(checkpoint)),
            None => (last_at, None),
        };
        let latched = self.disk.latch;
        let plan = self.scenario.plan.clone();
        let mut release = Release::resume(plan, &self.disk.journal, checkpoint, last_seen, latched, self.epoch, now);
        let output = release.take_output();
        let (epoch, latch) = (self.epoch, if latched { ", latched" } else { "" });
        self.say(|| format!("control   takes over as owner {epoch}{latch}"));
        self.note(&output);
        let process = Process::new(release, epoch, self.now_ms);
        self.rules.resumed(&output, &process.release, &process.wait, latched)?;
        self.process = Some(process);
        self.follow(output)
    }

    /// Once a second what the judge remembers is put on the disk.
    pub(super) fn save_checkpoint(&mut self) {
        let is_broken = self.has(Kind::DiskFull) || self.has(Kind::DiskDead);
        let at = self.clock.read(self.now_ms);
        let Some(process) = &self.process else { return };
        if !is_broken && self.may_crash && self.now_ms >= self.disk.checkpoint_ms + CHECKPOINT_MS {
            self.disk.checkpoint_ms = self.now_ms;
            self.disk.checkpoint = Some((at, process.release.trial().checkpoint()));
        }
    }

    /// An effect that runs already is not run twice.
    fn carry_out(&mut self, id: EffectId, effect: &Effect) {
        let Some(process) = &mut self.process else { return };
        if !process.running.insert(id) {
            return;
        }
        let epoch = process.epoch;
        self.transcript.mix(id.0 ^ 0xEF);
        self.counted.effects += 1;
        if self.has(Kind::EffectsFail) && self.luck.answers.chance(0.5) {
            if effect == &Effect::StopCanary || effect == &Effect::Retire {
                self.versions.stop_failures += 1;
            }
            self.overtakes(effect);
            let (after_ms, retryable) = (self.latency(), self.luck.answers.chance(0.93));
            return self.fails(epoch, id, after_ms, "it does not work", retryable);
        }
        let after_ms = self.latency();
        match effect {
            Effect::Shift { target, weight, matches, preview } => self.shift(epoch, id, target, *weight, (*matches, *preview)),
            Effect::ReadBack { target } => self.read_back(epoch, id, target),
            Effect::Preflight => {
                let status = if self.has(Kind::PreflightFails) { CheckStatus::Fail } else { CheckStatus::Pass };
                let check = Check { name: "stable".to_owned(), status, detail: "looked".to_owned(), hint: None };
                let fate = self.fate();
                self.answer(epoch, id, Input::PreflightChecked(id, vec![check]), after_ms, fate);
            }
            Effect::Deploy => self.deploy(epoch, id),
            Effect::Finalize => {
                let fate = self.fate();
                self.answer(epoch, id, Input::Done(id), after_ms, fate);
            }
            Effect::Retire | Effect::StopCanary => {
                let fate = self.fate();
                let is_canary = *effect == Effect::StopCanary;
                self.queue.put(self.now_ms + after_ms, Event::Stops { epoch, id: id.0, is_canary, fate });
            }
        }
    }

    /// Sends an answer on its way.
    pub(super) fn answer(&mut self, epoch: u64, id: EffectId, input: Input, after_ms: u64, fate: Fate) {
        let at_ms = self.now_ms + after_ms;
        if let Fate::Doubled { later_ms } = fate {
            self.queue.put(at_ms + later_ms, Event::Answer { epoch, input: input.clone() });
        }
        if fate != Fate::Lost {
            return self.queue.put(at_ms, Event::Answer { epoch, input });
        }
        if let Some(process) = self.process.as_mut().filter(|process| process.epoch == epoch) {
            process.running.remove(&id);
        }
    }

    /// An answer arrives.
    pub(super) fn arrives(&mut self, epoch: u64, input: Input) -> Result<(), Stop> {
        let Some(process) = self.process.as_mut().filter(|process| process.epoch == epoch) else { return Ok(()) };
        if let Input::Done(id) | Input::Failed(id, _) | Input::ReadBack(id, _) | Input::PreflightChecked(id, _) = &input {
            process.running.remove(id);
        }
        self.tell(input)
    }

    /// Any beginning of the journal folds, now and then.
    pub(super) fn fold_check(&mut self) -> Result<(), Stop> {
        let Some(process) = &self.process else { return Ok(()) };
        if process.backlog.is_empty() && !self.disk.journal.is_empty() {
            let keep = self.luck.faults.index(self.disk.journal.len() + 1);
            Rules::folds(&self.disk.journal, process.release.state(), keep)?;
        }
        Ok(())
    }

    fn note(&mut self, output: &Output) {
        self.counted.entries += output.entries.len() as u64;
        for entry in &output.entries {
            self.transcript.mix(entry.seq ^ entry.at.0.rotate_left(20));
            self.transcript.line(self.now_ms, || format!("journal   {:>3} {:?}", entry.seq, entry.event));
        }
    }
}

/// What is told, as a number.
fn number(input: &Input) -> u64 {
    match input {
        Input::Tick => 1,
        Input::Done(id) => 2 ^ (id.0 << 8),
        Input::Failed(id, _) => 3 ^ (id.0 << 8),
        Input::ReadBack(id, weight) => 4 ^ (id.0 << 8) ^ (u64::from(weight.canary_bps()) << 40),
        Input::PreflightChecked(id, _) => 5 ^ (id.0 << 8),
        Input::Observed(observation) => 6 ^ observation.cells.iter().fold(0, |sum, cell| sum ^ (cell.counts.all() << 8)),
        Input::RouterSeen { weight, .. } => 7 ^ (u64::from(weight.canary_bps()) << 8),
        Input::AlertFired { .. } => 8,
        Input::WorkloadSeen(seen) => 9 ^ (u64::from(seen.stable_ready.unwrap_or(99)) << 8),
        Input::PreviewSeen { result, .. } => 10 ^ (u64::from(result.is_ok()) << 8),
    }
}

/// What is told, in words.
fn words(input: &Input) -> String {
    match input {
        Input::Observed(observation) => {
            let cells = observation.cells.iter().map(|cell| {
                let counts = &cell.counts;
                format!("{} {}/{} at {}", cell.arm, counts.errors(), counts.requests(), cell.weight)
            });
            format!("observed  {}", cells.collect::<Vec<_>>().join(", "))
        }
        input => format!("told      {input:?}"),
    }
}
