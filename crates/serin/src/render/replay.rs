//! One entry of a journal with the state around it.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use serin_core::{
    Timestamp, WeightBps,
    plan::Plan,
    release::{Effect, Entry, Event, Phase, StageStep, State, Wait, narrate},
};
use serin_engine::store::{ReleaseId, ReleaseRow};

use super::{clock_time_ms, plain};
use crate::output::Output;

/// Longest value of a change that is written out, in characters.
const LONGEST_VALUE: usize = 80;
/// Where effects are, by their number.
const OUTSTANDING: &str = "outstanding.";

/// An entry and the state before and after it.
#[derive(Debug)]
pub(crate) struct Moment<'a> {
    pub(crate) release: ReleaseId,
    /// `None` if the document is not one of this version.
    pub(crate) plan: Option<&'a Plan>,
    pub(crate) entry: &'a Entry,
    pub(crate) before: State,
    pub(crate) after: State,
}

/// Something of the state that an entry changed.
#[derive(Debug, PartialEq)]
struct Change {
    path: String,
    from: Value,
    to: Value,
}

/// Which release it is.
pub(crate) fn header(row: &ReleaseRow) -> String {
    let outcome = row.outcome.as_deref().unwrap_or("not ended");
    plain(&format!("release {}: {} run {} · {outcome} · {}", row.id.0, row.name, row.run, row.document_name))
}

impl Moment<'_> {
    /// The entry in the form that was asked for.
    pub(crate) fn show(&self, output: Output) -> String {
        match output {
            Output::Json => self.json().to_string(),
            Output::Text => self.lines().join("\n"),
        }
    }

    /// The entry with the whole state after it.
    pub(crate) fn state_there(&self, output: Output) -> String {
        match output {
            Output::Json => self.json().to_string(),
            Output::Text => {
                let state = serde_json::to_string_pretty(&self.after).unwrap_or_default();
                // Line by line: what is in it comes from outside.
                let state = state.lines().map(|line| format!("    {}", plain(line)));
                self.lines().into_iter().chain(state).collect::<Vec<_>>().join("\n")
            }
        }
    }

    fn json(&self) -> Value {
        let (title, text) = self.words();
        let changed: Vec<Value> =
            self.changes().into_iter().map(|Change { path, from, to }| json!({"path": path, "from": from, "to": to})).collect();
        json!({
            "type": "replay", "release_id": self.release, "seq": self.entry.seq, "epoch": self.entry.epoch, "at_ms": self.entry.at,
            "event": self.entry.event, "title": title, "text": text, "state": self.after, "changed": changed, "wait": self.wait(),
        })
    }

    fn lines(&self) -> Vec<String> {
        let (title, text) = self.words();
        let Entry { seq, epoch, at, .. } = self.entry;
        let changes: Vec<String> = self.changes().iter().map(Change::words).collect();
        let changes = if changes.is_empty() { "nothing".to_owned() } else { changes.join(", ") };
        let mut lines = vec![
            format!("#{seq}  {}  epoch {epoch}  {title}: {text}", clock_time_ms(*at)).trim_end_matches([' ', ':']).to_owned(),
            format!("    state    {}", state_words(&self.after)),
            format!("    changed  {changes}"),
        ];
        if let Some(wait) = self.wait() {
            let whom = if wait.operator { " (a person has to decide)" } else { "" };
            lines.push(format!("    waits    {}{whom}", wait.why));
        }
        lines.iter().map(|line| plain(line)).collect()
    }

    fn wait(&self) -> Option<Wait> {
        self.plan.map(|plan| Wait::replayed(plan, &self.after))
    }

    /// The event in words; also of the bookkeeping that other views leave out.
    fn words(&self) -> (String, String) {
        let pair = |head: &str, detail: String| (head.to_owned(), detail);
        match &self.entry.event {
            Event::Requested { effect } => pair("effect asked", effect_words(effect)),
            Event::Done { id } => match self.before.outstanding.get(id) {
                Some(effect) => pair("effect done", format!("#{}: {}", id.0, effect_words(effect))),
                None => pair("effect done", format!("#{}, which nobody waits for", id.0)),
            },
            Event::RetainStarted => pair("old version kept", String::new()),
            Event::RetainEnded { .. } => pair("old version no longer kept", String::new()),
            event => self.plan.and_then(|plan| narrate(self.entry, plan)).unwrap_or_else(|| (event_name(event), String::new())),
        }
    }

    fn changes(&self) -> Vec<Change> {
        let value = |state: &State| {
            let mut value = serde_json::to_value(state).unwrap_or_default();
            if let Some(fields) = value.as_object_mut() {
                // Every entry changes these, and they stand in its first line.
                ["seq", "at", "epoch"].iter().for_each(|name| _ = fields.remove(*name));
            }
            value
        };
        let mut changes = Vec::new();
        compare("", &value(&self.before), &value(&self.after), &mut changes);
        changes
    }
}

/// Something that comes or goes is a change of each of its parts; effects stay whole.
fn compare(path: &str, from: &Value, to: &Value, changes: &mut Vec<Change>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let fields = |value: &Value| match value {
        Value::Object(fields) => Some(fields.clone()),
        Value::Null => Some(serde_json::Map::new()),
        _ => None,
    };
    let whole = path.starts_with(OUTSTANDING) || !(from.is_object() || to.is_object());
    match (fields(from), fields(to)) {
        _ if from == to => {}
        (Some(old), Some(new)) if !whole => {
            let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for name in names {
                compare(&below(name), old.get(name).unwrap_or(&Value::Null), new.get(name).unwrap_or(&Value::Null), changes);
            }
        }
        _ => changes.push(Change { path: path.to_owned(), from: from.clone(), to: to.clone() }),
    }
}

impl Change {
    fn words(&self) -> String {
        let value = |value: &Value| {
            let name = self.path.rsplit('.').next().unwrap_or_default();
            let text = match value {
                Value::Null => "–".to_owned(),
                effect if self.path.starts_with(OUTSTANDING) => {
                    serde_json::from_value(effect.clone()).map_or_else(|_| effect.to_string(), |effect| effect_words(&effect))
                }
                Value::String(text) => text.clone(),
                Value::Number(number) => number_words(name, number),
                other => other.to_string(),
            };
            match text.char_indices().nth(LONGEST_VALUE) {
                Some((end, _)) => format!("{}…", &text[..end]),
                None => text,
            }
        };
        format!("{} {} → {}", self.path, value(&self.from), value(&self.to))
    }
}

fn number_words(name: &str, number: &serde_json::Number) -> String {
    let whole = number.as_u64();
    match name {
        "began_at" if whole == Some(0) => Some("–".to_owned()),
        "since" | "began_at" | "ended_at" | "stopped_since" => whole.map(|at| clock_time_ms(Timestamp(at))),
        "asked" | "proven" | "override_weight" => {
            whole.and_then(|bps| WeightBps::new(u16::try_from(bps).ok()?).ok()).map(|weight| weight.to_string())
        }
        _ => None,
    }
    .unwrap_or_else(|| number.to_string())
}

/// What a release's state comes down to.
fn state_words(state: &State) -> String {
    let mut parts = vec![phase_words(&state.phase)];
    for (name, target) in &state.targets {
        let proven = target.proven.map_or_else(|| "not proven".to_owned(), |weight| format!("{weight} proven"));
        let matches = if target.matches { ", with matches" } else { "" };
        let preview = if target.preview { ", with the preview" } else { "" };
        parts.push(format!("{name}: {} asked, {proven}{matches}{preview}", target.asked));
    }
    if !state.outstanding.is_empty() {
        let effects: Vec<String> = state.outstanding.iter().map(|(id, effect)| format!("#{} {}", id.0, effect_words(effect))).collect();
        parts.push(format!("outstanding: {}", effects.join(", ")));
    }
    if let Some(pause) = &state.paused {
        parts.push(format!("paused by {}: {}", pause.by.as_deref().unwrap_or("the release"), pause.reason));
    }
    if let Some(weight) = state.override_weight {
        parts.push(format!("set to {weight} by hand"));
    }
    if let Some(cause) = &state.rollback {
        parts.push(format!("rollback: {}", cause.text));
    }
    parts.join(" · ")
}

fn phase_words(phase: &Phase) -> String {
    match phase {
        Phase::Stage { step, at } => {
            let at = match at {
                StageStep::Shifting => "setting the weight",
                StageStep::Observing { .. } => "measuring",
                StageStep::AwaitingApproval { .. } => "awaiting approval",
            };
            format!("stage {}, {at}", step + 1)
        }
        Phase::Retreated { step, .. } => format!("retreated from stage {}", step + 1),
        Phase::RollingBack { traffic_back: true } => "rolling back, traffic is back".to_owned(),
        Phase::NeedsOperator { was, .. } => format!("needs an operator; was: {}", phase_words(was)),
        other => other.name().to_owned(),
    }
}

fn effect_words(effect: &Effect) -> String {
    match effect {
        Effect::Preflight => "check that the release can start".to_owned(),
        Effect::Deploy => "start the canary".to_owned(),
        Effect::Shift { target, weight, matches, preview } => {
            let beside = [(*matches, " and the matches"), (*preview, " and the preview")];
            let beside: String = beside.iter().filter_map(|(is, words)| is.then_some(*words)).collect();
            format!("give the canary {weight} of {target}{beside}")
        }
        Effect::ReadBack { target } => format!("read {target} back"),
        Effect::Finalize => "make the canary the version that is kept".to_owned(),
        Effect::Retire => "stop the old version".to_owned(),
        Effect::StopCanary => "stop the canary".to_owned(),
    }
}

/// The name that the journal has for it, for events without words of their own.
fn event_name(event: &Event) -> String {
    let value = serde_json::to_value(event).unwrap_or_default();
    value["type"].as_str().unwrap_or("event").replace('-', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_the_leaves_that_differ() {
        let mut changes = Vec::new();
        let before = json!({"a": {"b": 1, "c": {"d": null}}, "same": [1], "outstanding": {"3": "deploy"}});
        let after = json!({"a": {"b": 2, "c": {"d": {"e": 7, "f": null}}}, "same": [1], "asked": 500, "outstanding": {}});
        compare("", &before, &after, &mut changes);
        let words: Vec<String> = changes.iter().map(Change::words).collect();
        assert_eq!(words, ["a.b 1 → 2", "a.c.d.e – → 7", "asked – → 5 %", "outstanding.3 start the canary → –"]);
    }
}
