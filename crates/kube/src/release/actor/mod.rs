//! The loop of one run: inputs in, status and effects out.
//!
//! It is the engine's loop with other means. Nothing in it waits for an answer: status writes and effects are tasks that report back, so that an
//! API server that hangs holds up neither the judge nor a move to stable.

mod durable;

use std::{
    collections::{HashSet, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI32, AtomicU16, AtomicUsize, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::DynamicObject};
use serin_core::{
    WeightBps,
    release::{Action, Command, EffectId, Event, Input, Output, Phase, Release as Engine, narrate},
    traffic::Observation,
};
use serin_engine::{
    run::Checking,
    source::{Keyring, News, Polls, Sources},
};
use serin_spec::validated::ClusterRelease;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::{
    absence::{Absence, address_of_canary},
    clock::Clock,
    commands,
    effects::{World, carry_out},
    ending::{ActorEnd, Looked, WayToEnd, way_to_end},
    journal::{Journal, JournalError, Kept},
    keys::ClusterKeys,
    setting::{Run, Setting, router},
    story::Story,
};
use crate::{
    api::{CommandStatus, Release},
    watch::{Selection, WatchTask, Watched, watch_all},
    workload::{Arm, ArmSeen, Pair, trouble},
};

/// How often a run looks after itself when nothing wakes it.
const PULSE: Duration = Duration::from_secs(1);
/// Between two writes of a status in which only numbers changed.
const REFRESH: Duration = Duration::from_secs(10);
/// The same where nothing is measured: how long something still takes is a number as well.
const REFRESH_QUIET: Duration = Duration::from_secs(60);

/// One run of a release.
pub struct Actor {
    setting: Setting,
    run: Run,
    engine: Engine,
    world: Arc<World>,
    journal: Journal,
    clock: Clock,
    known: Release,
    story: Story,
    last_command: Option<CommandStatus>,
    /// The generation of the document that was last compared with the run's.
    looked_at: Option<i64>,
    /// Why the run must end, whatever its judge says: the document or the canary's version was changed.
    changed: Option<String>,
    /// What an effect that takes its time was last said to wait for.
    noted: Option<String>,
    /// Whether the canary is there to take its share.
    absence: Absence,
    /// What others measure.
    polls: Polls,
    /// The checks of a preview that is open, and where they go if the document says it.
    checking: Checking,
    preview: Option<String>,
    pods: Arc<Watched<Pod>>,
    /// The one object that splits the traffic.
    routes: Arc<Watched<DynamicObject>>,
    _watches: [WatchTask; 2],
    answers: (mpsc::Sender<Input>, mpsc::Receiver<Input>),
    written: (mpsc::Sender<Written>, mpsc::Receiver<Written>),
    /// Decided, but not yet durable; each with the position of its last entry.
    backlog: VecDeque<(u64, Output)>,
    running: HashSet<EffectId>,
    writing: bool,
    write_after: Option<Instant>,
    refreshed: Instant,
    has_news: bool,
    /// That the judge's memory cannot be stored was said.
    is_told_of_memory: bool,
    /// That a run which must end waits for stable was said.
    is_told_of_wait: bool,
    /// That the release is being deleted was said to the engine.
    is_told_of_deletion: bool,
}

struct Written {
    seq: u64,
    outcome: Result<Box<Kept>, JournalError>,
}

impl Actor {
    /// `engine` and `known` belong together: a new run, or one that an owner before began.
    pub(crate) fn new(setting: Setting, known: Release, run: Run, engine: Engine, pair: Pair, release: Option<&ClusterRelease>) -> Self {
        let [stable_namespace, namespace] = [Arm::Stable, Arm::Canary].map(|arm| pair.names().place(arm).0.to_owned());
        let route_namespace = run.place.traffic.namespace.clone().unwrap_or_else(|| known.namespace().to_owned());
        let router = router(&setting, &known, &run);
        let targets = engine.state().targets.values().next().copied();
        if let Some(target) = targets {
            router.expect(target.asked, target.matches);
        }
        let selector = pair.canary_selector();
        let (pods, pods_task) =
            watch_all(Api::<Pod>::namespaced(setting.client.clone(), &namespace), selector.map_or(Selection::All, Selection::Labels));
        let lens = router.lens();
        let of_route = Api::<DynamicObject>::namespaced_with(setting.client.clone(), &route_namespace, &lens.resource());
        let (routes, routes_task) = watch_all(of_route, Selection::Name(lens.name().to_owned()));
        let journal = Journal::new(setting.client.clone(), &known, run.epoch, Arc::clone(&setting.fence));
        let before = known.status.as_ref();
        let timeline = before.map(|status| status.timeline.clone()).unwrap_or_default();
        let keys: Arc<dyn Keyring> = Arc::new(ClusterKeys::new(setting.client.clone(), known.namespace()));
        let sources = Sources::new(&release.map(|release| release.measures.clone()).unwrap_or_default(), &keys);
        let polls = Polls::start(&sources);
        let world = World {
            client: setting.client.clone(),
            router,
            pair,
            place: run.place.clone(),
            namespace,
            stable_namespace,
            route_namespace,
            judged: run.judged.clone(),
            weights: engine.plan().steps.iter().map(serin_core::plan::Step::weight).collect(),
            canary_replicas: run.canary_replicas,
            unwanted: watch::channel(false).0,
            stable_peak: AtomicI32::new(0),
            // What it has already, it has replicas for.
            granted_bps: AtomicU16::new(
                engine.state().targets.values().filter_map(|target| target.proven).max().unwrap_or_default().canary_bps(),
            ),
            scaling: tokio::sync::Mutex::default(),
            sizing: AtomicUsize::new(0),
            note: Mutex::default(),
            sources,
        };
        Self {
            clock: Clock::start(engine.state().at),
            last_command: before.and_then(|status| status.last_command.clone()),
            story: Story::after(timeline, setting.recorder.clone()),
            world: Arc::new(world),
            setting,
            run,
            engine,
            journal,
            known,
            looked_at: None,
            changed: None,
            noted: None,
            absence: Absence::default(),
            polls,
            checking: Checking::default(),
            preview: release.and_then(|release| release.preview.clone()),
            pods,
            routes,
            _watches: [pods_task, routes_task],
            answers: mpsc::channel(64),
            written: mpsc::channel(4),
            backlog: VecDeque::new(),
            running: HashSet::new(),
            writing: false,
            write_after: None,
            refreshed: Instant::now(),
            has_news: false,
            is_told_of_memory: false,
            is_told_of_wait: false,
            is_told_of_deletion: false,
        }
    }

    /// Drives the run to its end.
    pub async fn drive(mut self) -> ActorEnd {
        let mut pulse = interval(PULSE);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut releases = self.setting.releases.changes();
        let mut workloads = self.world.pair.changes();
        let mut routes = self.routes.changes();
        let mut pods = self.pods.changes();
        self.look_at_release();
        self.look_at_workload();
        // An edit by hand that was made while nobody led is no change any more.
        self.look_at_route();
        self.turn();
        while !(self.engine.state().is_final() && self.backlog.is_empty() && !self.writing) {
            let now = self.clock.now();
            let wake_in = self.engine.next_deadline().until.map_or(PULSE, |until| Duration::from_millis(until.ms_since(now).max(1)));
            tokio::select! {
                biased;
                Some(input) = self.answers.1.recv() => self.answer(input),
                Some(written) = self.written.1.recv() => if let Some(end) = self.stored(written) {
                    return self.ended(end).await;
                },
                Ok(()) = releases.changed() => self.look_at_release(),
                Ok(()) = pods.changed() => self.look_at_workload(),
                Ok(()) = workloads.changed() => self.look_at_workload(),
                Ok(()) = routes.changed() => self.look_at_route(),
                news = self.polls.next() => self.hear(news),
                _ = pulse.tick() => self.look_at_workload(),
                () = sleep_until(Instant::now() + wake_in) => self.engine.handle(Input::Tick, self.clock.now()),
            }
            self.turn();
        }
        self.ended(ActorEnd::Over).await
    }

    async fn ended(self, end: ActorEnd) -> ActorEnd {
        let state = self.engine.state();
        // Also what was taken back already still has the release's name on it until it is let go.
        if end == ActorEnd::Gone && !state.targets.is_empty() && !state.is_final() {
            self.world.abandon().await;
        }
        end
    }

    fn answer(&mut self, input: Input) {
        if let Input::Done(id) | Input::Failed(id, _) | Input::ReadBack(id, _) | Input::PreflightChecked(id, _) = &input {
            self.running.remove(id);
        }
        self.engine.handle(input, self.clock.now());
    }

    /// A changed document, a command, a deletion.
    fn look_at_release(&mut self) {
        let found = self.setting.releases.get(self.known.namespace(), self.known.name());
        let Some(release) = found.filter(|found| found.uid() == self.known.uid()) else {
            // Somebody took its finalizer away, or memory is older than this run: the next write of the status finds out which.
            self.refresh_soon();
            return;
        };
        if self.looked_at != Some(release.generation()) {
            self.looked_at = Some(release.generation());
            self.known.spec = release.spec.clone();
            self.known.metadata.generation = release.metadata.generation;
            let is_same = release.load().is_ok_and(|loaded| loaded.release.document_hash == self.run.document_hash);
            if !is_same {
                self.must_end("the release document was changed while the release was under way; what it says now begins a new one");
                self.look_at_workload();
            }
        }
        // Also one that was deleted while nobody led.
        if release.metadata.deletion_timestamp.is_some() && !std::mem::replace(&mut self.is_told_of_deletion, true) {
            self.known.metadata.deletion_timestamp.clone_from(&release.metadata.deletion_timestamp);
            let reason = Some("the release is being deleted".to_owned());
            let _ = self.command(&Command { action: Action::Abort, by: "serin".to_owned(), reason });
        }
        // By what this run has answered: the object may be older than that.
        if let Some(asked) = commands::pending(&release).filter(|asked| self.last_command.as_ref().is_none_or(|last| last.id != asked.id)) {
            let id = asked.id.clone();
            let answer = asked.command().and_then(|command| self.command(&command).map_err(|refusal| refusal.to_string()));
            let accepted = answer.is_ok();
            self.last_command = Some(CommandStatus { id, accepted, answer: answer.err().unwrap_or_else(|| "done".to_owned()) });
            self.refresh_soon();
        }
    }

    fn command(&mut self, command: &Command) -> Result<(), serin_core::release::Refusal> {
        self.engine.command(command.clone(), self.clock.now())
    }

    fn look_at_workload(&mut self) {
        let stable = self.world.pair.stable();
        let canary = self.world.pair.canary();
        let is_made = !self.world.pair.is_managed() || self.engine.state().ready;
        let looked = Looked {
            place: &self.run.place.workload,
            judged: &self.run.judged,
            phase: &self.engine.state().phase,
            is_made,
            stable: stable.as_ref(),
            canary: canary.as_ref(),
            candidate: self.world.pair.candidate(),
        };
        let gone = (canary.is_none() && is_made).then(|| looked.gone());
        if let Some(why) = looked.why_to_end() {
            self.must_end(&why);
        }
        let is_kept = matches!(self.engine.state().phase, Phase::Finishing | Phase::Retained { .. });
        // Once everything goes to the canary, stable may shrink: that says nothing of what the traffic needs.
        if let Some(stable) = &stable {
            self.world.stable_peak.fetch_max(stable.ready, Ordering::Relaxed);
        }
        let has_traffic = self.engine.state().canary_has_traffic();
        let mut there =
            self.absence.look(&self.setting.memory, self.known.namespace(), &self.run.place.traffic, [&stable, &canary], has_traffic);
        if !is_made {
            there.without_canary();
        }
        // Judging is over then, but whoever gets all traffic and has nobody to take it is left for a stable that can.
        if let Some(why) = there.lost().filter(|_| is_kept && there.stable_ready > 0) {
            self.must_end(why);
        }
        let stable_ready = there.stable_ready;
        let failing = self.pods.all().iter().find_map(|pod| trouble(pod)).map(|trouble| format!("pod {}: {}", trouble.pod, trouble.text));
        let judged = &self.run.judged;
        // What its own controller says of a version before is none of this one's.
        let canary = canary.map(|canary| ArmSeen { trouble: canary.trouble.filter(|_| canary.version == *judged), ..canary });
        let seen = there.seen(self.world.place.workload.kinds[0], [stable, canary], self.changed.clone().or(gone), failing);
        self.engine.handle(Input::WorkloadSeen(seen), self.clock.now());
        self.end_if_it_may(stable_ready);
        if self.world.is_ratio() {
            self.look_at_route();
        }
    }

    fn hear(&mut self, news: News) {
        let now = self.clock.now();
        match news {
            News::Measured(measured) => {
                self.has_news = true;
                self.engine.handle(Input::Observed(Observation { at: now, measured, ..Observation::default() }), now);
            }
            News::Fires { name, text } => self.engine.handle(Input::AlertFired { name, text }, now),
            News::AlertsSeen(Ok(())) => self.say("alerts", "they can be seen again"),
            News::AlertsSeen(Err(reason)) => self.say("alerts", &reason),
        }
    }

    /// A line that is no decision.
    pub(crate) fn say(&mut self, head: &str, detail: &str) {
        self.story.say(&self.known, self.clock.now(), head, detail);
    }

    /// What was judged is no longer what is there. Whoever calls this looks at the workload next, which carries it out.
    fn must_end(&mut self, why: &str) {
        self.changed.get_or_insert_with(|| why.to_owned());
    }

    /// Ends a run that must end in a phase in which the engine does not look at the canary: by an abort, which moves traffic whatever stable's
    /// state, so that it is only given when stable can take it.
    fn end_if_it_may(&mut self, stable_ready: i32) {
        let Some(why) = self.changed.clone() else { return };
        match way_to_end(&self.engine.state().phase, stable_ready) {
            WayToEnd::Abort => {
                let _ = self.command(&Command { action: Action::Abort, by: "serin".to_owned(), reason: Some(why) });
            }
            WayToEnd::WaitForStable if !std::mem::replace(&mut self.is_told_of_wait, true) => {
                self.say("must end", &format!("{why}; this waits for a ready replica of stable, which would get all traffic"));
                self.refresh_soon();
            }
            WayToEnd::WaitForStable | WayToEnd::Engine => {}
        }
    }

    fn look_at_route(&mut self) {
        let route = self.routes.get(&self.world.route_namespace, self.world.router.lens().name());
        // One that is gone gives the canary nothing; before the first list nothing is known.
        let none = self.routes.silent_for().map(|_| WeightBps::ZERO);
        if let Some(weight) = route.map_or(none, |route| self.world.router.seen(&route))
            && !matches!(self.engine.state().phase, Phase::Retiring)
        {
            // A share that is made of replicas is what those are.
            let weight = self.world.excess(weight).unwrap_or(weight);
            for target in self.engine.plan().targets.clone() {
                self.engine.handle(Input::RouterSeen { target, weight }, self.clock.now());
            }
        }
    }

    /// Takes what the release wants: traffic to stable at once, then the status, then the rest.
    fn turn(&mut self) {
        let checks = self.engine.preview_checks();
        let service = || address_of_canary(&self.setting.memory, self.known.namespace(), &self.run.place.traffic);
        let address = if checks.is_empty() { None } else { self.preview.clone().or_else(service) };
        self.checking.follow(checks, address.as_deref(), &self.answers.0);
        let output = self.engine.take_output();
        for (id, effect) in output.urgent.clone() {
            self.spawn(id, effect);
        }
        let is_acted_on = !output.urgent.is_empty();
        for entry in &output.entries {
            self.setting.recorder.entry(&self.known, entry);
            if let Some((head, detail)) = narrate(entry, self.engine.plan()) {
                let now = self.clock.now();
                if is_acted_on {
                    self.story.say(&self.known, now, &head, &detail);
                } else {
                    self.story.decided(&self.known, now, entry.seq, &head, &detail);
                }
            }
            if entry.event == Event::RolledBack && self.world.pair.is_managed() && self.changed.is_none() {
                let name = &self.run.place.workload.stable;
                let text = format!("the edit stays in Deployment {name}, which is paused: change it, or command `retry` to try it again");
                self.say("not rolled out", &text);
            }
        }
        if !output.entries.is_empty() || !output.effects.is_empty() {
            let seq = self.engine.state().seq;
            // Effects without entries are asked for again by themselves: they need not wait in line.
            if output.entries.is_empty() && self.backlog.is_empty() {
                output.effects.into_iter().for_each(|(id, effect)| self.spawn(id, effect));
            } else {
                self.backlog.push_back((seq, Output { urgent: Vec::new(), ..output }));
            }
        }
        let noted = std::mem::replace(&mut self.noted, self.world.note());
        if noted != self.noted {
            self.refresh_soon();
        }
        let is_due = self.refreshed.elapsed() >= if self.has_news { REFRESH } else { REFRESH_QUIET };
        if !self.backlog.is_empty() || is_due {
            self.write();
        }
    }

    fn refresh_soon(&mut self) {
        self.has_news = true;
        self.refreshed = self.refreshed.checked_sub(REFRESH).unwrap_or(self.refreshed);
    }

    fn spawn(&mut self, id: EffectId, effect: serin_core::release::Effect) {
        if !self.running.insert(id) {
            return;
        }
        let (world, answers) = (Arc::clone(&self.world), self.answers.0.clone());
        tokio::spawn(async move {
            // Whoever asked may be gone: then nobody waits, and the effect ends with its owner.
            tokio::select! {
                input = carry_out(&world, id, effect) => drop(answers.send(input).await),
                () = answers.closed() => {}
            }
        });
    }
}
