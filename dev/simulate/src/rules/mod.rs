//! The rules that no release may break, checked from outside: by what is journaled, asked for, observed and really done at
//! routers and versions, with a memory of their own. Nothing here looks into the state machine, so that a mistake in it
//! cannot hide itself.
//!
//! `journal` holds what the entries say, and `rights` whether each had a right to be there; `stage_time` counts the time of a
//! stage; `evidence` knows what was delivered to the judge; `effects` watches ids and what is asked of the world; `world` compares
//! routers and versions with what they may do; `end` looks at the whole when it is over.

mod effects;
mod end;
mod evidence;
mod journal;
mod rights;
mod stage_time;
mod world;

use std::fmt;

use serin_core::{
    Timestamp, WeightBps,
    plan::Plan,
    release::{Action, EffectId, Entry, Input, Output, Release, State, Wait},
};

pub(crate) use end::Ended;
pub(crate) use journal::End;
pub(crate) use world::{RouterSight, Watch};

use evidence::Evidence;
use journal::Memory;

/// A rule was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken {
    /// The rule's name.
    pub(crate) rule: &'static str,
    /// What was seen.
    pub(crate) detail: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.detail)
    }
}

/// Fails with a rule and words unless the condition holds.
macro_rules! hold {
    ($condition:expr, $rule:literal, $($words:tt)+) => {
        if !$condition {
            return Err($crate::rules::Broken { rule: $rule, detail: format!($($words)+) });
        }
    };
}
pub(crate) use hold;

/// What the release is being told at the moment. Some entries are right only as the answer to it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Told {
    /// Nothing that decides anything by itself.
    Other,
    /// A router was read back.
    ReadBack(EffectId, WeightBps),
    /// A person asked for something.
    Command(Action),
}

/// The rules with what they remember.
#[derive(Debug)]
pub(crate) struct Rules {
    plan: Plan,
    memory: Memory,
    evidence: Evidence,
    told: Told,
    watch: Watch,
    /// The last time that a process which died knew of, or the disk.
    died_at: Option<Timestamp>,
    /// How often each kind of thing happened that may cost entries.
    budget: u64,
}

impl Rules {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            plan: plan.clone(),
            memory: Memory::default(),
            evidence: Evidence::default(),
            told: Told::Other,
            watch: Watch::default(),
            died_at: None,
            budget: 0,
        }
    }

    /// Something is about to be told to the release at this time of its clock.
    pub(crate) fn telling(&mut self, input: &Input, at: Timestamp) {
        self.told = match input {
            Input::ReadBack(id, weight) => Told::ReadBack(*id, *weight),
            _ => Told::Other,
        };
        match input {
            Input::Observed(observation) => self.evidence.delivered(observation, at),
            Input::PreviewSeen { check, result } => self.evidence.checked(check, result.is_ok(), at),
            Input::WorkloadSeen(seen) => self.memory.stable_is_gone = seen.stable_ready == Some(0),
            _ => {}
        }
    }

    /// A person is about to ask for something.
    pub(crate) fn commanding(&mut self, action: Action) {
        self.told = Told::Command(action);
        self.budget += 12;
    }

    /// The release took what it was told, and this is what it wants now.
    pub(crate) fn output(&mut self, output: &Output, release: &Release, wait: &Wait) -> Result<(), Broken> {
        for entry in &output.entries {
            self.memory.take(entry, &self.plan, &self.told, &self.evidence)?;
        }
        self.effects_of(output)?;
        self.memory.patience(&self.plan, release.now())?;
        hold!(!wait.why.is_empty(), "wait", "no reason to wait in {:?}", release.state().phase);
        if let Some(until) = wait.until {
            hold!(until > release.now(), "wait", "a deadline that has passed is a busy loop: {wait:?}");
        }
        Ok(())
    }

    /// What became of a command.
    pub(crate) fn commanded(&self, action: Action, refused: Option<&str>) -> Result<(), Broken> {
        let memory = &self.memory;
        if action == Action::Abort {
            hold!(
                memory.rolled_back || memory.end.is_some() || memory.retiring,
                "abort",
                "an abort was {} and nothing was taken back",
                refused.unwrap_or("accepted")
            );
        }
        Ok(())
    }

    /// The control process died, and the store has kept this much.
    pub(crate) fn crashed(&mut self, knew: Timestamp, journal: &[Entry]) {
        self.died_at = self.died_at.max(Some(knew));
        self.budget += 20;
        self.memory = Memory::default();
        // It was all right when it was written, by what had been told then.
        for entry in journal {
            self.memory.recall(entry, &self.plan);
        }
        self.watch.forget();
    }

    /// Whether the journal says that a router was ever asked for anything.
    pub(crate) fn was_asked(&self, target: &str) -> bool {
        self.memory.asked.contains_key(target)
    }

    /// Another process took over: what it wants first.
    pub(crate) fn resumed(&mut self, output: &Output, release: &Release, wait: &Wait, latched: bool) -> Result<(), Broken> {
        self.told = Told::Other;
        let gap_ms = release.now().ms_since(self.died_at.unwrap_or(release.now()));
        self.memory.gap_ms = Some(gap_ms);
        let before = self.memory.end;
        self.output(output, release, wait)?;
        self.memory.gap_ms = None;
        if before.is_some() {
            hold!(output.is_empty(), "end", "a release that is over did something after a restart: {output:?}");
            return Ok(());
        }
        self.resumed_effects(output)?;
        let memory = &self.memory;
        if latched && memory.end.is_none() && !memory.retiring {
            hold!(memory.canary_is_out(), "latch", "traffic had been taken back, and the canary has {:?}", memory.asked);
        }
        Ok(())
    }

    /// The state is the fold of the journal, also when a beginning of it was stored as a snapshot.
    pub(crate) fn folds(journal: &[Entry], state: &State, keep: usize) -> Result<(), Broken> {
        let folded = State::fold(journal);
        hold!(folded == *state, "fold", "the state is not the fold of its journal: {folded:?} is not {state:?}");
        let (begun, rest) = journal.split_at(keep.min(journal.len()));
        let stored = serde_json::to_string(&State::fold(begun)).and_then(|text| serde_json::from_str::<State>(&text));
        let went_on = stored.map(|base| State::fold_from(base, rest)).map_err(|error| error.to_string());
        hold!(went_on.as_ref() == Ok(state), "fold", "stored after {keep} entries and read, it is {went_on:?}, not {state:?}");
        Ok(())
    }

    /// Something happened to the world that may cost this many entries.
    pub(crate) fn allow(&mut self, entries: u64) {
        self.budget += entries;
    }

    /// Whether the release has ended, by its journal.
    pub(crate) fn end(&self) -> Option<End> {
        self.memory.end
    }
}
