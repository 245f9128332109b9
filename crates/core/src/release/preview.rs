//! What is asked of a canary that nobody is sent to yet.
//!
//! The shell carries the checks out through the preview address and reports what came of each. One that fails often enough in a row takes the
//! release back, also while it is paused or waits for approval; one that has not succeeded often enough in a row, or was not heard of lately,
//! keeps the preview from passing. Results that come while no preview is proven to be open mean nothing.
//!
//! Requests of a preview are few, so criteria of the whole release may break on them and need not pass on them: they decide where everybody is.
//! The preview's own criteria have to pass.

use std::collections::BTreeMap;

use super::{Cause, CauseKind, Phase, Release, StageStep};
use crate::{
    Timestamp, human_duration,
    judge::CriterionAssessment,
    plan::{OnBreach, PreviewCheck, Step},
};

/// What the checks of the running preview showed, by name.
pub(super) type Previewed = BTreeMap<String, Seen>;

/// What one check showed.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    at: Timestamp,
    succeeded_in_row: u32,
    failed_in_row: u32,
    error: Option<String>,
}

impl Release {
    /// The checks to carry out at the moment: those of a preview that is proven to be open.
    #[must_use]
    pub fn preview_checks(&self) -> &[PreviewCheck] {
        let Phase::Stage { step, at: StageStep::Observing { .. } | StageStep::AwaitingApproval { .. } } = self.state.phase else {
            return &[];
        };
        let is_open = self.state.all_proven() && self.state.targets.values().all(|target| target.preview);
        let preview = self.plan.steps.get(step).and_then(|step| step.preview.as_ref());
        preview.filter(|_| is_open).map_or(&[], |preview| &preview.checks)
    }

    pub(super) fn preview_seen(&mut self, name: String, result: Result<(), String>) {
        let Some(check) = self.preview_checks().iter().find(|check| check.name == name).cloned() else { return };
        let at = self.now;
        let seen = self.previewed.entry(name).or_insert(Seen { at, succeeded_in_row: 0, failed_in_row: 0, error: None });
        seen.at = at;
        match result {
            Ok(()) => (seen.succeeded_in_row, seen.failed_in_row) = (seen.succeeded_in_row.saturating_add(1), 0),
            Err(_) => (seen.succeeded_in_row, seen.failed_in_row) = (0, seen.failed_in_row.saturating_add(1)),
        }
        seen.error = result.err();
        if let Some(error) = &seen.error
            && seen.failed_in_row >= check.failures
        {
            let text = format!("{}: the canary failed the check {} times in a row: {error}", check.name, seen.failed_in_row);
            self.roll_back(Cause { kind: CauseKind::Check { name: check.name }, text });
        }
    }

    /// What a preview still has to show, and whether nothing was seen of it at all.
    pub(super) fn preview_lacks(&self, step: &Step) -> Option<(String, bool)> {
        let preview = step.preview.as_ref()?;
        let lacking = preview.checks.iter().find_map(|check| self.check_lacks(check));
        lacking.or_else(|| {
            let open = self.preview_open(step)?;
            Some((format!("{} is {}: {}", open.name, open.verdict.as_str(), open.text), open.verdict == crate::judge::Verdict::Unknown))
        })
    }

    /// What a preview has shown, in words.
    pub(super) fn preview_evidence(&self, step: &Step) -> Vec<String> {
        let checks = step.preview.iter().flat_map(|preview| &preview.checks);
        checks.map(|check| format!("{} succeeded", check.name)).collect()
    }

    fn check_lacks(&self, check: &PreviewCheck) -> Option<(String, bool)> {
        let Some(seen) = self.previewed.get(&check.name) else { return Some((format!("the first answer to {}", check.name), true)) };
        let age_ms = self.now.ms_since(seen.at);
        if age_ms > check.stale_after_ms() {
            return Some((format!("{} was not asked for {}", check.name, human_duration(age_ms)), true));
        }
        if let Some(error) = &seen.error {
            return Some((format!("{} fails: {error}", check.name), false));
        }
        let (seen, needed) = (seen.succeeded_in_row, check.successes);
        (seen < needed).then(|| (format!("{} succeeded {seen} of {needed} times in a row", check.name), false))
    }

    /// A guard, or a criterion of the preview's own, that does not pass.
    fn preview_open(&self, step: &Step) -> Option<&CriterionAssessment> {
        let assessment = self.trial.assessment();
        let is_own = |one: &&CriterionAssessment| step.criteria.iter().any(|own| own.name == one.name);
        let own = assessment.criteria.iter().filter(is_own).filter(|one| one.on_breach != OnBreach::Warn);
        let broken = assessment.criteria.iter().filter(|one| one.on_breach != OnBreach::Warn && one.verdict == crate::judge::Verdict::Fail);
        assessment.broken_guards.iter().chain(own.filter(|one| one.verdict != crate::judge::Verdict::Pass)).chain(broken).next()
    }
}
