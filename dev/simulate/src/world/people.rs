//! People: some send commands that nobody asked for, at any moment, twice or too late; others do what the release asks for.

use serin_core::{
    WeightBps,
    release::{Action, Command, Phase, StageStep},
};

use super::{Sim, Stop, queue::Event};
use crate::{random::Random, scenario::bps};

/// Whoever has resumed this often in vain ends it.
const MOST_RESUMES: u32 = 6;

/// The people around a release.
#[derive(Debug)]
pub(super) struct People {
    random: Random,
    /// Somebody answers already in bad times.
    is_attended: bool,
    /// Somebody is on the way.
    is_called: bool,
    resumes: u32,
    /// Ends it by hand once the world is good, or by promotion.
    last_word: Option<Action>,
}

impl People {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed, 30);
        let last_word = random.pick(&[None, None, None, Some(Action::Abort), Some(Action::Promote)]);
        Self { is_attended: random.chance(0.6), is_called: false, resumes: 0, last_word, random }
    }
}

impl Sim {
    /// A command out of the blue; people who get no answer send it again.
    pub(super) fn whim(&mut self, how: f64) {
        let random = &mut self.people.random;
        let weight = Action::Weight(match random.below(4) {
            0 => WeightBps::ZERO,
            1 => WeightBps::FULL,
            _ => bps(random.below(10_001)),
        });
        let action = match how {
            how if how < 0.2 => Action::Pause,
            how if how < 0.4 => Action::Resume,
            how if how < 0.5 => Action::Approve,
            how if how < 0.55 => Action::Reject,
            how if how < 0.75 => weight,
            how if how < 0.82 => Action::Promote,
            how if how < 0.86 => Action::Retire,
            _ => Action::Abort,
        };
        let again = random.chance(0.3).then(|| random.below(self.scenario.tick_ms * 2));
        self.queue.put(self.now_ms, Event::Command(action));
        if let Some(later_ms) = again {
            self.queue.put(self.now_ms + later_ms, Event::Command(action));
        }
    }

    /// Somebody comes if the release asks for it.
    pub(super) fn call(&mut self, wants_operator: bool) {
        let somebody = self.is_good || self.people.is_attended;
        if wants_operator && somebody && !self.people.is_called {
            self.people.is_called = true;
            let longest_ms = if self.is_good { 500 } else { self.scenario.tick_ms * 4 };
            let after_ms = self.people.random.range(10, longest_ms);
            self.queue.put(self.now_ms + after_ms, Event::Operator);
        }
    }

    /// Somebody looks at what the release says and answers it.
    pub(super) fn operate(&mut self) -> Result<(), Stop> {
        self.people.is_called = false;
        let Some(process) = &self.process else { return Ok(()) };
        let state = process.release.state();
        if !process.wait.operator || state.is_final() {
            return Ok(());
        }
        let action = match (&state.paused, &state.phase) {
            _ if self.people.resumes > MOST_RESUMES => Action::Abort,
            (_, Phase::NeedsOperator { .. }) => Action::Abort,
            (Some(_), _) => Action::Resume,
            (None, Phase::Stage { at: StageStep::AwaitingApproval { .. }, .. }) => Action::Approve,
            _ => Action::Abort,
        };
        self.people.resumes += u32::from(action == Action::Resume);
        self.command(action)
    }

    /// The world is good, and whoever wants it over says so.
    pub(super) fn last_word(&mut self) {
        if let Some(action) = self.people.last_word {
            let after_ms = self.people.random.below(self.scenario.tick_ms * 10);
            self.queue.put(self.now_ms + after_ms, Event::Command(action));
        }
    }

    /// Hands a command to the control process, if there is one.
    pub(super) fn command(&mut self, action: Action) -> Result<(), Stop> {
        self.say(|| format!("people    {action:?}"));
        self.transcript.mix(8);
        let now = self.clock.read(self.now_ms);
        let Some(process) = &mut self.process else { return Ok(()) };
        self.rules.commanding(action);
        let command = Command { action, by: "ann".to_owned(), reason: None };
        let refused = process.release.command(command, now).err().map(|refusal| refusal.0);
        self.counted.commands += 1;
        if let Some(why) = &refused {
            self.transcript.line(self.now_ms, || format!("release   refuses: {why}"));
        }
        // Whoever asked is told once everything that follows is under way.
        self.turn()?;
        self.rules.commanded(action, refused.as_deref())?;
        Ok(())
    }
}
