//! A plan in words: every step and what it changes.

use std::fmt::Write as _;

use serin_core::{
    Unit, format_count, format_value, human_duration,
    plan::{Analysis, Combine, Criterion, Gate, Guard, JudgeKind, MetricSource, OnBreach, Plan, Preview, PreviewCheck, RatioMode, Step},
};
use serin_engine::run::Document;
use serin_spec::validated::{Release, Sticky, Workload};

use super::plain;

/// The plan as text.
pub(crate) fn text(document: &Document) -> String {
    let release = &document.release;
    let plan = &release.plan;
    let mut out = String::new();
    let mut line = |text: String| {
        let _ = writeln!(out, "{}", plain(&text));
    };
    line(format!("{}  (document {}, {})", release.name, release.document_hash, document.name));
    line(format!("about {} if nothing holds it up; nothing is changed by this command", human_duration(plan.expected_duration_ms())));
    line(String::new());
    for (number, (what, changes)) in steps(document).into_iter().enumerate() {
        line(format!("{:>3}  {what}", number + 1));
        for change in changes {
            line(format!("       {change}"));
        }
    }
    line(String::new());
    judged(plan).into_iter().for_each(&mut line);
    line("  a canary that crash-loops, never gets ready or does not respond → rollback".to_owned());
    line("on rollback: all traffic to stable first, then the canary is drained and stopped".to_owned());
    let forecast = super::forecast::lines(plan, super::forecast::replicas(&release.workload));
    if !forecast.is_empty() {
        line(String::new());
        forecast.into_iter().for_each(line);
    }
    out.trim_end().to_owned()
}

/// What is judged all the time, in lines.
pub(super) fn judged(plan: &Plan) -> Vec<String> {
    let mut lines = vec![format!("judged all the time ({}):", describe_judge(&plan.analysis))];
    lines.extend(plan.analysis.criteria.iter().map(|criterion| format!("  {}", describe(criterion))));
    lines.extend(plan.analysis.guards.iter().map(|guard| format!("  {}", describe_guard(guard, plan.analysis.judge))));
    lines
}

/// How long a stage is held and what it must show, in lines.
pub(super) fn holds(step: &Step) -> Vec<String> {
    let mut lines = vec![hold(step)];
    lines.extend(step.criteria.iter().map(|criterion| format!("also {}", describe(criterion))));
    if step.gate == Gate::Manual {
        lines.push("then waits for `serin approve` or `serin reject`".to_owned());
    }
    lines
}

/// The steps with what each changes.
pub(crate) fn steps(document: &Document) -> Vec<(String, Vec<String>)> {
    let release = &document.release;
    let plan = &release.plan;
    let mut steps =
        vec![("preflight".to_owned(), vec!["checks the machine, stable and the proxy; a failed check ends the release here".to_owned()])];
    match &release.workload {
        Workload::Processes(processes) => {
            let command = |arm: &serin_spec::validated::ProcessArm| arm.command.join(" ");
            steps[0].1.push(format!("starts stable: {} × {}", processes.stable.replicas, command(&processes.stable)));
            steps[0].1.push(format!("starts the proxy on {}", release.traffic.listen));
            steps[0].1.extend(processes.load.as_ref().map(|load| format!("then sends traffic: {}", load.command.join(" "))));
            steps.push((
                "deploy the canary at 0 %".to_owned(),
                vec![
                    format!("starts {} × {}", processes.canary.replicas, command(&processes.canary)),
                    format!("ready within {}, else rollback", human_duration(plan.deploy_timeout_ms)),
                ],
            ));
        }
        Workload::External(external) => {
            steps[0].1.push(format!("starts the proxy on {} in front of {}", release.traffic.listen, external.stable.endpoints.join(", ")));
            steps.push(("check the canary at 0 %".to_owned(), vec![format!("servers {}", external.canary.endpoints.join(", "))]));
        }
    }
    for step in &plan.steps {
        if let Some(preview) = &step.preview {
            steps.push(("preview".to_owned(), preview_changes(release, step, preview)));
            continue;
        }
        let mut changes = vec![
            format!("proxy: canary {}, stable {:.4} %", step.weight(), f64::from(step.weight().stable_bps()) / 100.0)
                .replace(".0000 %", " %"),
        ];
        changes.extend(holds(step));
        steps.push((format!("stage at {}", step.weight()), changes));
    }
    let matches = release.traffic.matches.len();
    let first = 2 + plan.steps.iter().take_while(|step| step.is_preview()).count().min(plan.steps.len().saturating_sub(1));
    if matches > 0 && !plan.is_switch() {
        steps[first].1.push(format!("proxy: {matches} match rules send requests to the canary, during stages only"));
    }
    match &release.traffic.sticky {
        Some(Sticky::Cookie(cookie)) => steps[first].1.push(format!("clients keep their version by the cookie {}", cookie.name)),
        Some(Sticky::Header(name)) => steps[first].1.push(format!("clients keep their version by the header {name}")),
        None => {}
    }
    steps.push(if plan.is_switch() {
        let changes =
            ["proxy: canary 100 % at once, read back and seen in its counters; stable stays warm", "the preview address is closed"];
        ("switch".to_owned(), changes.map(str::to_owned).to_vec())
    } else {
        ("promote".to_owned(), vec!["proxy: canary 100 %; stable stays warm".to_owned()])
    });
    if plan.bake_ms > 0 {
        steps.push((
            format!("bake for {}", human_duration(plan.bake_ms)),
            vec!["still measured; one breach and stable serves again".to_owned()],
        ));
        if plan.is_switch()
            && let Some((_, changes)) = steps.last_mut()
        {
            changes.push("no ready replica of the canary, and stable serves again at once".to_owned());
        }
    }
    if plan.retain_ms > 0 {
        steps.push((
            format!("keep the old version for {}", human_duration(plan.retain_ms)),
            vec!["`serin abort` goes back to it".to_owned()],
        ));
    }
    steps.push(("finish".to_owned(), vec!["drains and stops the old version".to_owned()]));
    steps
}

fn preview_changes(release: &Release, step: &Step, preview: &Preview) -> Vec<String> {
    let address = release.traffic.preview.map_or_else(|| "the preview address".to_owned(), |address| address.to_string());
    let mut changes = vec![format!("proxy: {address} leads to the canary; everybody else stays with stable")];
    for PreviewCheck { name, path, status, every_ms, successes, failures, .. } in &preview.checks {
        let expected = status.map_or_else(|| "200 to 399".to_owned(), |status| status.to_string());
        let name = if name == path { String::new() } else { format!("{name}: ") };
        changes.push(format!(
            "{name}GET {path} answers {expected} every {}: {successes} times in a row to pass, {failures} failures in a row → rollback",
            human_duration(*every_ms)
        ));
    }
    let requests = if step.min_requests > 0 { format!(", at least {} requests", format_count(step.min_requests)) } else { String::new() };
    let (hold, most) = (human_duration(step.hold_ms), human_duration(step.max_hold_ms));
    changes.push(format!("looks for {hold} from the proof of the preview{requests}; undecided after {most} → policy"));
    changes.extend(step.criteria.iter().map(|criterion| format!("also {}", describe(criterion))));
    if step.gate == Gate::Manual {
        changes.push("then waits for `serin approve` or `serin reject`".to_owned());
    }
    changes
}

fn hold(step: &Step) -> String {
    let mut text = format!(
        "holds {} from the proof of the weight, at least {} compared requests",
        human_duration(step.hold_ms),
        format_count(step.min_requests)
    );
    if step.early {
        let _ = write!(text, "; may pass after {}", human_duration(step.min_hold_ms));
    }
    let _ = write!(text, "; undecided after {} → policy", human_duration(step.max_hold_ms));
    text
}

fn describe_judge(analysis: &Analysis) -> String {
    match analysis.judge {
        JudgeKind::Sequential(rules) => {
            let share = |share| format_value(share, Unit::Share);
            format!("sequential, alpha {}, beta {}", share(rules.alpha), share(rules.beta))
        }
        JudgeKind::Threshold => {
            format!("threshold, every {} over {}", human_duration(analysis.interval_ms), human_duration(analysis.window_ms))
        }
        JudgeKind::Kayenta(rules) => format!(
            "kayenta, every {}: a score of {} passes, one below {} fails",
            human_duration(rules.interval_ms),
            rules.pass,
            rules.marginal
        ),
    }
}

fn describe(criterion: &Criterion) -> String {
    let unit = criterion.metric.unit();
    let mut limits = Vec::new();
    if let Some(max) = criterion.max {
        limits.push(format!("at most {}", format_value(max, unit)));
    }
    if let Some(min) = criterion.min {
        limits.push(format!("at least {}", format_value(min, unit)));
    }
    if let Some(versus) = criterion.versus_stable {
        let join = if versus.combine == Combine::Both { " and " } else { " or " };
        let mut relative = Vec::new();
        relative.extend(versus.ratio.map(|ratio| format!("more than {ratio}× stable")));
        relative.extend(
            versus.increase.map(|increase| format!("more than {} above stable", format_value(increase, unit).replace(" %", " pp"))),
        );
        let mut not = relative.join(join);
        if let Some(decrease) = versus.decrease {
            not = [not, format!("more than {} below stable", format_value(decrease, Unit::Share))]
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>()
                .join(" or ");
        }
        limits.push(format!("not {not}"));
    }
    let mut patience = String::new();
    if criterion.consecutive > 1 {
        let _ = write!(patience, ", broken {} times in a row", criterion.consecutive);
    }
    if criterion.for_ms > 0 {
        let _ = write!(patience, ", broken for {}", human_duration(criterion.for_ms));
    }
    if let Some(looks) = criterion.cumulative {
        let _ = write!(patience, ", broken {looks} times in a stage");
    }
    // Other judges have no other mode than the first.
    patience += match criterion.mode {
        RatioMode::Limit => "",
        RatioMode::Harm => ", or surely worse than stable",
        RatioMode::Strict => ", surely so",
    };
    let then = match criterion.on_breach {
        OnBreach::Rollback => "rollback",
        OnBreach::Pause => "pause",
        OnBreach::Warn => "warning",
    };
    format!("{}: {} {}{patience} → {then}", criterion.name, criterion.metric.name(), limits.join(", "))
}

fn describe_guard(guard: &Guard, judge: JudgeKind) -> String {
    let limit = format_value(guard.max, guard.metric.unit());
    let how = match guard.metric.source() {
        _ if matches!(judge, JudgeKind::Sequential(_)) && guard.metric.is_evidence() => ", by evidence".to_owned(),
        MetricSource::Traffic => format!(" over {}, from {} requests on", human_duration(guard.window_ms), guard.min_sample),
        MetricSource::External if guard.metric.is_evidence() => format!(" over {}", human_duration(guard.window_ms)),
        MetricSource::Processes | MetricSource::External => ", as last measured".to_owned(),
    };
    format!("{} (guard): {} at most {limit}{how} → rollback at once", guard.name, guard.metric.name())
}

/// The plan as data.
pub(crate) fn json(document: &Document) -> serde_json::Value {
    let plan: &Plan = &document.release.plan;
    let steps: Vec<_> = steps(document).into_iter().map(|(step, changes)| serde_json::json!({"step": step, "changes": changes})).collect();
    serde_json::json!({
        "release": document.release.name,
        "document": document.name,
        "document_hash": document.release.document_hash,
        "expected_duration_ms": plan.expected_duration_ms(),
        "steps": steps,
        "forecast": serin_core::forecast(plan),
        "plan": plan,
    })
}
