//! Bugs to plant in the state machine. Each must be caught by a rule of the simulation within its seeds; a text that is no longer
//! found is an error too, so that the list stays about the code that there is.

/// A bug.
#[derive(Debug)]
pub(super) struct Planted {
    /// A short name, for the command line and the table.
    pub(super) name: &'static str,
    /// What it does.
    pub(super) what: &'static str,
    /// Changes to files of `crates/core/src/release`.
    pub(super) edits: &'static [Edit],
}

/// One change: a text that is found exactly once, and what takes its place.
#[derive(Debug)]
pub(super) struct Edit {
    /// Below `crates/core/src/release`.
    pub(super) file: &'static str,
    pub(super) find: &'static str,
    pub(super) replace: &'static str,
}

const fn edit(file: &'static str, find: &'static str, replace: &'static str) -> Edit {
    Edit { file, find, replace }
}

/// All of them.
pub(super) const PLANTED: &[Planted] = &[
    Planted {
        name: "raise-after-abort",
        what: "once traffic is back, routers are asked for everything",
        edits: &[edit(
            "routers.rs",
            "Phase::Retreated { .. } | Phase::RollingBack { .. } => Some((WeightBps::ZERO, false, false)),",
            "Phase::RollingBack { traffic_back: true } => Some((WeightBps::FULL, false, false)),\n            Phase::Retreated { .. } | Phase::RollingBack { .. } => Some((WeightBps::ZERO, false, false)),",
        )],
    },
    Planted {
        name: "override-outlives-rollback",
        what: "a weight set by hand is kept when traffic is taken back",
        edits: &[
            edit(
                "routers.rs",
                "Phase::Retreated { .. } | Phase::RollingBack { .. } => Some((WeightBps::ZERO, false, false)),",
                "Phase::Retreated { .. } | Phase::RollingBack { .. } => Some((self.state.override_weight.unwrap_or_default(), false, false)),",
            ),
            edit("state.rs", "self.override_weight = None;\n                // A move to stable", "// A move to stable"),
        ],
    },
    Planted {
        name: "matches-stay",
        what: "a rollback takes the weight and leaves the declared matches",
        edits: &[edit(
            "routers.rs",
            "Phase::Retreated { .. } | Phase::RollingBack { .. } => Some((WeightBps::ZERO, false, false)),",
            "Phase::Retreated { .. } | Phase::RollingBack { .. } => {\n                Some((WeightBps::ZERO, self.state.targets.get(target).is_some_and(|state| state.matches), false))\n            }",
        )],
    },
    Planted {
        name: "no-read-back",
        what: "a change that was acknowledged counts as proven",
        edits: &[edit(
            "delivery.rs",
            "            (Effect::Deploy, Phase::Deploying { .. }) =>",
            "            (Effect::Shift { target, weight, .. }, _) => {\n                self.record(Event::WeightProven { target: target.clone(), weight: *weight });\n            }\n            (Effect::Deploy, Phase::Deploying { .. }) =>",
        )],
    },
    Planted {
        name: "any-reading-proves",
        what: "a router that gives the canary less than asked counts as proven",
        edits: &[edit("routers.rs", "if weight == asked {", "if weight <= asked {")],
    },
    Planted {
        name: "stale-reading",
        what: "a question from before a change may prove the change",
        edits: &[edit(
            "state.rs",
            "self.outstanding.retain(|_, old| old.target() != Some(target));",
            "self.outstanding.retain(|_, old| matches!(old, Effect::ReadBack { .. }) || old.target() != Some(target));",
        )],
    },
    Planted {
        name: "event-not-persisted",
        what: "pauses are applied and not journaled",
        edits: &[edit(
            "machine.rs",
            "        self.output.entries.push(entry);",
            "        if !matches!(entry.event, Event::Paused { .. }) {\n            self.output.entries.push(entry);\n        }",
        )],
    },
    Planted {
        name: "raise-before-journal",
        what: "changes of weight run before they are journaled, whatever their direction",
        edits: &[edit("delivery.rs", "let list = if effect.is_retreat()", "let list = if effect.target().is_some()")],
    },
    Planted {
        name: "pass-on-unknown",
        what: "a stage passes although a criterion has no data",
        edits: &[edit(
            "advance.rs",
            "if !assessment.all_pass() {",
            "if assessment.first_open().is_some_and(|open| open.verdict != Verdict::Unknown) {",
        )],
    },
    Planted {
        name: "pass-on-inconclusive",
        what: "a stage passes although a criterion is undecided",
        edits: &[edit(
            "advance.rs",
            "if !assessment.all_pass() {",
            "if !assessment.all_pass() && assessment.first_open().is_none_or(|open| open.verdict != Verdict::Inconclusive) {",
        )],
    },
    Planted {
        name: "stale-evidence",
        what: "a stage passes on an evaluation of long ago",
        edits: &[edit("advance.rs", "if age_ms > self.plan.analysis.stale_after_ms() {", "if age_ms == u64::MAX {")],
    },
    Planted {
        name: "too-few-requests",
        what: "one request is enough for any stage",
        edits: &[edit("advance.rs", "if seen < step.min_requests {", "if seen < step.min_requests.min(1) {")],
    },
    Planted {
        name: "time-before-proof",
        what: "the time of a stage counts although a router is not proven",
        edits: &[edit("clock.rs", "let counts = self.paused.is_none() && self.all_proven();", "let counts = self.paused.is_none();")],
    },
    Planted {
        name: "time-without-owner",
        what: "the time between two owners counts as held",
        edits: &[edit(
            "machine.rs",
            "release.record(Event::TakenOver { unobserved_ms });",
            "release.record(Event::TakenOver { unobserved_ms: unobserved_ms / 2 });",
        )],
    },
    Planted {
        name: "latch-ignored",
        what: "a restart does as if the latch were not there",
        edits: &[edit("machine.rs", "if latched && !release.explains_latch() {", "if latched && release.explains_latch() && now.0 == 0 {")],
    },
    Planted {
        name: "effect-forgotten",
        what: "a restart asks again for all outstanding effects but one",
        edits: &[edit(
            "machine.rs",
            "for (id, effect) in release.state.outstanding.clone() {",
            "for (id, effect) in release.state.outstanding.clone().into_iter().skip(1) {",
        )],
    },
    Planted {
        name: "second-id",
        what: "an effect on its way is asked for again under another id",
        edits: &[edit("delivery.rs", "if !self.is_outstanding(|old| *old == effect) {", "if self.state.outstanding.len() < 2 {")],
    },
    Planted {
        name: "two-stages-at-once",
        what: "a passed stage leads to the one after the next",
        edits: &[edit(
            "advance.rs",
            "self.record(Event::StageEntered { step: step + 1 });",
            "self.record(Event::StageEntered { step: (step + 2).min(self.plan.steps.len() - 1) });",
        )],
    },
    Planted {
        name: "gate-skipped",
        what: "a stage with a gate goes on by itself",
        edits: &[edit(
            "advance.rs",
            "self.record(Event::StagePassed { step: index, evidence });\n                match step.gate {\n                    Gate::Manual => self.record(Event::ApprovalAwaited { step: index }),",
            "self.record(Event::StagePassed { step: index, evidence });\n                match step.gate {\n                    Gate::Manual => self.leave_stage(index),",
        )],
    },
    Planted {
        name: "endless-patience",
        what: "a stage without a verdict holds for ever",
        edits: &[edit(
            "advance.rs",
            "Progress::Missing { what, no_data } if held_ms >= step.max_hold_ms.saturating_add(extended_ms) => {\n                self.out_of_patience",
            "Progress::Missing { what, no_data } if held_ms >= step.max_hold_ms.saturating_add(extended_ms).saturating_mul(1_000_000) => {\n                self.out_of_patience",
        )],
    },
    Planted {
        name: "advance-without-policy",
        what: "a stage that ran out of time goes on although the document says to hold",
        edits: &[edit(
            "advance.rs",
            "OnInconclusive::Hold => self.record(Event::Paused { by: None, reason: format!(\"{reason}; resume, promote or abort\") }),",
            "OnInconclusive::Hold => {\n                self.record(Event::StageWaived { step: index, reason });\n                self.leave_stage(index);\n            }",
        )],
    },
    Planted {
        name: "retreat-given-up",
        what: "a move to stable is not asked for again after three failures",
        edits: &[edit(
            "delivery.rs",
            "let late: Vec<_> = self.due.iter().filter(|(_, due)| due.at <= self.now)",
            "let late: Vec<_> = self.due.iter().filter(|(_, due)| due.at <= self.now && due.attempts < 3)",
        )],
    },
    Planted {
        name: "abort-waits",
        what: "an abort does nothing while the release is paused",
        edits: &[edit(
            "commands.rs",
            "Action::Abort => self.abort(by, reason, \"aborted\"),",
            "Action::Abort if self.state.paused.is_some() => {}\n            Action::Abort => self.abort(by, reason, \"aborted\"),",
        )],
    },
    Planted {
        name: "drift-ignored",
        what: "a router that was changed by hand is left alone",
        edits: &[edit(
            "routers.rs",
            "if state.proven == Some(state.asked) && weight != state.asked {",
            "if state.proven == Some(state.asked) && weight != state.asked && weight.is_zero() {",
        )],
    },
    Planted {
        name: "stable-is-gone",
        what: "traffic goes back by itself to a stable without replicas",
        edits: &[edit(
            "machine.rs",
            "let loses_all = self.stable_is_gone() &&",
            "let loses_all = self.stable_is_gone() && self.state.paused.is_some() &&",
        )],
    },
    Planted {
        name: "canary-stops-early",
        what: "the canary is stopped before every router was read back without it",
        edits: &[edit(
            "advance.rs",
            "Phase::RollingBack { traffic_back: false } if self.state.all_proven() => {",
            "Phase::RollingBack { traffic_back: false } => {",
        )],
    },
    Planted {
        name: "stable-stops-early",
        what: "the old version is stopped while a router is not proven to need it no more",
        edits: &[
            edit(
                "advance.rs",
                "if self.state.paused.is_none() && self.state.all_proven() && self.now()",
                "if self.state.paused.is_none() && self.now()",
            ),
            edit("advance.rs", "Phase::Retiring if self.state.all_proven() => self", "Phase::Retiring => self"),
        ],
    },
    Planted {
        name: "switch-without-preview",
        what: "a canary that is ready gets everything without the preview that comes first",
        edits: &[edit(
            "advance.rs",
            "(true, None) if self.state.paused.is_none() => self.record(Event::StageEntered { step: 0 }),",
            "(true, None) if self.state.paused.is_none() && self.plan.is_switch() => self.record(Event::PromotionStarted),\n            (true, None) if self.state.paused.is_none() => self.record(Event::StageEntered { step: 0 }),",
        )],
    },
    Planted {
        name: "preview-unchecked",
        what: "a preview passes by its time, whatever its checks show",
        edits: &[edit(
            "advance.rs",
            "if let Some((what, no_data)) = self.preview_lacks(step) {",
            "if let Some((what, no_data)) = self.preview_lacks(step).filter(|_| !step.is_preview()) {",
        )],
    },
    Planted {
        name: "one-success-suffices",
        what: "a check of a preview passes by its last answer, not by several in a row",
        edits: &[edit("preview.rs", "(seen < needed).then(", "(seen < needed.min(1)).then(")],
    },
    Planted {
        name: "preview-gives-traffic",
        what: "a preview opens the canary to one request in a hundred",
        edits: &[edit(
            "routers.rs",
            "return Some((WeightBps::ZERO, false, true));",
            "return Some((WeightBps::new(100).unwrap_or_default(), false, true));",
        )],
    },
    Planted {
        name: "preview-stays",
        what: "a rollback takes the weight and leaves the preview open",
        edits: &[edit(
            "routers.rs",
            "Phase::Retreated { .. } | Phase::RollingBack { .. } => Some((WeightBps::ZERO, false, false)),",
            "Phase::Retreated { .. } | Phase::RollingBack { .. } => {\n                Some((WeightBps::ZERO, false, self.state.targets.get(target).is_some_and(|state| state.preview)))\n            }",
        )],
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::tree;

    #[test]
    fn every_planted_bug_still_fits_the_code() {
        let root = tree::root().unwrap();
        for planted in PLANTED {
            for edit in planted.edits {
                let source = std::fs::read_to_string(root.join("crates/core/src/release").join(edit.file)).unwrap();
                assert_eq!(
                    source.matches(edit.find).count(),
                    1,
                    "{}: text in {} is not found once: {}",
                    planted.name,
                    edit.file,
                    edit.find
                );
            }
        }
    }

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<_> = PLANTED.iter().map(|planted| planted.name).collect();
        assert_eq!(names.len(), PLANTED.len());
    }
}
