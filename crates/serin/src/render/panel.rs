//! The release at a glance: what `run` draws on a terminal and `status` prints.

use serin_core::{format_count, human_duration, judge::Verdict};
use serin_engine::run::{ArmReport, StageState, StatusReport};

use super::{ms_short, plain, share, value_or_dash};

const BAR_CELLS: u64 = 10;

/// The panel's lines.
pub(crate) fn lines(status: &StatusReport, colour: bool) -> Vec<String> {
    let paint = Paint(colour);
    let mut lines = vec![headline(status, &paint), stages(status, &paint), table_head()];
    for (name, arm) in ["stable", "canary"].into_iter().zip(&status.arms) {
        lines.push(row(name, arm));
        lines.extend(arm.status.notes.iter().map(|note| paint.dim(&format!("           {}", plain(note)))));
    }
    for one in &status.criteria {
        let verdict = match one.verdict {
            Verdict::Pass => paint.good("pass"),
            Verdict::Fail | Verdict::Environment => paint.bad(one.verdict.as_str()),
            Verdict::Inconclusive | Verdict::Unknown => paint.dim(one.verdict.as_str()),
        };
        lines.push(format!(" {:<10} {verdict} · {}", plain(&one.name), plain(&one.text)));
    }
    let health = status.health.map_or_else(String::new, |health| format!(" health {health:<3}  "));
    lines.push(format!("{health} waiting: {}", plain(&status.wait.why)));
    if let Some(fault) = &status.store_fault {
        lines.push(paint.bad(&format!(" the journal cannot be written: {}", plain(fault))));
    }
    lines
}

fn headline(status: &StatusReport, paint: &Paint) -> String {
    let place = match status.stage {
        Some(stage) => format!("stage {stage} of {}", status.stages.len()),
        None => status.phase.clone(),
    };
    let measured = status.measured_share.map_or_else(String::new, |share| format!(" (measured {:.1} %)", share * 100.0));
    let paused = if status.paused { paint.bad(" · paused") } else { String::new() };
    let left = if status.left_ms > 0 { format!(" · about {} left", human_duration(status.left_ms)) } else { String::new() };
    let preview = status.preview.as_ref().map_or_else(String::new, |preview| format!("   preview http://{preview}"));
    format!(
        "{}  run {}   {place} · canary {}{measured}{paused}   elapsed {}{left}   {}{preview}",
        paint.strong(&plain(&status.release)),
        status.run,
        status.weight,
        human_duration(status.elapsed_ms),
        // An address, or an object of a cluster.
        if status.listen.contains('/') { plain(&status.listen) } else { format!("http://{}", status.listen) },
    )
}

fn stages(status: &StatusReport, paint: &Paint) -> String {
    let parts: Vec<String> = status
        .stages
        .iter()
        .map(|stage| {
            let title = if stage.preview { "preview".to_owned() } else { stage.weight.to_string() };
            let approval = if stage.manual { " (approval)" } else { "" };
            match stage.state {
                StageState::Done => paint.good(&format!("{title} ✓")),
                StageState::Current => {
                    let cells = (BAR_CELLS * stage.held_ms.min(stage.hold_ms)).checked_div(stage.hold_ms).unwrap_or(BAR_CELLS);
                    let bar: String = (0..BAR_CELLS).map(|cell| if cell < cells { '▓' } else { '░' }).collect();
                    format!("{title} {bar} {} of {}{approval}", human_duration(stage.held_ms), human_duration(stage.hold_ms))
                }
                StageState::Failed => paint.bad(&format!("{title} ✗")),
                StageState::Open => paint.dim(&format!("{title} ○ {}{approval}", human_duration(stage.hold_ms))),
            }
        })
        .collect();
    format!(" {}", parts.join(" ── "))
}

fn table_head() -> String {
    format!(" {:<8}{:>10}{:>10}{:>10}{:>10}{:>8}{:>12}{:>8}", "", "req/s", "errors", "p50", "p99", "cpu", "requests", "ready")
}

fn row(name: &str, arm: &ArmReport) -> String {
    let totals = arm.totals;
    let ready = arm.status.ready.map_or_else(|| "–".to_owned(), |ready| format!("{ready}/{}", arm.status.replicas));
    format!(
        " {name:<8}{:>10}{:>10}{:>10}{:>10}{:>8}{:>12}{ready:>8}",
        format!("{:.1}", arm.requests_per_s),
        value_or_dash(arm.error_share, share),
        value_or_dash(arm.p50_ms, ms_short),
        value_or_dash(arm.p99_ms, ms_short),
        value_or_dash(arm.status.gauges.cpu_percent, |cpu| format!("{cpu:.0} %")),
        format_count(totals.by_weight + totals.matched + totals.preview),
    )
}

/// Colour where it helps; words and signs carry the meaning alone.
struct Paint(bool);

impl Paint {
    fn wrap(&self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn strong(&self, text: &str) -> String {
        self.wrap("1", text)
    }

    fn dim(&self, text: &str) -> String {
        self.wrap("2", text)
    }

    fn good(&self, text: &str) -> String {
        self.wrap("32", text)
    }

    fn bad(&self, text: &str) -> String {
        self.wrap("31", text)
    }
}
