//! What people and machines are told.

use std::{fmt::Write as _, time::Duration};

use serde::Serialize;

use crate::{
    campaign::Results,
    rules::{Broken, End},
    scenario::{Cut, Scenario},
    shrink, world,
};

/// Broken seeds that are listed.
const MOST_LISTED: usize = 10;
/// The longest line of a transcript, in characters.
const LONGEST_LINE: usize = 240;

/// What `--json` prints.
#[derive(Serialize)]
struct Document<'a> {
    first_seed: u64,
    releases: u64,
    seconds: f64,
    releases_per_second: f64,
    threads: usize,
    fingerprint: String,
    succeeded: u64,
    rolled_back: u64,
    refused: u64,
    simulated_hours: u64,
    events: u64,
    entries: u64,
    crashes: u64,
    commands: u64,
    broken: Vec<BrokenSeed<'a>>,
}

#[derive(Serialize)]
struct BrokenSeed<'a> {
    seed: u64,
    rule: &'a str,
    detail: &'a str,
}

/// The results as one JSON document.
pub(crate) fn json(from: u64, results: &Results, took: Duration, threads: usize) -> serde_json::Result<String> {
    let ended = |end| results.ends.get(&end).copied().unwrap_or(0);
    let seconds = took.as_secs_f64();
    serde_json::to_string_pretty(&Document {
        first_seed: from,
        releases: results.releases,
        seconds,
        releases_per_second: results.releases as f64 / seconds,
        threads,
        fingerprint: format!("{:016x}", results.hash),
        succeeded: ended(End::Succeeded),
        rolled_back: ended(End::RolledBack),
        refused: ended(End::Refused),
        simulated_hours: results.counted.ms / 3_600_000,
        events: results.counted.events,
        entries: results.counted.entries,
        crashes: results.counted.crashes,
        commands: results.counted.commands,
        broken: results.broken.iter().map(|(seed, broken)| BrokenSeed { seed: *seed, rule: broken.rule, detail: &broken.detail }).collect(),
    })
}

/// The results in words.
pub(crate) fn words(from: u64, results: &Results, took: Duration, threads: usize) -> String {
    let counted = &results.counted;
    let ended = |end| results.ends.get(&end).copied().unwrap_or(0);
    let seconds = took.as_secs_f64();
    let mut text = format!(
        "{} releases from seed {from} in {seconds:.1} s: {:.0} releases/s on {threads} threads, fingerprint {:016x}\n",
        results.releases,
        results.releases as f64 / seconds,
        results.hash
    );
    let (succeeded, rolled_back, refused) = (ended(End::Succeeded), ended(End::RolledBack), ended(End::Refused));
    let _ =
        writeln!(text, "ended: {succeeded} succeeded, {rolled_back} rolled back, {refused} refused; {} broke a rule", results.broken.len());
    let _ = writeln!(
        text,
        "simulated: {} days, {} events, {} entries, {} effects, {} crashes, {} commands",
        counted.ms / 86_400_000,
        counted.events,
        counted.entries,
        counted.effects,
        counted.crashes,
        counted.commands
    );
    let on_the_way = world::MILESTONES.iter().zip(counted.milestones).map(|(name, count)| format!("{count} {name}"));
    let _ = writeln!(text, "on the way: {}", on_the_way.collect::<Vec<_>>().join(", "));
    text
}

/// The broken seeds; the first of them cut down and told.
pub(crate) fn broken(results: &Results) -> String {
    let mut text = String::new();
    for (seed, broken) in results.broken.iter().take(MOST_LISTED) {
        let _ = writeln!(text, "seed {seed}: {}", clipped(&broken.to_string()));
    }
    let more = results.broken.len().saturating_sub(MOST_LISTED);
    if more > 0 {
        let _ = writeln!(text, "and {more} more");
    }
    if let Some((seed, broken)) = results.broken.first_key_value() {
        let (cut, broken) = shrink::shrink(*seed, broken);
        text += &story(*seed, cut, Some(&broken)).0;
    }
    text
}

/// What happened in one run, and how to see it again; with whether every rule held in it.
pub(crate) fn story(seed: u64, cut: Cut, broken: Option<&Broken>) -> (String, bool) {
    let scenario = Scenario::new(seed, cut);
    let kinds: Vec<String> = scenario.kinds().iter().map(|kind| format!("{kind:?}")).collect();
    let outcome = world::live(scenario, true);
    let mut text = format!("\nseed {seed} with {}, {} % of its bad time\n", kinds.join(", "), cut.horizon_percent);
    for line in &outcome.story {
        let _ = writeln!(text, "{}", clipped(line));
    }
    let end = match (&outcome.end, broken) {
        (Err(found), _) | (_, Some(found)) => format!("broken: {}", clipped(&found.to_string())),
        (Ok(end), None) => format!("no rule is broken: {end:?}"),
    };
    let _ = writeln!(text, "{end}");
    let _ = writeln!(text, "again: cargo xtask simulate {}", arguments(seed, cut, &kinds.join(",")));
    (text, outcome.end.is_ok())
}

/// The arguments that lead to the same run, also if no kind of fault is left.
fn arguments(seed: u64, cut: Cut, kinds: &str) -> String {
    let cut = if cut == Cut::NONE { String::new() } else { format!(" --only={kinds} --horizon {}", cut.horizon_percent) };
    format!("--seed {seed}{cut}")
}

fn clipped(line: &str) -> String {
    match line.char_indices().nth(LONGEST_LINE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{Args, allowed, scenario::Kinds};

    #[test]
    fn the_way_to_a_run_leads_to_it() {
        let scenario = Scenario::new(1, Cut::NONE);
        let kind = scenario.kinds()[0];
        for cut in
            [Cut::NONE, Cut { allowed: Kinds::NONE, horizon_percent: 75 }, Cut { allowed: Kinds::NONE.with(kind), horizon_percent: 100 }]
        {
            let kinds: Vec<String> = Scenario::new(1, cut).kinds().iter().map(|kind| format!("{kind:?}")).collect();
            let line = arguments(1, cut, &kinds.join(","));
            let args = Args::try_parse_from(std::iter::once("serin-simulate").chain(line.split(' '))).unwrap();
            assert_eq!((args.seed, args.horizon), (Some(1), cut.horizon_percent), "{line}");
            assert_eq!(allowed(args.only.as_deref()).unwrap(), cut.allowed, "{line}");
        }
    }
}
