//! What a release would change in a cluster, in words: checks, steps, and every field that changes.

use serde_json::{Value, json};
use serin_core::human_duration;
use serin_kube::{
    api::DECISION,
    outside::{Change, ClusterPlan, Field, Kind, Tried},
};
use serin_spec::validated::ClusterRelease;

use super::{
    end, forecast, plain,
    plan::{holds, judged},
};

/// Characters of a value that are shown; more is in the JSON.
const MOST_CHARACTERS: usize = 160;

/// The plan as text. `source`: what the document is called by.
pub(crate) fn text(source: &str, release: &ClusterRelease, planned: &ClusterPlan) -> String {
    let plan = &release.plan;
    let mut lines = vec![
        format!("{}/{}  (document {}, {source})", planned.namespace, release.name, release.document_hash),
        format!("about {} if nothing holds it up; nothing is changed by this command", human_duration(plan.expected_duration_ms())),
        String::new(),
        "checks:".to_owned(),
    ];
    lines.extend(end::checks(&planned.checks, true));
    lines.push(String::new());
    for (number, (title, notes, changes)) in steps(release, planned).into_iter().enumerate() {
        lines.push(format!("{:>3}  {title}", number + 1));
        lines.extend(changes.iter().flat_map(words).map(|line| format!("       {line}")));
        lines.extend(notes.into_iter().map(|note| format!("       {note}")));
    }
    lines.push(String::new());
    lines.extend(judged(plan));
    lines.push("  a canary that crash-loops, cannot pull its image, cannot be scheduled or never gets ready → rollback".to_owned());
    lines.push("on rollback, from the last stage:".to_owned());
    lines.extend(planned.rollback.iter().flat_map(words).map(|line| format!("       {line}")));
    let forecast = forecast::lines(plan, planned.stable_replicas);
    if !forecast.is_empty() {
        lines.push(String::new());
        lines.extend(forecast);
    }
    let lines: Vec<String> = lines.iter().map(|line| plain(line)).collect();
    lines.join("\n").trim_end().to_owned()
}

/// The plan as data.
pub(crate) fn json(source: &str, release: &ClusterRelease, planned: &ClusterPlan) -> Value {
    let plan = &release.plan;
    let steps: Vec<Value> = steps(release, planned)
        .into_iter()
        .map(|(title, notes, changes)| json!({"step": title, "notes": notes, "changes": changes}))
        .collect();
    json!({
        "release": release.name,
        "namespace": planned.namespace,
        "document": source,
        "document_hash": release.document_hash,
        "possible": planned.is_possible(),
        "expected_duration_ms": plan.expected_duration_ms(),
        "checks": planned.checks,
        "steps": steps,
        "rollback": planned.rollback,
        "forecast": serin_core::forecast(plan),
        "plan": plan,
    })
}

type Shown<'a> = (String, Vec<String>, &'a [Change]);

/// The steps that change something, and the waits between them.
fn steps<'a>(release: &ClusterRelease, planned: &'a ClusterPlan) -> Vec<Shown<'a>> {
    let plan = &release.plan;
    let mut shown = Vec::new();
    for step in &planned.steps {
        let changes = step.changes.as_slice();
        match step.kind {
            Kind::Deploy => {
                let ready = format!("ready within {}, else rollback", human_duration(plan.deploy_timeout_ms));
                shown.push(("deploy the canary at 0 %".to_owned(), vec![ready], changes));
            }
            Kind::Stage(place) => {
                let Some(stage) = plan.steps.get(place) else { continue };
                let notes = holds(stage).into_iter().map(|note| note.replace("`serin ", "`kubectl serin ")).collect();
                shown.push((format!("stage at {}", stage.weight()), notes, changes));
            }
            Kind::Promote => {
                let notes = vec!["stable stays as it is, to go back to".to_owned()];
                shown.push(("promote".to_owned(), notes, changes));
                if plan.bake_ms > 0 {
                    let notes = vec!["still measured; one breach and stable serves again".to_owned()];
                    shown.push((format!("bake for {}", human_duration(plan.bake_ms)), notes, &[]));
                }
                if plan.retain_ms > 0 {
                    let notes = vec!["`kubectl serin rollback` goes back to it".to_owned()];
                    shown.push((format!("keep the old version for {}", human_duration(plan.retain_ms)), notes, &[]));
                }
            }
            Kind::Retire => {
                let notes = vec!["in this order; each waits until the one before has taken effect".to_owned()];
                shown.push(("finish: stable becomes what was judged, and gets all traffic".to_owned(), notes, changes));
            }
        }
    }
    shown
}

fn words(change: &Change) -> Vec<String> {
    let mut lines = vec![change.object.clone()];
    lines.extend(change.fields.iter().map(|one| format!("  {}", field(one))));
    match &change.server {
        Tried::Accepts => {}
        Tried::Changes(beside) => {
            lines.push("  the API server would change beside:".to_owned());
            lines.extend(beside.iter().map(|one| format!("    {}", field(one))));
        }
        Tried::Refuses(why) => lines.push(format!("  THE API SERVER WOULD REFUSE: {why}")),
        Tried::Unknown(why) => lines.push(format!("  not tried by the API server: {why}")),
    }
    lines
}

fn field(field: &Field) -> String {
    // What the note says is for controllers; that it is there is for people.
    if field.path.contains(DECISION) {
        return format!("{}: says which decision of which release the weights are", field.path);
    }
    match (&field.before, &field.after) {
        (Some(before), Some(after)) => format!("{}: {} → {}", field.path, value(before), value(after)),
        (None, Some(after)) => format!("{}: added {}", field.path, value(after)),
        (Some(before), None) => format!("{}: removed (was {})", field.path, value(before)),
        (None, None) => field.path.clone(),
    }
}

fn value(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= MOST_CHARACTERS { text } else { text.chars().take(MOST_CHARACTERS).chain(['…']).collect() }
}
