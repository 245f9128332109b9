//! The loop: inputs in, journal and effects out.
//!
//! Order of one turn: moves of traffic to stable first, then the journal, then everything else. If the journal cannot be
//! written (a full disk), effects that depend on it wait and are tried again; the judge and the moves to stable go on.

use std::{
    collections::{HashSet, VecDeque},
    net::SocketAddr,
    sync::{Arc, PoisonError},
    time::Duration,
};

use serin_core::{
    Timestamp,
    release::{Action, Command, Effect, EffectId, Event, Input, Output, Phase, Refusal, Release, narrate},
    traffic::Observation,
};
use serin_proxy::{ProxyLink, protocol::Stats};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::{
    Feed, Happening, RunEnd, StatusReport, TimelineEntry,
    clock::RunClock,
    effects::{World, carry_out},
    ledger::SharedStore,
    meter::{Fresh, RecentTraffic, TrafficMeter},
    preview::Checking,
    socket::{self, Asked, Response},
    start::{Load, Remembered, Started, reachable},
};
use crate::{
    process::ReplicaSet,
    recording::{Gatherer, Recorder, SAMPLE_MS},
    router::ProxyKeeper,
    source::{News, Polls},
    store::{CheckpointFile, Latch, ReleaseRow, StateFolder},
    workload,
};

mod telling;

/// How often somebody who watches is told how things are.
const STATUS_EVERY: Duration = Duration::from_millis(250);
/// How often the release looks after itself when nobody watches: a server has hundreds of them. Traffic, answers and commands wake it
/// at once; what happens to the versions is seen with the next counters or then.
const UNWATCHED_EVERY: Duration = Duration::from_secs(1);
/// Between two checkpoints while there is news.
const CHECKPOINT_MS: u64 = 1_000;
/// The same while only time passes: what is lost with an older one is time for which a stage has been held, and it is held longer then, and
/// some samples of processor and memory use.
const QUIET_CHECKPOINT_MS: u64 = 10_000;
/// Between two attempts to write a journal that cannot be written.
const STORE_RETRY: Duration = Duration::from_millis(250);
/// Lines of the final report's timeline; the journal has them all.
const MOST_TIMELINE: usize = 500;

/// A release being carried out.
pub(crate) struct Driver {
    pub(crate) folder: StateFolder,
    pub(crate) store: SharedStore,
    pub(crate) row: ReleaseRow,
    pub(crate) release: Release,
    pub(crate) latch: Latch,
    pub(crate) world: Arc<World>,
    pub(crate) keeper: ProxyKeeper,
    pub(crate) load: Option<ReplicaSet>,
    pub(crate) meter: TrafficMeter,
    pub(crate) timeline: Vec<TimelineEntry>,
    pub(crate) clock: RunClock,
    pub(crate) feed: Feed,
    /// Answers commands from other terminals, where the release has a socket of its own.
    pub(crate) control: Option<JoinHandle<()>>,
    pub(crate) status: watch::Sender<Option<StatusReport>>,
    /// The checks of a preview that is open.
    checking: Checking,
    preview: Option<SocketAddr>,
    commands: mpsc::Receiver<Asked>,
    /// What was seen of these must outlast [`drive`](Self::drive), which a server stops and calls again for every question: a link that
    /// looks new each time would have the table sent each time.
    stats: watch::Receiver<Option<Arc<Stats>>>,
    link: watch::Receiver<Option<Arc<ProxyLink>>>,
    load_start: Option<Load>,
    /// What other sources say.
    polls: Polls,
    checkpoint: CheckpointFile,
    checkpoint_at: Timestamp,
    /// Something was seen or decided since the last checkpoint.
    has_news: bool,
    checkpoint_task: Option<JoinHandle<()>>,
    metered: bool,
    linked: bool,
    recent: RecentTraffic,
    /// What the proxy said last, as far as it was observed.
    observed: Option<Arc<Stats>>,
    gatherer: Gatherer,
    pub(crate) recorder: Recorder,
    answers: (mpsc::Sender<Input>, mpsc::Receiver<Input>),
    /// Decided, but not yet durable.
    backlog: VecDeque<Output>,
    /// Effects under way: asking for one again while it runs changes nothing.
    running: HashSet<EffectId>,
    store_fault: Option<String>,
    flush_after: Option<Instant>,
    /// The canary has taken stable's place in the route table: what the proxy counts no longer fits the arms.
    handed_over: bool,
    listen: String,
}

impl Driver {
    pub(crate) fn new(started: Started, feed: Feed) -> Self {
        let Started { folder, store, row, release, latch, checkpoint, meter, world, keeper, control, load, clock, listen, preview } =
            started;
        let (commands_in, commands) = mpsc::channel(32);
        let (status, status_out) = watch::channel(None);
        let polls = Polls::start(&world.sources);
        let recorder = Recorder::start(folder.recording(row.id));
        let (stats, mut link) = (world.stats.clone(), keeper.link());
        // An adopted proxy still serves the table of the owner before: the first link counts as a change.
        link.mark_changed();
        Self {
            folder,
            store,
            row,
            release,
            latch,
            world,
            keeper,
            load: None,
            metered: meter.is_some(),
            meter: meter.unwrap_or_default(),
            timeline: Vec::new(),
            clock,
            feed,
            control: control.map(|listener| tokio::spawn(socket::serve(listener, status_out, commands_in))),
            status,
            checking: Checking::default(),
            preview,
            commands,
            stats,
            link,
            load_start: load,
            polls,
            checkpoint,
            checkpoint_at: Timestamp(0),
            has_news: true,
            checkpoint_task: None,
            linked: false,
            recent: RecentTraffic::default(),
            observed: None,
            gatherer: Gatherer::default(),
            recorder,
            answers: mpsc::channel(256),
            backlog: VecDeque::new(),
            running: HashSet::new(),
            store_fault: None,
            flush_after: None,
            handed_over: false,
            listen,
        }
    }

    /// Drives the release to its end.
    pub(crate) async fn drive(&mut self, interrupts: &mut mpsc::Receiver<()>, operator_patience: Option<Duration>) -> RunEnd {
        let pulse_every = if self.is_watched() { STATUS_EVERY } else { UNWATCHED_EVERY };
        let mut pulse = interval(pulse_every);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut operator_since: Option<Timestamp> = None;
        let mut interrupted = false;
        self.turn();
        while !(self.release.state().is_final() && self.backlog.is_empty()) {
            let deadline = self.release.next_deadline();
            let now = self.clock.now();
            if deadline.operator {
                let since = *operator_since.get_or_insert(now);
                if operator_patience.is_some_and(|patience| u128::from(now.ms_since(since)) >= patience.as_millis()) {
                    return RunEnd::OperatorNeeded { why: deadline.why };
                }
            } else {
                operator_since = None;
            }
            // The pulse ticks anyway: a deadline farther away needs no timer of its own.
            let retry_in = self.flush_after.map_or(pulse_every, |after| after.saturating_duration_since(Instant::now()));
            let wake_in = deadline.until.map_or(pulse_every, |until| Duration::from_millis(until.ms_since(now)));
            let wake_in = wake_in.min(retry_in).max(Duration::from_millis(1));
            tokio::select! {
                biased;
                Some(()) = interrupts.recv() => {
                    if interrupted {
                        return RunEnd::Forced;
                    }
                    interrupted = true;
                    self.interrupt();
                }
                Some(asked) = self.commands.recv() => self.command(asked),
                Some(input) = self.answers.1.recv() => self.answer(input),
                Ok(()) = self.stats.changed() => {
                    let latest = self.stats.borrow_and_update().clone();
                    if let Some(latest) = latest {
                        self.observe(&latest);
                    }
                }
                news = self.polls.next() => self.hear(news),
                Ok(()) = self.link.changed() => {
                    let linked = self.link.borrow_and_update().is_some();
                    self.relink(linked);
                }
                _ = pulse.tick() => self.pulse(),
                () = sleep_until(Instant::now() + wake_in) => self.release.handle(Input::Tick, self.clock.now()),
            }
            self.turn();
        }
        self.publish();
        self.record(self.clock.now(), 1);
        match RunEnd::of(self.release.state()) {
            // A release that was past stopping has succeeded, whoever asked for what.
            RunEnd::RolledBack { cause } if interrupted && cause.kind.is_person() => RunEnd::Interrupted,
            end => end,
        }
    }

    /// The first Ctrl-C.
    fn interrupt(&mut self) {
        self.note("interrupted: traffic goes back to stable, then everything is stopped; once more stops at once".to_owned());
        let command = Command { action: Action::Abort, by: "interrupt".to_owned(), reason: None };
        if let Err(refusal) = self.release.command(command, self.clock.now()) {
            self.note(refusal.to_string());
        }
    }

    fn command(&mut self, asked: Asked) {
        // Whoever asked was told that there was no answer, and may have decided otherwise since.
        if asked.answer.is_closed() {
            return;
        }
        let response = match self.obey(asked.command) {
            Ok(()) => Response::Accepted,
            Err(refusal) => Response::Refused(refusal.to_string()),
        };
        let _ = asked.answer.send(response);
    }

    /// Carries out a command as far as it can be done at once. Not while [`drive`](Self::drive) runs.
    pub(crate) fn obey(&mut self, command: Command) -> Result<(), Refusal> {
        let done = self.release.command(command, self.clock.now());
        self.turn();
        done
    }

    fn answer(&mut self, input: Input) {
        if let Input::Done(id) | Input::Failed(id, _) | Input::ReadBack(id, _) | Input::PreflightChecked(id, _) = &input {
            self.running.remove(id);
        }
        self.release.handle(input, self.clock.now());
    }

    fn observe(&mut self, stats: &Arc<Stats>) {
        if self.handed_over {
            return;
        }
        if !std::mem::replace(&mut self.metered, true) {
            self.meter = TrafficMeter::starting_at(stats);
        }
        let now = self.clock.now();
        let Fresh { cells, replicas } = self.meter.take(stats);
        self.recent.add(now, &cells);
        self.gatherer.add(now, &cells);
        self.observed = Some(Arc::clone(stats));
        self.has_news |= !cells.is_empty() || !replicas.is_empty() || !stats.open.is_empty();
        let arms = serin_core::traffic::by_arm(|arm| self.world.workload.arm(arm, Some(stats)));
        let gauges = serin_core::traffic::by_arm(|arm| arms[arm.index()].gauges);
        self.release
            .handle(Input::Observed(Observation { at: now, cells, gauges, open: stats.open.clone(), replicas, measured: Vec::new() }), now);
        self.release.handle(Input::WorkloadSeen(workload::seen(&arms[0], &arms[1])), now);
        if (stats.epoch, stats.version) == self.world.router.version() {
            for target in self.release.plan().targets.clone() {
                self.release.handle(Input::RouterSeen { target, weight: stats.weight }, now);
            }
        }
    }

    /// What another source says is an observation of its own, so that what it decides does not wait for the proxy's counters.
    fn hear(&mut self, news: News) {
        if self.handed_over {
            return;
        }
        let now = self.clock.now();
        match news {
            News::Measured(measured) => {
                self.has_news = true;
                // What is open, and what processes use, is as it was: an observation says it all.
                let open = self.observed.as_ref().map_or_else(Vec::new, |stats| stats.open.clone());
                let gauges = self.arms().map(|arm| arm.gauges);
                self.release.handle(Input::Observed(Observation { at: now, measured, open, gauges, ..Observation::default() }), now);
            }
            News::Fires { name, text } => self.release.handle(Input::AlertFired { name, text }, now),
            News::AlertsSeen(Ok(())) => self.note("the alerts can be seen again".to_owned()),
            News::AlertsSeen(Err(reason)) => self.note(reason),
        }
    }

    /// A proxy that was started anew, or one that outlived an earlier control process, gets the table at once.
    fn relink(&mut self, linked: bool) {
        if !linked {
            if std::mem::take(&mut self.linked) {
                self.note("the link to the proxy broke; it is being restored".to_owned());
            }
            return;
        }
        self.linked = true;
        let world = Arc::clone(&self.world);
        tokio::spawn(async move { world.resend().await });
    }

    fn pulse(&mut self) {
        let now = self.clock.now();
        let [stable, canary] = self.arms();
        self.release.handle(Input::WorkloadSeen(workload::seen(&stable, &canary)), now);
        self.record(now, SAMPLE_MS);
        let every_ms = if self.has_news { CHECKPOINT_MS } else { QUIET_CHECKPOINT_MS };
        if now.ms_since(self.checkpoint_at) >= every_ms && self.metered {
            self.checkpoint_at = now;
            self.has_news = false;
            self.save_checkpoint(now);
        }
        self.publish();
    }

    /// In the background and one at a time: a disk that hangs must not hold up the judge.
    fn save_checkpoint(&mut self, now: Timestamp) {
        if self.checkpoint_task.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let remembered = Remembered { trial: self.release.trial().checkpoint(), meter: self.meter.clone() };
        let (checkpoint, release) = (self.checkpoint.clone(), self.row.id);
        self.checkpoint_task = Some(tokio::task::spawn_blocking(move || {
            if let Err(error) = checkpoint.save(release, now, &remembered) {
                tracing::warn!(%error, "no checkpoint");
            }
        }));
    }

    /// Takes what the release wants: traffic to stable at once, then the journal, then the rest.
    fn turn(&mut self) {
        let preview = self.preview.map(|preview| reachable(preview).to_string());
        self.checking.follow(self.release.preview_checks(), preview.as_deref(), &self.answers.0);
        let output = self.release.take_output();
        let retreats = !output.urgent.is_empty();
        for (id, effect) in output.urgent.clone() {
            self.carry_out(id, effect);
        }
        // Effects without entries are asked for again by themselves: none of them needs to wait for the journal in line.
        if !output.entries.is_empty() || (self.backlog.is_empty() && !output.effects.is_empty()) {
            self.backlog.push_back(Output { urgent: Vec::new(), ..output });
        }
        let retreated = matches!(self.release.state().phase, Phase::Retreated { .. } | Phase::RollingBack { .. });
        if retreats || !self.backlog.is_empty() || (retreated && !self.latch.is_set()) {
            // These writes wait for the disk, so the runtime is told that this thread does.
            tokio::task::block_in_place(|| {
                if (retreats || retreated)
                    && let Err(error) = self.latch.set()
                {
                    tracing::error!(%error, "the latch could not be set");
                }
                self.flush();
            });
            // Who asks after an event or an answered command must not be told what was before.
            self.publish();
        }
    }

    /// The latch stands in for the journal only until that is durable, and for good once the release rolls back.
    fn unlatch(&mut self) {
        let state = self.release.state();
        let taken_back = state.rollback.is_some() || matches!(state.phase, Phase::Retreated { .. });
        if self.backlog.is_empty()
            && !taken_back
            && let Err(error) = self.latch.clear()
        {
            tracing::error!(%error, "the latch could not be cleared");
        }
    }

    fn flush(&mut self) {
        if self.flush_after.is_some_and(|after| Instant::now() < after) {
            return;
        }
        self.flush_after = None;
        while let Some(batch) = self.backlog.front() {
            let stored = self.store.lock().unwrap_or_else(PoisonError::into_inner).append(self.row.id, &batch.entries);
            if let Err(error) = stored {
                if self.store_fault.is_none() {
                    self.note(format!("{error}; the release stands still until the journal can be written, aborting is possible"));
                }
                self.store_fault = Some(error.to_string());
                self.flush_after = Some(Instant::now() + STORE_RETRY);
                return;
            }
            if self.store_fault.take().is_some() {
                self.note("the journal can be written again".to_owned());
            }
            let Some(batch) = self.backlog.pop_front() else { return };
            self.unlatch();
            for entry in batch.entries {
                self.written(entry);
            }
            for (id, effect) in batch.effects {
                // What was decided while the journal could not be written may be overtaken by now.
                if self.release.state().outstanding.contains_key(&id) {
                    self.carry_out(id, effect);
                }
            }
        }
    }

    /// What a durable entry means for the shell.
    fn written(&mut self, entry: serin_core::release::Entry) {
        self.has_news = true;
        if matches!(entry.event, Event::PreflightPassed { .. } | Event::TakenOver { .. }) {
            self.start_load();
        }
        let words = narrate(&entry, self.release.plan());
        if let Some((head, detail)) = &words
            && self.timeline.len() < MOST_TIMELINE
        {
            self.timeline.push(TimelineEntry { at: entry.at, head: head.clone(), detail: detail.clone() });
        }
        self.feed.tell(Happening::Entry { entry: Box::new(entry), words });
    }

    fn start_load(&mut self) {
        let started = matches!(self.release.state().phase, Phase::Pending | Phase::Preflight | Phase::Refused);
        if !started && let Some(load) = self.load_start.take() {
            self.load = Some(load.start());
        }
    }

    fn carry_out(&mut self, id: EffectId, effect: Effect) {
        if !self.running.insert(id) {
            return;
        }
        if effect == Effect::Retire {
            self.handed_over = true;
        }
        let (world, answers) = (Arc::clone(&self.world), self.answers.0.clone());
        tokio::spawn(async move {
            let input = carry_out(world, id, effect).await;
            let _ = answers.send(input).await;
        });
    }

    fn note(&self, text: String) {
        self.feed.note(text);
    }
}
