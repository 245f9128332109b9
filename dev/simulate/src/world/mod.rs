//! A world with one release in it: routers, versions, clients, a disk, a clock, people, and a control process that may die.
//!
//! True time moves from one thing that happens to the next. After the horizon everything that is wrong ends, somebody
//! answers whatever the release asks for, and it has to come to its end.

mod clock;
mod people;
mod queue;
mod routers;
mod shell;
mod traffic;
mod versions;

use serin_core::{
    plan::Plan,
    release::{CauseKind, Event as Happened, Input, Release},
};

use crate::{
    random::Random,
    rules::{Broken, End, Ended, Rules},
    scenario::{Kind, Scenario},
    transcript::Transcript,
};
use clock::Clock;
use people::People;
use queue::{Event, Fate, Queue};
use routers::Router;
use shell::{Disk, Process};
use traffic::Traffic;
use versions::Versions;

/// Things that may happen in one run; a release that needs more never ends.
const MOST_EVENTS: u64 = 200_000;
/// Ticks of a good world within which a release ends.
const MOST_GOOD_TICKS: u64 = 1_500;
/// A good world lasts at least this long, in milliseconds.
const LEAST_GOOD_MS: u64 = 4 * 3_600_000;

/// What became of a run.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// The fingerprint of everything that happened.
    pub(crate) hash: u64,
    /// How it ended, or the rule that was broken.
    pub(crate) end: Result<End, Broken>,
    pub(crate) counted: Counted,
    /// The last lines of its story, if it was asked for.
    pub(crate) story: Vec<String>,
}

/// How much happened.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counted {
    /// Things that happened in the world.
    pub(crate) events: u64,
    /// Entries decided, also those that a crash took.
    pub(crate) entries: u64,
    /// Effects carried out.
    pub(crate) effects: u64,
    /// Commands given, also those that were refused.
    pub(crate) commands: u64,
    /// Control processes that died.
    pub(crate) crashes: u64,
    /// Simulated time, in milliseconds.
    pub(crate) ms: u64,
    /// Entries of the kinds in [`milestone`], in its order.
    pub(crate) milestones: [u64; MILESTONES.len()],
}

/// What is worth counting on the way: without these a simulation proves little.
pub(crate) const MILESTONES: [&str; 13] = [
    "passed",
    "waived",
    "approved",
    "overridden",
    "promoted by hand",
    "paused by itself",
    "drifts",
    "retreats",
    "latched",
    "needs an operator",
    "switches",
    "switches seen",
    "checks failed",
];

/// The position in [`MILESTONES`] of an entry that is one.
fn milestone(event: &Happened, plan: &Plan) -> Option<usize> {
    Some(match event {
        Happened::StagePassed { .. } => 0,
        Happened::StageWaived { .. } => 1,
        Happened::Approved { .. } => 2,
        Happened::Overridden { .. } => 3,
        Happened::PromotedByPerson { .. } => 4,
        Happened::Paused { by: None, .. } => 5,
        Happened::DriftFound { .. } => 6,
        Happened::Retreated { .. } => 7,
        Happened::RollbackDecided { cause } if cause.kind == CauseKind::Latched => 8,
        Happened::OperatorNeeded { .. } => 9,
        Happened::PromotionStarted if plan.is_switch() => 10,
        Happened::SwitchSeen { .. } => 11,
        Happened::RollbackDecided { cause } if matches!(cause.kind, CauseKind::Check { .. }) => 12,
        _ => return None,
    })
}

/// Why a step did not come to its end.
#[derive(Debug)]
enum Stop {
    /// The control process died in the middle of it.
    Died,
    Broken(Broken),
}

impl From<Broken> for Stop {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

/// Streams of random numbers.
#[derive(Debug)]
struct Luck {
    answers: Random,
    faults: Random,
}

#[derive(Debug)]
struct Sim {
    scenario: Scenario,
    now_ms: u64,
    queue: Queue,
    clock: Clock,
    routers: Vec<Router>,
    versions: Versions,
    traffic: Traffic,
    people: People,
    disk: Disk,
    process: Option<Process>,
    epoch: u64,
    rules: Rules,
    transcript: Transcript,
    luck: Luck,
    /// For each kind the episodes that run, and how bad the last one is.
    active: [(u32, f64); Kind::ALL.len()],
    is_good: bool,
    may_crash: bool,
    versions_asked: u64,
    /// Until when something stood between control and routers, and between control and its disk.
    bad_router_ms: u64,
    bad_disk_ms: u64,
    bad_clock_ms: u64,
    lies: u32,
    counted: Counted,
}

/// Lives through a scenario.
pub(crate) fn live(scenario: Scenario, in_words: bool) -> Outcome {
    let mut sim = Sim::new(scenario, in_words);
    let end = sim.run();
    if let Ok(bytes) = serde_json::to_vec(&sim.disk.journal) {
        sim.transcript.mix_bytes(&bytes);
    }
    for index in sim.disk.journal.iter().filter_map(|entry| milestone(&entry.event, &sim.scenario.plan)) {
        sim.counted.milestones[index] += 1;
    }
    sim.counted.ms = sim.now_ms;
    Outcome { hash: sim.transcript.hash(), end, counted: sim.counted, story: sim.transcript.tail() }
}

impl Sim {
    fn new(scenario: Scenario, in_words: bool) -> Self {
        let seed = scenario.seed;
        let mut queue = Queue::default();
        for (index, episode) in scenario.episodes.iter().enumerate() {
            queue.put(episode.from_ms, Event::Fault { episode: index, begins: true });
            if !episode.kind.is_instant() {
                queue.put(episode.to_ms, Event::Fault { episode: index, begins: false });
            }
        }
        queue.put(scenario.horizon_ms, Event::TurnsGood);
        queue.put(scenario.tick_ms, Event::Observe);
        queue.put(scenario.tick_ms / 2, Event::Pulse);
        let mut clock = Clock::default();
        let release = Release::new(scenario.plan.clone(), 1, clock.read(0));
        Self {
            routers: scenario.plan.targets.iter().map(|target| Router::new(target)).collect(),
            rules: Rules::new(&scenario.plan),
            may_crash: scenario.kinds().contains(&Kind::Crash),
            scenario,
            now_ms: 0,
            queue,
            clock,
            versions: Versions::new(),
            traffic: Traffic::new(seed),
            people: People::new(seed),
            disk: Disk::default(),
            process: Some(Process::new(release, 1, 0)),
            epoch: 1,
            transcript: Transcript::new(in_words),
            luck: Luck { answers: Random::new(seed, 10), faults: Random::new(seed, 11) },
            active: [(0, 0.0); Kind::ALL.len()],
            is_good: false,
            versions_asked: 0,
            bad_router_ms: 0,
            bad_disk_ms: 0,
            bad_clock_ms: 0,
            lies: 0,
            counted: Counted::default(),
        }
    }

    fn run(&mut self) -> Result<End, Broken> {
        let mut next = self.begin();
        loop {
            match next {
                Ok(()) => {}
                Err(Stop::Broken(broken)) => return Err(broken),
                Err(Stop::Died) => {
                    next = self.died();
                    continue;
                }
            }
            if self.process.as_ref().is_some_and(Process::is_over) {
                return self.over();
            }
            self.notice()?;
            next = self.happen();
        }
    }

    /// What is wrong from the beginning is wrong before anything is asked for.
    fn begin(&mut self) -> Result<(), Stop> {
        while self.queue.next_at() == Some(0)
            && let Some(event) = self.queue.take()
        {
            self.event(event)?;
        }
        self.turn()
    }

    /// The next thing that happens: what is in the queue, or a deadline of the release.
    fn happen(&mut self) -> Result<(), Stop> {
        self.counted.events += 1;
        let now = self.clock.read(self.now_ms);
        let (wanted, until) = self.process.as_ref().map_or((false, None), |process| (process.wait.operator, process.wait.until));
        self.call(wanted);
        let due_ms = until.map(|until| self.now_ms + until.ms_since(now).max(1));
        let queued_ms = self.queue.next_at().unwrap_or(u64::MAX);
        if let Some(due_ms) = due_ms.filter(|due_ms| *due_ms < queued_ms) {
            self.now_ms = due_ms;
            return self.tell(Input::Tick);
        }
        self.now_ms = self.now_ms.max(queued_ms);
        let Some(event) = self.queue.take() else {
            return Err(Broken { rule: "end", detail: "nothing will ever happen any more".to_owned() }.into());
        };
        self.event(event)
    }

    fn event(&mut self, event: Event) -> Result<(), Stop> {
        match event {
            Event::Answer { epoch, input } => self.arrives(epoch, input),
            Event::Takes(change) => self.takes(change),
            Event::Reads { epoch, id, target, back_ms, fate } => {
                self.reads(epoch, id, target, back_ms, fate);
                Ok(())
            }
            Event::Deployed { epoch, id, ready } => {
                self.deployed(epoch, id, ready);
                Ok(())
            }
            Event::Stops { epoch, id, is_canary, fate } => self.stops(epoch, id, is_canary, fate),
            Event::Observe => {
                self.queue.put(self.now_ms + self.scenario.tick_ms, Event::Observe);
                for input in self.reports() {
                    self.tell(input)?;
                }
                for input in self.previews() {
                    self.tell(input)?;
                }
                Ok(())
            }
            Event::Pulse => {
                self.queue.put(self.now_ms + self.scenario.tick_ms, Event::Pulse);
                let seen = self.workload_seen();
                self.tell(Input::WorkloadSeen(seen))?;
                self.save_checkpoint();
                Ok(())
            }
            Event::Fault { episode, begins } => self.fault(episode, begins),
            Event::Command(action) => self.command(action),
            Event::Operator => self.operate(),
            Event::Starts => self.starts(),
            Event::Store => self.flush(),
            Event::TurnsGood => {
                self.say(|| "world     everything turns good".to_owned());
                self.is_good = true;
                self.last_word();
                Ok(())
            }
        }
    }

    fn fault(&mut self, index: usize, begins: bool) -> Result<(), Stop> {
        let Some(episode) = self.scenario.episodes.get(index).copied() else { return Ok(()) };
        let (kind, how) = (episode.kind, episode.how);
        self.say(|| format!("fault     {kind:?} {}", if begins { "begins" } else { "ends" }));
        if begins && !kind.is_instant() {
            // Each episode may cost entries: what fails is asked for again, what drifts is corrected.
            self.rules.allow(40 + 12 * (episode.to_ms - episode.from_ms).min(60_000) / 1_000);
        }
        let slot = &mut self.active[kind as usize];
        match (kind, begins) {
            (Kind::RouterTampered, _) => self.tamper(how),
            (Kind::Crash, _) => self.doom(),
            (Kind::People, _) => self.whim(how),
            (Kind::ClockForward, _) => self.clock.jump_ahead(1 + self.luck.faults.below(self.scenario.tick_ms * 40)),
            (Kind::ClockBack, _) => self.clock.jump_back(1 + self.luck.faults.below(self.scenario.tick_ms * 4)),
            (_, true) => *slot = (slot.0 + 1, how),
            (_, false) => slot.0 = slot.0.saturating_sub(1),
        }
        match (kind, begins) {
            (Kind::ClockStands, true) => self.clock.freeze(self.now_ms),
            (Kind::ClockStands, false) => self.clock.thaw(self.now_ms, how < 0.5),
            _ => {}
        }
        self.fold_check()
    }

    /// Looks at the world once more.
    fn notice(&mut self) -> Result<(), Broken> {
        let router = [Kind::AnswersLost, Kind::AnswersSlow, Kind::EffectsFail, Kind::RouterDown, Kind::RouterDeaf, Kind::RouterStale];
        let now_ms = self.now_ms;
        if router.into_iter().any(|kind| self.has(kind)) {
            self.bad_router_ms = now_ms;
        }
        if self.has(Kind::DiskFull) || self.has(Kind::DiskDead) {
            self.bad_disk_ms = now_ms;
        }
        // A release whose clock was set back waits until that has caught up.
        let shown = self.clock.read(now_ms);
        let ahead_ms = self.process.as_ref().map_or(0, |process| process.release.now().ms_since(shown));
        if !self.clock.runs(now_ms) || ahead_ms > 0 {
            self.bad_clock_ms = now_ms + ahead_ms;
        }
        let routers = self.sights();
        self.rules.look(now_ms, &routers)?;
        let good_ms = if self.is_good { now_ms - self.scenario.horizon_ms.min(now_ms) } else { 0 };
        let most_ms = (MOST_GOOD_TICKS * self.scenario.tick_ms).max(LEAST_GOOD_MS);
        if good_ms > most_ms || self.counted.events > MOST_EVENTS {
            let why = self.process.as_ref().map(|process| process.wait.why.clone()).unwrap_or_default();
            let detail =
                format!("{} s into a good world, after {} events, it still waits for: {why}", good_ms / 1_000, self.counted.events);
            return Err(Broken { rule: "end", detail });
        }
        Ok(())
    }

    fn over(&mut self) -> Result<End, Broken> {
        let Some(process) = &self.process else {
            return Err(Broken { rule: "end", detail: "over without an owner".to_owned() });
        };
        let state = process.release.state().clone();
        let keep = self.luck.faults.index(self.disk.journal.len() + 1);
        let end = self.rules.end();
        // A disk that forgot what was done leaves a world that no journal explains.
        let forgotten = self.lies > 0 && (end == Some(End::Refused) || !state.deployed || !self.versions.stable_runs);
        let routers = if forgotten { Vec::new() } else { self.sights() };
        let ended = Ended {
            journal: &self.disk.journal,
            state: &state,
            routers: &routers,
            canary_runs: self.versions.canary_runs,
            stable_runs: self.versions.stable_runs,
            stop_failed: self.versions.stop_failures > 0 || forgotten,
            keep,
        };
        self.rules.ended(&ended)?;
        // Whoever starts it once more finds it over.
        let now = self.clock.read(self.now_ms);
        let mut again = Release::resume(self.scenario.plan.clone(), &self.disk.journal, None, now, false, self.epoch + 1, now);
        let output = again.take_output();
        self.rules.crashed(now, &self.disk.journal);
        self.rules.resumed(&output, &again, &again.next_deadline(), false)?;
        end.ok_or_else(|| Broken { rule: "end", detail: "over without an end".to_owned() })
    }

    fn has(&self, kind: Kind) -> bool {
        self.active[kind as usize].0 > 0
    }

    fn how(&self, kind: Kind) -> Option<f64> {
        let (running, how) = self.active[kind as usize];
        (running > 0).then_some(how)
    }

    /// Since when a process with a clock that runs has been there, and nothing of what ended at `bad_ms` either.
    fn good_since(&self, bad_ms: u64) -> Option<u64> {
        let process = self.process.as_ref()?;
        Some(bad_ms.max(process.since_ms).max(self.bad_clock_ms))
    }

    /// How long something is on its way.
    fn latency(&mut self) -> u64 {
        let longest_ms = if self.has(Kind::AnswersSlow) { 7_000 } else { 20 };
        self.luck.answers.range(1, longest_ms)
    }

    fn fate(&mut self) -> Fate {
        if self.has(Kind::AnswersLost) && self.luck.answers.chance(0.6) {
            return Fate::Lost;
        }
        if self.has(Kind::AnswersDoubled) && self.luck.answers.chance(0.6) {
            return Fate::Doubled { later_ms: self.luck.answers.below(8_000) };
        }
        Fate::Arrives
    }

    fn say(&mut self, words: impl FnOnce() -> String) {
        self.transcript.line(self.now_ms, words);
    }
}
