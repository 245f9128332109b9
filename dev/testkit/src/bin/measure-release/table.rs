//! The results as Markdown, with what was aimed at.

use std::fmt::Write as _;

use crate::{
    Results,
    equals::{self, Equal, EqualRun},
    faults::{Fault, Found},
};

/// From the decision to the proof: 50 ms, and one tick of the data plane.
const SWITCH_TARGET_MS: u64 = 100;

/// What the numbers are, for people who read nothing else.
const INTRODUCTION: &str = "\
# Real releases under the sequential judge

Made by `cargo xtask bench release`, whose output this is. Every line is made of real releases on one machine: a release with its own proxy,
processes and load, nothing simulated; so numbers differ from run to run. The traffic is 200 requests per second in Poisson arrivals, the
canary's weight 5 % (10 requests per second), and 0.5 % of stable's requests fail. Stable has three replicas and is seen alone for five
seconds before the canary, which is bad from its first request on, is ready. Criteria are the default ones unless the line says otherwise: in
`mode: limit` a canary is rolled back if it is surely worse *and* beyond 1.5 times stable (errors also 0.5 percentage points), in `mode: harm`
if it is surely worse.

- *Failed* are requests of the canary that count as errors, those after the decision included. A request whose connection breaks before the
  answer began is answered by stable in the canary's stead; *seen by users* are the other failures: answers of the canary that are errors, and
  answers that break off.
- *Canary requests* are those that have ended: requests that hang are not among them.
- *s to the proof of weight 0*: from the proof that the canary has traffic to the proof that it has none.
- Equal versions go through 60 stages of five seconds with `onInconclusive: advance`, too short to decide anything; what speaks against the
  canary adds up over all of them.
";

/// The tables, and whether every target was reached.
pub(crate) fn render(faults: &[&'static Fault], results: &Results, runs: u32, jobs: u32) -> (String, bool) {
    let mut text = String::new();
    let mut is_ok = true;
    // Writing into a String cannot fail.
    let _ =
        writeln!(text, "{INTRODUCTION}\nThis run: {runs} releases per fault, {jobs} at the same time (`--runs {runs} --jobs {jobs}`).\n");
    let _ = writeln!(
        text,
        "| fault | found | by | failed canary requests, median (max) | seen by users, median (max) | canary requests, median (max) | \
         s to the proof of weight 0, median (max) | target | result |"
    );
    let _ = writeln!(text, "|---|---|---|---|---|---|---|---|---|");
    let mut switched: Vec<u64> = Vec::new();
    for (index, fault) in faults.iter().enumerate() {
        let found: Vec<&Found> = results.faults.iter().filter(|(of, _)| *of == index).filter_map(|(_, found)| found.as_ref()).collect();
        switched.extend(found.iter().map(|found| found.switched_ms));
        let (row, reached) = row(fault, &found, runs);
        is_ok &= reached;
        let _ = writeln!(text, "{row}");
    }
    if let (Some(median), Some(max)) = (median(switched.iter().map(|ms| *ms as f64)), switched.iter().max()) {
        let in_time = switched.iter().filter(|ms| **ms <= SWITCH_TARGET_MS).count();
        let reached = in_time * 100 >= switched.len() * 99;
        is_ok &= reached;
        let of = switched.len();
        let _ = writeln!(
            text,
            "\nFrom the decision to the proof that the canary has no traffic, in {of} releases: median {median:.0} ms, max {max} ms, \
             {in_time} within {SWITCH_TARGET_MS} ms; target 99 of 100: {}.",
            word(reached)
        );
    }
    if !results.equals.is_empty() {
        let _ = writeln!(text, "\n| equal versions | stages | failed, stable | failed, canary | retreats | result |");
        let _ = writeln!(text, "|---|---|---|---|---|---|");
    }
    for equal in equals::EQUALS {
        let Some((_, run)) = results.equals.iter().find(|(of, _)| of.name == equal.name) else { continue };
        let (row, reached) = equal_row(equal, run.as_ref());
        is_ok &= reached;
        let _ = writeln!(text, "{row}");
    }
    (text.trim_end().to_owned(), is_ok)
}

fn row(fault: &Fault, found: &[&Found], runs: u32) -> (String, bool) {
    let rightly = found.iter().filter(|one| fault.by.contains(&one.by.as_str())).count();
    let naming = found.iter().filter(|one| one.cause.contains(fault.says)).count();
    let failed = spread(found.iter().map(|one| one.failed as f64), 0);
    let users = spread(found.iter().map(|one| one.user_visible as f64), 0);
    let requests = spread(found.iter().map(|one| one.requests as f64), 0);
    let seconds = spread(found.iter().map(|one| one.seconds), 1);
    let mut names: Vec<&str> = found.iter().map(|one| one.by.as_str()).collect();
    names.sort_unstable();
    let by: Vec<String> = names.chunk_by(PartialEq::eq).map(|same| format!("{} {}", same[0], same.len())).collect();
    let median_failed = median(found.iter().map(|one| one.failed as f64));
    let is_found = rightly == runs as usize;
    let is_cheap = fault.target.is_none_or(|target| median_failed.is_some_and(|median| median <= target as f64));
    let target = fault.target.map_or_else(|| "all found".to_owned(), |target| format!("all found, median <= {target} failed"));
    let says = if fault.says.is_empty() { String::new() } else { format!(", {naming} by the name {}", fault.says) };
    let name = fault.name;
    let by = by.join(", ");
    let reached = word(is_found && is_cheap);
    (
        format!("| {name} | {rightly} of {runs}{says} | {by} | {failed} | {users} | {requests} | {seconds} | {target} | {reached} |"),
        is_found && is_cheap,
    )
}

fn equal_row(equal: &Equal, run: Option<&EqualRun>) -> (String, bool) {
    let Some(run) = run else { return (format!("| {} | | | | | broke off: short |", equal.name), false) };
    let [stable, canary] = run.seen.map(|(failed, all)| format!("{failed} of {all}"));
    let result = match &run.cause {
        Some(cause) => format!("rolled back: short ({cause})"),
        None if run.succeeded => "no rollback: ok".to_owned(),
        None => "did not end: short".to_owned(),
    };
    (format!("| {} | {} | {stable} | {canary} | {} | {result} |", equal.name, run.stages, run.retreats), run.succeeded)
}

fn word(reached: bool) -> &'static str {
    if reached { "ok" } else { "short" }
}

fn spread(values: impl Iterator<Item = f64> + Clone, digits: usize) -> String {
    match (median(values.clone()), values.reduce(f64::max)) {
        (Some(median), Some(max)) => format!("{median:.digits$} ({max:.digits$})"),
        _ => "-".to_owned(),
    }
}

/// The middle value, or the mean of the two in the middle.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let (low, high) = (values.len().checked_sub(1)? / 2, values.len() / 2);
    Some(f64::midpoint(values[low], values[high]))
}
