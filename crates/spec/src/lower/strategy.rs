//! Strategies as lists of steps.

use std::collections::BTreeMap;

use serin_core::{
    WeightBps,
    plan::{Criterion, Gate, Step},
};

use super::{
    Basis, Context, EMBEDDED_TARGET,
    context::{DAY, HOUR, MINUTE, SECOND},
    criterion::{self, Taken},
    preview,
};
use crate::{diagnostic::quote, format, raw, tree::Path};

/// The most stages of a release.
const MAX_STAGES: usize = 100;

/// The longest time of a release's part: a year.
pub(super) const MAX_MS: u64 = 365 * DAY;

/// The least number of compared canary requests in a stage, unless the document says otherwise.
const MIN_REQUESTS: u64 = 1_000;

/// Weight in percent and hold in milliseconds of each stage.
const CONSERVATIVE: [(u16, u64); 3] = [(5, 12 * HOUR), (25, 6 * HOUR), (50, 6 * HOUR)];
const PROGRESSIVE: [(u16, u64); 4] = [(5, 30 * MINUTE), (20, HOUR), (50, 2 * HOUR), (80, HOUR)];

/// What a strategy compiles to.
pub(super) struct Lowered {
    pub(super) steps: Vec<Step>,
    /// For each step: where its longest time is written.
    pub(super) holds: Vec<Path>,
    /// For each step that has a place of its own: the names of its criteria and those of the release with their places.
    pub(super) own_criteria: Vec<Taken>,
    pub(super) bake_ms: u64,
    pub(super) retain_ms: u64,
}

/// The preview of a strategy, if it has one, and where it stands.
pub(super) fn preview(given: &raw::Strategy) -> Option<(&raw::Preview, Path)> {
    let preview = match (&given.blue_green, &given.canary) {
        (Some(blue_green), _) => Some(&blue_green.preview),
        (None, Some(canary)) => canary.preview.as_ref(),
        (None, None) => None,
    };
    preview.map(|preview| (preview, place(given).key("preview")))
}

/// Where the strategy is written.
pub(super) fn place(given: &raw::Strategy) -> Path {
    let name = if given.blue_green.is_some() { "blueGreen" } else { "canary" };
    Path::root().key("spec").key("strategy").key(name)
}

/// `taken`: the names of the criteria that hold in every stage. `path`: [`place`].
pub(super) fn lower(given: raw::Strategy, basis: &Basis, taken: &Taken, path: &Path, cx: &mut Context<'_>) -> Lowered {
    match (given.blue_green, given.canary) {
        (Some(given), _) => blue_green(given, basis, taken, path, cx),
        (None, Some(given)) => canary(given, basis, taken, path, cx),
        // Excluded by the schema.
        (None, None) => Lowered { steps: Vec::new(), holds: Vec::new(), own_criteria: Vec::new(), bake_ms: 0, retain_ms: 0 },
    }
}

/// A preview, and then everything at once.
fn blue_green(given: raw::BlueGreen, basis: &Basis, taken: &Taken, path: &Path, cx: &mut Context<'_>) -> Lowered {
    let mut lowered = Lowered {
        steps: Vec::new(),
        holds: Vec::new(),
        own_criteria: Vec::new(),
        // A switch that nobody looks at would not be known to have happened.
        bake_ms: cx.duration(&path.key("bake"), given.bake.as_ref(), 10 * MINUTE, SECOND..=MAX_MS),
        retain_ms: cx.duration(&path.key("retain"), given.retain.as_ref(), 0, 0..=MAX_MS),
    };
    preview::lower(given.preview, basis, taken, &path.key("preview"), &mut lowered, cx);
    lowered
}

fn canary(given: raw::Canary, basis: &Basis, taken: &Taken, path: &Path, cx: &mut Context<'_>) -> Lowered {
    let (way, preset_bake_ms);
    let mut lowered = Lowered { steps: Vec::new(), holds: Vec::new(), own_criteria: Vec::new(), bake_ms: 0, retain_ms: 0 };
    match (given.stages, given.preset, given.linear) {
        (Some(given), _, _) => {
            (way, preset_bake_ms) = ("stages", None);
            stages(given, basis, taken, &path.key(way), &mut lowered, cx);
        }
        (None, Some(preset), _) => {
            way = "preset";
            (lowered.steps, preset_bake_ms) = preset_steps(preset);
        }
        (None, None, Some(given)) => {
            (way, preset_bake_ms) = ("linear", None);
            lowered.steps = linear(&given, &path.key(way), cx);
        }
        // Excluded by the schema.
        (None, None, None) => (way, preset_bake_ms) = ("stages", None),
    }
    if lowered.holds.is_empty() {
        let place = if way == "linear" { path.key(way).key("every") } else { path.key(way) };
        lowered.holds = vec![place; lowered.steps.len()];
    }
    if given.bake.is_none() && preset_bake_ms.is_none() {
        cx.push(
            cx.warning_at_key(&path.key(way), "no-bake", "there is no bake: the release ends as soon as the canary has all traffic")
                .help("`bake: 10m` beside it keeps measuring at 100 %, with stable still warm for a quick way back"),
        );
    }
    lowered.bake_ms = cx.duration(&path.key("bake"), given.bake.as_ref(), preset_bake_ms.unwrap_or(0), 0..=MAX_MS);
    lowered.retain_ms = cx.duration(&path.key("retain"), given.retain.as_ref(), 0, 0..=MAX_MS);
    if let Some(given) = given.preview {
        preview::lower(given, basis, taken, &path.key("preview"), &mut lowered, cx);
    }
    lowered
}

fn stages(given: Vec<raw::Stage>, basis: &Basis, taken: &Taken, path: &Path, lowered: &mut Lowered, cx: &mut Context<'_>) {
    for (index, raw) in given.into_iter().enumerate() {
        let at = path.index(index);
        let text = quote(&raw.weight.0.0);
        lowered.holds.push(at.key(if raw.max_hold.is_some() { "maxHold" } else { "hold" }));
        let mut taken = taken.clone();
        let step = stage(raw, &mut taken, basis, &at, cx);
        lowered.own_criteria.push(taken);
        if let Some(before) = lowered.steps.last().map(Step::weight)
            && step.weight() <= before
        {
            let word = if step.weight() == before { "the same as" } else { "below" };
            cx.push(
                cx.error(
                    &at.key("weight"),
                    "not-ascending",
                    format!("the weight {text} is {word} that of the stage before, {}", short_percent(before)),
                )
                .expected("weights that rise from stage to stage")
                .help(if step.weight() == before {
                    "for a longer stage, raise its `hold`"
                } else {
                    "put the stages in order of their weights"
                }),
            );
        }
        lowered.steps.push(step);
    }
}

fn stage(raw: raw::Stage, taken: &mut Taken, basis: &Basis, path: &Path, cx: &mut Context<'_>) -> Step {
    let at_weight = path.key("weight");
    let weight = weight(&raw.weight, &at_weight, cx);
    let hold_ms = hold(&raw.hold, &path.key("hold"), cx);
    let mut step = Step {
        gate: gate(raw.gate),
        early: raw.early.unwrap_or(false),
        min_requests: raw.min_requests.unwrap_or(MIN_REQUESTS),
        criteria: criterion::criteria(raw.criteria.unwrap_or_default(), taken, basis, &path.key("criteria"), cx),
        ..plain_step(weight, hold_ms)
    };
    let at_min = path.key("minHold");
    let at_max = path.key("maxHold");
    let hold_text = quote(&raw.hold.0);
    step.min_hold_ms = cx.duration(&at_min, raw.min_hold.as_ref(), step.min_hold_ms, 0..=MAX_MS);
    step.max_hold_ms = cx.duration(&at_max, raw.max_hold.as_ref(), step.max_hold_ms, 0..=MAX_MS);
    if raw.min_hold.is_some() && step.min_hold_ms > hold_ms {
        cx.push(cx.error(&at_min, "contradiction", format!("`minHold` is longer than `hold`, {hold_text}")).expected("at most `hold`"));
    }
    if raw.max_hold.is_some() && step.max_hold_ms < hold_ms {
        cx.push(cx.error(&at_max, "contradiction", format!("`maxHold` is shorter than `hold`, {hold_text}")).expected("at least `hold`"));
    }
    if raw.min_hold.is_some() && !step.early {
        cx.push(
            cx.warning_at_key(&at_min, "no-effect", "`minHold` has no effect: this stage does not pass early")
                .help("add `early: true`, or leave it out"),
        );
    }
    step
}

fn preset_steps(preset: raw::Preset) -> (Vec<Step>, Option<u64>) {
    let steps = |stages: &[(u16, u64)]| stages.iter().map(|(percent, hold_ms)| plain_step(bps(percent * 100), *hold_ms)).collect();
    match preset {
        raw::Preset::Conservative => (steps(&CONSERVATIVE), Some(24 * HOUR)),
        raw::Preset::Progressive => (steps(&PROGRESSIVE), Some(24 * HOUR)),
        raw::Preset::Linear => ((1..=10).map(|step| plain_step(bps(step * 500), 5 * MINUTE)).collect(), None),
    }
}

fn linear(given: &raw::Linear, path: &Path, cx: &mut Context<'_>) -> Vec<Step> {
    let from = weight(&given.from, &path.key("from"), cx).canary_bps();
    let by = weight(&given.step, &path.key("step"), cx).canary_bps().max(1);
    let to = weight(&given.to, &path.key("to"), cx).canary_bps();
    let hold_ms = hold(&given.every, &path.key("every"), cx);
    if from > to {
        let message = format!("`to` is below `from`, {}", quote(&given.from.0.0));
        cx.push(cx.error(&path.key("to"), "contradiction", message).expected("at least `from`"));
        return Vec::new();
    }
    let count = usize::from((to - from).div_ceil(by)) + 1;
    if count > MAX_STAGES {
        let message = format!("a step of {} makes {count} stages", quote(&given.step.0.0));
        cx.push(cx.error(&path.key("step"), "too-many", message).expected(format!("at most {MAX_STAGES} stages")));
        return Vec::new();
    }
    let rising = (0..).map_while(|index: u16| by.checked_mul(index)?.checked_add(from)).take_while(|weight| *weight < to);
    rising
        .chain([to])
        .map(|weight| Step {
            gate: gate(given.gate),
            early: given.early.unwrap_or(false),
            min_requests: given.min_requests.unwrap_or(MIN_REQUESTS),
            ..plain_step(bps(weight), hold_ms)
        })
        .collect()
}

/// A stage with nothing but defaults.
pub(super) fn plain_step(weight: WeightBps, hold_ms: u64) -> Step {
    Step {
        weights: BTreeMap::from([(EMBEDDED_TARGET.to_owned(), weight)]),
        hold_ms,
        min_hold_ms: MINUTE.min(hold_ms),
        max_hold_ms: hold_ms.saturating_mul(3).max(hold_ms.saturating_add(10 * MINUTE)),
        early: false,
        min_requests: MIN_REQUESTS,
        gate: Gate::Auto,
        criteria: Vec::<Criterion>::new(),
        preview: None,
    }
}

fn weight(given: &raw::Weight, path: &Path, cx: &mut Context<'_>) -> WeightBps {
    bps(cx.take(path, format::weight_bps(&given.0.0), 1))
}

/// Weights here are from parsers and constants that know the range; anything else would be nothing, never everything.
fn bps(weight: u16) -> WeightBps {
    WeightBps::new(weight).unwrap_or(WeightBps::ZERO)
}

fn hold(given: &raw::Duration, path: &Path, cx: &mut Context<'_>) -> u64 {
    cx.given_duration(path, given, MINUTE, 1..=MAX_MS)
}

pub(super) fn gate(given: Option<raw::Gate>) -> Gate {
    match given {
        None | Some(raw::Gate::Auto) => Gate::Auto,
        Some(raw::Gate::Manual) => Gate::Manual,
    }
}

fn short_percent(weight: WeightBps) -> String {
    quote(&weight.to_string().replace(' ', ""))
}
