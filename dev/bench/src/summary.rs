//! What many runs of one cell come to: shares, medians, means and their Monte-Carlo errors.

use std::collections::BTreeMap;

use serde::Serialize;

/// How one run ended for one rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Outcome {
    /// When the rule decided, in seconds; `None` if it did not.
    pub(crate) decided_s: Option<f64>,
    /// Canary requests up to then, or in the whole run.
    pub(crate) requests: f64,
    /// Failed canary requests up to then, or in the whole run.
    pub(crate) failed: f64,
}

impl Outcome {
    /// A decision of which only the fact matters.
    pub(crate) fn of(decided: bool) -> Self {
        Self { decided_s: decided.then_some(0.0), requests: 0.0, failed: 0.0 }
    }

    /// A decision of which only the time matters.
    pub(crate) fn at(decided_s: Option<f64>) -> Self {
        Self { decided_s, requests: 0.0, failed: 0.0 }
    }
}

/// All runs of one rule in one cell.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Tally {
    /// Number of runs.
    pub(crate) runs: usize,
    /// Runs with a decision.
    pub(crate) decided: usize,
    /// Median time to the decision in seconds, undecided runs counting as infinite; `None` if most did not decide.
    pub(crate) median_s: Option<f64>,
    /// Lower end of the 95 % range of the median; `None` if it is infinite.
    pub(crate) median_from_s: Option<f64>,
    /// Upper end of the 95 % range of the median; `None` if it is infinite.
    pub(crate) median_to_s: Option<f64>,
    /// Mean canary requests up to the decision or the end.
    pub(crate) mean_requests: f64,
    /// Mean failed canary requests up to the decision or the end.
    pub(crate) mean_failed: f64,
    /// Standard error of the mean above.
    pub(crate) failed_error: f64,
}

impl Tally {
    /// Sums up runs, in their order.
    pub(crate) fn of(outcomes: impl Iterator<Item = Outcome> + Clone) -> Self {
        let runs = outcomes.clone().count();
        let count = runs.max(1) as f64;
        let mut times: Vec<f64> = outcomes.clone().filter_map(|outcome| outcome.decided_s).collect();
        times.sort_unstable_by(f64::total_cmp);
        let mean_failed = outcomes.clone().map(|outcome| outcome.failed).sum::<f64>() / count;
        let variance = outcomes.clone().map(|outcome| (outcome.failed - mean_failed).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
        // The lower median: with infinities on the other side there is nothing to average with. Its range goes by ranks.
        let middle = runs.saturating_sub(1) / 2;
        let reach = whole(0.98 * count.sqrt());
        Self {
            runs,
            decided: times.len(),
            median_s: times.get(middle).copied(),
            median_from_s: times.get(middle.saturating_sub(reach)).copied(),
            median_to_s: times.get(middle + reach).copied(),
            mean_requests: outcomes.map(|outcome| outcome.requests).sum::<f64>() / count,
            mean_failed,
            failed_error: (variance / count).sqrt(),
        }
    }

    /// Share of runs with a decision, 0 to 1.
    pub(crate) fn share(&self) -> f64 {
        self.decided as f64 / self.runs.max(1) as f64
    }

    /// The range of shares that fit the runs, at 95 % (Wilson).
    pub(crate) fn share_range(&self) -> (f64, f64) {
        share_range(self.decided, self.runs)
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and small")]
fn whole(value: f64) -> usize {
    value.ceil() as usize
}

/// Wilson's 95 % range for a share.
pub(crate) fn share_range(hits: usize, of: usize) -> (f64, f64) {
    const Z: f64 = 1.96;
    let n = of.max(1) as f64;
    let share = hits as f64 / n;
    let centre = share + Z * Z / (2.0 * n);
    let reach = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    (((centre - reach) / scale).max(0.0), ((centre + reach) / scale).min(1.0))
}

/// The runs of one rule in a cell.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Column {
    /// The rule.
    pub(crate) rule: &'static str,
    /// What its runs come to.
    #[serde(flatten)]
    pub(crate) tally: Tally,
}

/// One simulated situation and how each rule did in it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Cell {
    /// The table it belongs to.
    pub(crate) part: &'static str,
    /// What distinguishes it within the table.
    pub(crate) labels: BTreeMap<&'static str, String>,
    /// Every rule.
    pub(crate) columns: Vec<Column>,
    /// Other numbers of the cell, such as bounds.
    pub(crate) values: BTreeMap<&'static str, f64>,
}

impl Cell {
    /// A cell from its runs: the outcomes of all rules, run by run.
    pub(crate) fn new(part: &'static str, labels: &[(&'static str, &str)], rules: &[&'static str], runs: &[Vec<Outcome>]) -> Self {
        let column = |(index, rule): (usize, &&'static str)| Column { rule, tally: Tally::of(runs.iter().map(|run| run[index])) };
        Self {
            part,
            labels: labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
            columns: rules.iter().enumerate().map(column).collect(),
            values: BTreeMap::new(),
        }
    }

    /// The tally of a rule.
    pub(crate) fn rule(&self, name: &str) -> Option<&Tally> {
        self.columns.iter().find(|column| column.rule == name).map(|column| &column.tally)
    }

    /// A label; empty if there is none of that name.
    pub(crate) fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    /// Whether the label has this value.
    pub(crate) fn is(&self, name: &str, value: &str) -> bool {
        self.label(name) == value
    }

    /// Whether the labels `fault` says that nothing is wrong.
    pub(crate) fn is_healthy(&self) -> bool {
        self.is("fault", HEALTHY)
    }
}

/// The value of the label `fault` for two equal arms.
pub(crate) const HEALTHY: &str = "A/A";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undecided_runs_count_as_infinite_in_the_median_and_whole_in_the_means() {
        let outcome = |decided_s, failed| Outcome { decided_s, requests: 10.0, failed };
        let tally = |times: &[Option<f64>]| Tally::of(times.iter().map(|time| outcome(*time, 4.0)));
        assert_eq!(tally(&[Some(5.0), None, Some(1.0)]).median_s, Some(5.0));
        assert_eq!(tally(&[Some(5.0), None, None]).median_s, None);
        let hundred: Vec<Option<f64>> = (1..=100).map(|s| (s <= 60).then_some(f64::from(s))).collect();
        let hundred = tally(&hundred);
        assert_eq!((hundred.median_from_s, hundred.median_s, hundred.median_to_s), (Some(40.0), Some(50.0), Some(60.0)));
        let mixed = Tally::of([outcome(Some(1.0), 1.0), outcome(None, 3.0)].into_iter());
        assert_eq!((mixed.mean_failed, mixed.mean_requests, mixed.decided), (2.0, 10.0, 1));
        assert!((mixed.failed_error - 1.0).abs() < 1e-12);
    }

    #[test]
    fn ranges_hold_what_was_seen() {
        let (low, high) = share_range(10, 1_000);
        assert!(low > 0.005 && low < 0.01 && high > 0.01 && high < 0.02);
        assert_eq!(share_range(0, 100).0, 0.0);
        assert!((share_range(100, 100).1 - 1.0).abs() < 1e-9);
    }
}
