//! What was delivered to the judge, and what a pass needs of it at the very least.
//!
//! Nothing is judged again here. What is checked is what holds for any honest judge: nothing passes on requests that were
//! never seen, on old ones, on fewer than the document asks for, on fewer than could prove anything, or while every single
//! look showed the limit broken.

use serin_core::{
    Timestamp, WeightBps,
    plan::{Criterion, JudgeKind, Metric, OnBreach, Plan, Step},
    traffic::{Arm, Assignment, Observation, Outcome},
};

use super::{Broken, hold};

/// Everything delivered so far.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    looks: Vec<Look>,
    /// Every answer to a check of a preview: its name, whether it succeeded, and when it was delivered.
    checks: Vec<(String, bool, Timestamp)>,
}

/// One observation, as counted here.
#[derive(Debug, Clone, Copy, Default)]
struct Look {
    /// When it was delivered, by the release's clock.
    at: Timestamp,
    /// The canary's requests by population: compared, forced, matched.
    compared: Seen,
    forced: Seen,
    matched: Seen,
}

/// Requests and errors of the canary.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    requests: u64,
    errors: u64,
    server_errors: u64,
    /// Requests by weight, of canary and stable, and the weight that split them; the last cell's.
    split: [u64; 2],
    weight: WeightBps,
}

impl Evidence {
    pub(super) fn delivered(&mut self, observation: &Observation, at: Timestamp) {
        let mut look = Look { at, ..Look::default() };
        for cell in &observation.cells {
            let seen = match cell.assignment {
                Assignment::Random | Assignment::Sticky => &mut look.compared,
                Assignment::Forced => &mut look.forced,
                Assignment::Matched | Assignment::Preview => &mut look.matched,
                Assignment::Mirror | Assignment::Rescue => continue,
            };
            let requests = cell.counts.requests();
            seen.split[cell.arm.index()] += requests;
            seen.weight = cell.weight;
            if cell.arm == Arm::Canary {
                seen.requests += requests;
                seen.errors += cell.counts.errors();
                seen.server_errors += cell.counts.of(Outcome::ServerError);
            }
        }
        self.looks.push(look);
    }

    /// The canary's requests that count for a stage, delivered since its weight was proven. `step` beyond the last: the bake.
    pub(super) fn seen_in(&self, plan: &Plan, step: usize, since: Option<Timestamp>) -> u64 {
        let weight = stage(plan, step).weight();
        self.since(since).map(|look| look.counting_for(weight)).sum()
    }

    /// Whether a stage may have passed on what was delivered since its weight was proven. `step` beyond the last: the bake.
    /// `restarted`: another owner took over since, so that part of it may be lost, and the last look may be the one before.
    pub(super) fn suffices(
        &self,
        plan: &Plan,
        step: usize,
        since: Option<Timestamp>,
        restarted: bool,
        now: Timestamp,
    ) -> Result<(), Broken> {
        let stage = stage(plan, step);
        let seen = self.seen_in(plan, step, since);
        hold!(seen >= stage.min_requests, "evidence", "stage {step} passed with {seen} of {} requests", stage.min_requests);
        let last = if restarted { self.looks.last() } else { self.since(since).last() }.map(|look| look.at);
        let age_ms = last.map(|last| now.ms_since(last));
        let stale_ms = plan.analysis.stale_after_ms();
        hold!(
            age_ms.is_some_and(|age| age <= stale_ms),
            "evidence",
            "stage {step} passed on what is {age_ms:?} ms old, {stale_ms} at most"
        );
        if !restarted {
            self.split(plan, step, &stage, since)?;
        }
        if stage.is_preview() {
            return self.preview(step, &stage, since, restarted, now);
        }
        let blocking = plan.criteria_of(step).filter(|criterion| criterion.on_breach != OnBreach::Warn);
        for criterion in blocking {
            self.criterion(plan, step, stage.weight(), criterion, since)?;
        }
        Ok(())
    }

    fn criterion(
        &self,
        plan: &Plan,
        step: usize,
        weight: WeightBps,
        criterion: &Criterion,
        since: Option<Timestamp>,
    ) -> Result<(), Broken> {
        let name = &criterion.name;
        let compares = criterion.versus_stable.is_some() && !weight.is_zero() && weight != WeightBps::FULL;
        if criterion.max.is_none() && !compares {
            return Ok(());
        }
        // Requests by weight count in a stage without weight too, if a router that was changed by hand brings any.
        let requests: u64 = self.since(since).map(Look::all).sum();
        let least = least_requests(plan, criterion);
        hold!(requests >= least, "evidence", "stage {step} passed {name} with {requests} requests, which cannot decide before {least}");
        let Some(max) = criterion.max.filter(|_| !weight.is_zero()) else { return Ok(()) };
        let values = self.since(since).filter_map(|look| {
            let (requests, errors, server_errors) = look.judged(weight);
            let events = if criterion.metric == Metric::ServerErrorRate { server_errors } else { errors };
            (requests > 0).then(|| events as f64 / requests as f64)
        });
        let (mut looks, mut broken) = (0, 0);
        for value in values {
            looks += 1;
            broken += u32::from(value > max);
        }
        hold!(looks == 0 || broken < looks, "evidence", "stage {step} passed {name} though each of {looks} looks broke it");
        Ok(())
    }

    /// An answer to a check of a preview.
    pub(super) fn checked(&mut self, check: &str, succeeded: bool, at: Timestamp) {
        self.checks.push((check.to_owned(), succeeded, at));
    }

    /// A preview passes by checks whose last answers were good, and that were asked lately. Another owner begins to count anew.
    fn preview(&self, step: usize, stage: &Step, since: Option<Timestamp>, restarted: bool, now: Timestamp) -> Result<(), Broken> {
        let from = since.filter(|_| !restarted).unwrap_or(Timestamp(0));
        for check in stage.preview.iter().flat_map(|preview| &preview.checks) {
            let answers = self.checks.iter().filter(|(name, _, at)| *name == check.name && *at >= from);
            let last: Vec<_> = answers.rev().take(usize::try_from(check.successes).unwrap_or(usize::MAX)).collect();
            let name = &check.name;
            hold!(last.len() == check.successes as usize, "preview", "stage {step} passed with {} answers to {name}", last.len());
            hold!(last.iter().all(|(_, succeeded, _)| *succeeded), "preview", "stage {step} passed though {name} failed");
            let age_ms = last.first().map_or(u64::MAX, |(.., at)| now.ms_since(*at));
            hold!(age_ms <= check.stale_after_ms(), "preview", "stage {step} passed on an answer to {name} that is {age_ms} ms old");
        }
        Ok(())
    }

    /// What the data plane did is compared with what it was asked for.
    fn split(&self, plan: &Plan, step: usize, stage: &Step, since: Option<Timestamp>) -> Result<(), Broken> {
        let weight = stage.weight();
        if plan.sticky || weight.is_zero() || weight == WeightBps::FULL || plan.targets.len() > 1 {
            return Ok(());
        }
        let off = |split: [u64; 2]| {
            let total = (split[0] + split[1]) as f64;
            let share = split[1] as f64 / total.max(1.0);
            let deviation = (weight.share() * (1.0 - weight.share()) / total.max(1.0)).sqrt();
            total >= 400.0 && (share - weight.share()).abs() > 10.0 * deviation + 0.05
        };
        let looks = self.since(since).filter(|look| look.compared.weight == weight && look.compared.split != [0, 0]);
        let (mut all, mut wrong) = (0, 0);
        for look in looks {
            all += 1;
            wrong += u32::from(off(look.compared.split));
        }
        hold!(all == 0 || wrong < all, "evidence", "stage {step} passed though each of {all} looks showed another split than {weight}");
        Ok(())
    }

    fn since(&self, since: Option<Timestamp>) -> impl Iterator<Item = &Look> {
        let from = since.unwrap_or(Timestamp(u64::MAX));
        self.looks.iter().filter(move |look| look.at >= from)
    }
}

impl Look {
    /// Requests of any population.
    fn all(&self) -> u64 {
        self.compared.requests + self.forced.requests + self.matched.requests
    }

    /// Requests that count towards a stage's least number.
    fn counting_for(&self, weight: WeightBps) -> u64 {
        match weight {
            WeightBps::ZERO => self.matched.requests,
            WeightBps::FULL => self.compared.requests + self.forced.requests,
            _ => self.compared.requests,
        }
    }

    /// Requests, errors and server errors that absolute limits look at.
    fn judged(&self, weight: WeightBps) -> (u64, u64, u64) {
        if weight.is_zero() {
            return (self.matched.requests, self.matched.errors, self.matched.server_errors);
        }
        let (a, b) = (&self.compared, &self.forced);
        (a.requests + b.requests, a.errors + b.errors, a.server_errors + b.server_errors)
    }
}

/// A stage of the plan, or the bake.
fn stage(plan: &Plan, step: usize) -> Step {
    plan.steps.get(step).cloned().unwrap_or_else(|| plan.bake())
}

/// Fewer requests than this cannot make a criterion pass, whatever they show.
fn least_requests(plan: &Plan, criterion: &Criterion) -> u64 {
    match (&plan.analysis.judge, criterion.max) {
        // To be this sure that a rate is below the limit takes so many requests without any error.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive number")]
        (JudgeKind::Sequential(rules), Some(max)) if !plan.sticky => (rules.beta.ln() / (1.0 - max).ln()).floor() as u64,
        (JudgeKind::Sequential(_), _) => 1,
        _ => criterion.min_sample.max(1),
    }
}
