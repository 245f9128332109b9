//! The forecast in words: what the expected traffic can decide in each stage.

use serin_core::{
    Unit,
    forecast::{Against, Estimate, Fault, GoodCanary, Pass, StageForecast, TestForecast, Within},
    format_count, format_value, human_duration,
    plan::{Metric, Plan},
};
use serin_spec::validated::Workload;
use serin_stats::{BLOCK_MS, LEAST_BLOCKS, LEAST_PODS};

/// How long it takes until an excess has been seen in as many blocks as an alarm needs.
const BLOCKS_MS: u64 = BLOCK_MS * (LEAST_BLOCKS as u64 - 1);

/// The forecast's lines; none for judges that have no forecast. `replicas`: those of stable.
pub(crate) fn lines(plan: &Plan, replicas: usize) -> Vec<String> {
    let stages = serin_core::forecast(plan);
    if stages.is_empty() {
        return Vec::new();
    }
    let mut lines = vec!["what the expected traffic can decide (rough: half or twice the time is common):".to_owned()];
    let mut remarks = Vec::new();
    match plan.analysis.expect.rps {
        _ if plan.sticky => remarks.push("sticky traffic is judged by client: read clients for requests; there are no times".to_owned()),
        None => remarks.push("add analysis.expect.rps to see times".to_owned()),
        Some(_) => {}
    }
    remarks.extend(assumptions(&stages));
    lines.extend(remarks.into_iter().map(|remark| format!("  {remark}")));
    let is_single = replicas < LEAST_PODS;
    let latency = |test: &TestForecast| is_latency(test.metric) && test.against == Against::Stable;
    if stages.iter().flat_map(|stage| &stage.tests).any(latency) {
        lines.push("  latencies are assumed to spread like a p99 of six times the median; a wider spread takes longer".to_owned());
        if is_single {
            lines.push(format!(
                "  stable has fewer than {LEAST_PODS} replicas, so that a pause of one looks like slowness: latency against stable needs an excess in {LEAST_BLOCKS} separate 10 s blocks"
            ));
        }
    }
    let mut before = Vec::new();
    for stage in &stages {
        let tests: Vec<String> = stage.tests.iter().flat_map(|one| test(one, is_single)).collect();
        let head = head(plan, stage);
        if tests.is_empty() {
            lines.push(format!("  {head} nothing to judge by"));
        } else if tests == before {
            lines.push(format!("  {head} the same"));
        } else {
            lines.push(format!("  {head}"));
            lines.extend(tests.iter().map(|line| format!("    {line}")));
        }
        before = tests;
    }
    lines
}

/// Rates of stable that nobody declared.
fn assumptions(stages: &[StageForecast]) -> Option<String> {
    let tests = stages.iter().flat_map(|stage| &stage.tests);
    let mut assumed: Vec<(&str, f64)> = tests
        .filter_map(|test| test.stable_rate.filter(|stable| stable.is_assumed).map(|stable| (test.metric.name(), stable.rate)))
        .collect();
    assumed.sort_by(|a, b| a.0.cmp(b.0));
    assumed.dedup();
    let words: Vec<String> = assumed.iter().map(|(metric, rate)| format!("stable's {metric} to be {}", share(*rate))).collect();
    (!words.is_empty()).then(|| format!("assumes {}; say what it is with `expect`", words.join(" and ")))
}

fn head(plan: &Plan, stage: &StageForecast) -> String {
    let name = stage.stage.map_or_else(|| "bake at 100 %".to_owned(), |_| format!("stage at {}", stage.weight));
    let traffic = match (stage.canary_rps, plan.analysis.expect.rps) {
        (Some(_), Some(rps)) => format!(", {} × {}", format_value(rps, Unit::PerSecond), stage.weight),
        _ => String::new(),
    };
    let mut head = format!("{name}{traffic}, held {} and at most {}:", human_duration(stage.hold_ms), human_duration(stage.max_hold_ms));
    if let (Some(Within::Neither | Within::MaxHold), Some(after_ms)) = (stage.least_requests.within, stage.least_requests.after_ms) {
        head.push_str(&format!(" its {} requests take {}", format_count(stage.least_requests.requests), about_time(after_ms)));
    }
    head
}

/// `is_single`: too few replicas of stable to tell a pause of one from slowness.
fn test(test: &TestForecast, is_single: bool) -> Vec<String> {
    let name = name(test);
    if let Some(why) = &test.unforeseen {
        return vec![format!("{name}: no forecast, {why}")];
    }
    if let Some(earliest_ms) = test.earliest_ms {
        return vec![format!("{name}: decided after {} at the earliest", about_time(earliest_ms).trim_start_matches("about "))];
    }
    let in_time = |needs: &Estimate| needs.within != Some(Within::Neither);
    let soonest_ms = if is_single && is_latency(test.metric) && test.against == Against::Stable { BLOCKS_MS } else { 0 };
    let found = test.faults.iter().filter_map(|fault| {
        let needs = fault.needs.filter(in_time)?;
        let needs = Estimate { after_ms: needs.after_ms.map(|after_ms| after_ms.max(soonest_ms)), ..needs };
        Some(format!("{} {}", size(test, fault), takes(&needs)))
    });
    let outage = match test.least_failures {
        Some(least) if !is_latency(test.metric) => Some(format!("an outage {} failures", format_count(least.into()))),
        _ => None,
    };
    let mut parts: Vec<String> = found.chain(outage).collect();
    parts.extend(
        test.passes.iter().filter(|pass| in_time(&pass.needs)).map(|pass| format!("{} passes: {}", canary(*pass), takes(&pass.needs))),
    );
    let mut lines = vec![format!("{name}: {}", parts.join("; "))];
    if parts.is_empty() {
        lines.clear();
    }
    let prefix = if lines.is_empty() { format!("{name}: ") } else { "  ".to_owned() };
    let late: Vec<String> = test
        .faults
        .iter()
        .filter_map(|fault| fault.needs.filter(|needs| !in_time(needs)).map(|needs| format!("{} ({})", size(test, fault), time(&needs))))
        .collect();
    let stuck = test.passes.iter().filter(|pass| !in_time(&pass.needs));
    let stuck: Vec<String> = stuck.map(|pass| format!("a pass of {} ({})", canary(*pass), time(&pass.needs))).collect();
    if !late.is_empty() || !stuck.is_empty() {
        let what = late.into_iter().chain(stuck).collect::<Vec<_>>().join(" and ");
        lines.push(format!("{prefix}{what} cannot be decided within this stage; make it longer or heavier"));
    }
    let tolerated: Vec<String> = test.faults.iter().filter(|fault| fault.needs.is_none()).map(|fault| size(test, fault)).collect();
    if !tolerated.is_empty() {
        lines.push(format!("  {} is within the limit: no rollback", tolerated.join(" and ")));
    }
    lines
}

fn name(test: &TestForecast) -> String {
    let guard = if test.is_guard { " (guard)" } else { "" };
    let against = match test.against {
        Against::Limit(max) => format!(", at most {}", format_value(max, test.metric.unit())),
        Against::Stable => String::new(),
    };
    format!("{}{guard}{against}", test.criterion)
}

/// The size of a fault: `2× errors at 0.5 %`, `1.5× slower`, `10 %`, `2 % slower than that`.
fn size(test: &TestForecast, fault: &Fault) -> String {
    let times = fault.times;
    match (test.against, test.metric) {
        (Against::Stable, metric) if is_latency(metric) => format!("{times}× slower"),
        (Against::Stable, metric) => {
            let rate = test.stable_rate.map(|stable| format!(" at {}", share(stable.rate))).unwrap_or_default();
            let what = match metric {
                Metric::ServerErrorRate => "5xx",
                Metric::ClientErrorRate => "4xx",
                _ => "errors",
            };
            format!("{times}× {what}{rate}")
        }
        (Against::Limit(_), Metric::Latency(quantile)) => format!("{} slower than that", share(times * (1.0 - quantile.q()))),
        (Against::Limit(max), _) => share(times * max),
    }
}

fn canary(pass: Pass) -> &'static str {
    match pass.canary {
        GoodCanary::Equal => "an equal canary",
        GoodCanary::HalfOfLimit => "a canary at half of the limit",
        GoodCanary::Clean => "a clean canary",
    }
}

/// `about 5 min`, or what is known without a rate; `about 12 min, beyond the hold`.
fn takes(needs: &Estimate) -> String {
    let beyond = if needs.within == Some(Within::MaxHold) { ", beyond the hold" } else { "" };
    format!("{}{beyond}", time(needs))
}

fn time(needs: &Estimate) -> String {
    needs.after_ms.map_or_else(|| format!("about {} requests", about_count(needs.requests)), about_time)
}

/// A time that is only an estimate, to two digits or so.
fn about_time(ms: u64) -> String {
    let seconds = ms.div_ceil(1_000).max(1);
    match seconds {
        0..20 => format!("about {seconds} s"),
        20..120 => format!("about {} s", seconds.div_ceil(5) * 5),
        120..7_200 => format!("about {} min", seconds.div_ceil(60)),
        7_200..172_800 => format!("about {} h", seconds.div_ceil(3_600)),
        _ => format!("about {} days", format_count(seconds.div_ceil(86_400))),
    }
}

fn about_count(requests: u64) -> String {
    let digits = requests.max(1).ilog10();
    let step = 10_u64.pow(digits.saturating_sub(1));
    format_count(requests.div_ceil(step).saturating_mul(step))
}

fn share(value: f64) -> String {
    format_value(value, Unit::Share)
}

fn is_latency(metric: Metric) -> bool {
    matches!(metric, Metric::Latency(_) | Metric::LatencyAny)
}

pub(crate) fn replicas(workload: &Workload) -> usize {
    match workload {
        Workload::Processes(processes) => processes.stable.replicas as usize,
        Workload::External(external) => external.stable.endpoints.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_have_two_digits_or_so() {
        for (ms, expected) in [
            (0, "about 1 s"),
            (7_400, "about 8 s"),
            (61_000, "about 65 s"),
            (290_000, "about 5 min"),
            (7_200_000, "about 2 h"),
            (864_000_000, "about 10 days"),
            (u64::MAX, "about 213,503,982,335 days"),
        ] {
            assert_eq!(about_time(ms), expected);
        }
        for (requests, expected) in [(0, "0"), (9, "9"), (101, "110"), (12_345, "13,000")] {
            assert_eq!(about_count(requests), expected);
        }
    }
}
