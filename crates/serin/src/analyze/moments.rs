//! Rows of one time as an observation.
//!
//! Rows of both arms with the same time are one observation; several of one arm add up. Where no row says the weight, it is
//! the share that was realised (ANALYSIS 2.2), in basis points, and rows without a counterpart of the other arm are not
//! compared: they count for absolute limits only.

use serin_core::{
    Timestamp, WeightBps,
    traffic::{Arm, ArmGauges, Assignment, Counts, Observation, TrafficCell, by_arm},
};
use serin_stats::Share;

use super::{BadData, Rows, row::Row};

/// The rows of a time.
#[derive(Debug, Clone)]
pub(crate) struct Moment {
    /// For the judge.
    pub(crate) observation: Observation,
    /// The weight that the rows say.
    pub(crate) declared: Option<WeightBps>,
    /// The weight that is judged with.
    pub(crate) weight: WeightBps,
}

/// The moments of a file.
pub(crate) struct Moments {
    rows: Rows,
    /// The first row of the next moment.
    next: Option<(u64, Row)>,
    /// The criterion that needs the number of 4xx answers.
    needs_client_errors: Option<String>,
    gauges: [ArmGauges; 2],
    rows_read: u64,
}

impl Moments {
    /// Moments of rows. `needs_client_errors`: the name of a criterion that cannot be judged without.
    pub(crate) fn new(rows: Rows, needs_client_errors: Option<String>) -> Self {
        Self { rows, next: None, needs_client_errors, gauges: Default::default(), rows_read: 0 }
    }

    /// Rows read so far.
    pub(crate) fn rows_read(&self) -> u64 {
        self.rows_read
    }

    /// The next moment; `None` at the end.
    ///
    /// # Errors
    /// If a row is wrong, earlier than the one before, or of another weight than the others of its time.
    pub(crate) fn next(&mut self) -> Result<Option<Moment>, BadData> {
        let first = match self.next.take() {
            Some(first) => Some(first),
            None => self.read(None)?,
        };
        let Some((line, first)) = first else { return Ok(None) };
        let at = first.at;
        let mut counts: [Counts; 2] = Default::default();
        let mut declared = first.weight.map(|weight| (line, weight));
        self.add(&mut counts, &first);
        while let Some((line, row)) = self.read(Some(at))? {
            if row.at > at {
                self.next = Some((line, row));
                break;
            }
            match (declared, row.weight) {
                (Some((before, one)), Some(other)) if one != other => {
                    return Err(self.rows.bad(format!(
                        "the weight is {other}, but line {before} of the same time says {one}; expected one weight at a time"
                    )));
                }
                (None, Some(weight)) => declared = Some((line, weight)),
                _ => {}
            }
            self.add(&mut counts, &row);
        }
        Ok(Some(moment(at, counts, declared.map(|(_, weight)| weight), self.gauges)))
    }

    fn read(&mut self, not_before: Option<Timestamp>) -> Result<Option<(u64, Row)>, BadData> {
        let Some((line, row)) = self.rows.next()? else { return Ok(None) };
        if not_before.is_some_and(|before| row.at < before) {
            return Err(self.rows.bad("`at` is earlier than in the row before; expected rows in the order of time".to_owned()));
        }
        if let Some(criterion) = self.needs_client_errors.as_ref().filter(|_| !row.has_client_errors) {
            return Err(self.rows.bad(format!("`clientErrors` is missing; the criterion `{criterion}` looks at 4xx answers")));
        }
        self.rows_read = self.rows_read.saturating_add(1);
        Ok(Some((line, row)))
    }

    /// Adds up counts. A gauge stands until the next one.
    fn add(&mut self, counts: &mut [Counts; 2], row: &Row) {
        counts[row.arm.index()].merge(&row.counts);
        let gauges = &mut self.gauges[row.arm.index()];
        gauges.cpu_percent = row.cpu_percent.or(gauges.cpu_percent);
        gauges.memory_bytes = row.memory_bytes.or(gauges.memory_bytes);
    }
}

fn moment(at: Timestamp, counts: [Counts; 2], declared: Option<WeightBps>, gauges: [ArmGauges; 2]) -> Moment {
    let [stable, canary] = by_arm(|arm| counts[arm.index()].requests());
    let weight = declared.unwrap_or_else(|| realised(canary, stable));
    let is_split = !weight.is_zero() && weight != WeightBps::FULL;
    // Nobody had a choice at these weights.
    let assignment = if is_split { Assignment::Random } else { Assignment::Forced };
    let cells = Arm::BOTH.into_iter().zip(counts).filter(|(_, counts)| counts.all() > 0);
    let cells = cells.map(|(arm, counts)| TrafficCell { weight, arm, assignment, counts, sessions: None }).collect();
    Moment { observation: Observation { at, cells, gauges, ..Observation::default() }, declared, weight }
}

/// The canary's share of the requests. What both arms had is never rounded to nothing or everything.
fn realised(canary: u64, stable: u64) -> WeightBps {
    let Some(share) = Share::realised(canary, stable) else {
        return if canary > 0 { WeightBps::FULL } else { WeightBps::ZERO };
    };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 1 and 9,999")]
    let bps = (share.get() * 10_000.0).round().clamp(1.0, 9_999.0) as u16;
    WeightBps::new(bps).unwrap_or(WeightBps::ZERO)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Format, Lines},
        *,
    };

    fn moments(text: &str) -> Moments {
        let lines = Lines::new("data".to_owned(), Box::new(std::io::Cursor::new(text.to_owned().into_bytes())));
        Moments::new(Rows::new(lines, Format::Csv), None)
    }

    fn all(text: &str) -> Result<Vec<Moment>, BadData> {
        let mut moments = moments(text);
        let mut found = Vec::new();
        while let Some(moment) = moments.next()? {
            found.push(moment);
        }
        Ok(found)
    }

    #[test]
    fn rows_of_one_time_are_one_observation() {
        let found =
            all("at,arm,requests,errors,errorClass\n1,stable,95,0,\n1,canary,4,1,a\n1,canary,1,1,a\n2,stable,10,0,\n3,canary,5,0,\n")
                .unwrap();
        let seen: Vec<_> =
            found.iter().map(|moment| (moment.observation.at.0, moment.weight.canary_bps(), moment.observation.cells.len())).collect();
        assert_eq!(seen, [(1_000, 500, 2), (2_000, 0, 1), (3_000, 10_000, 1)]);
        assert_eq!(found[0].observation.counts(Arm::Canary, |_| true).error_classes["a"], 2);
        assert!(found[0].observation.cells.iter().all(|cell| cell.assignment == Assignment::Random));
        assert!(found[1..].iter().all(|moment| moment.observation.cells[0].assignment == Assignment::Forced && moment.declared.is_none()));
    }

    #[test]
    fn a_declared_weight_needs_no_counterpart() {
        let found = all("at,arm,weight,requests,errors\n1,stable,5,1,0\n2,canary,5%,1,0\n").unwrap();
        assert!(
            found.iter().all(|moment| moment.weight.canary_bps() == 500 && moment.observation.cells[0].assignment == Assignment::Random)
        );
    }

    #[test]
    fn rows_out_of_order_and_two_weights_at_a_time_are_errors() {
        let error = all("at,arm,requests,errors\n2,stable,1,0\n\n1,canary,1,0\n").unwrap_err().to_string();
        assert_eq!(error, "data:4: `at` is earlier than in the row before; expected rows in the order of time");
        let error = all("at,arm,weight,requests,errors\n2,stable,5,1,0\n2,canary,6,1,0\n").unwrap_err().to_string();
        assert_eq!(error, "data:3: the weight is 6 %, but line 2 of the same time says 5 %; expected one weight at a time");
    }

    #[test]
    fn a_share_of_both_arms_is_never_nothing_or_everything() {
        assert_eq!((realised(1, 1_000_000).canary_bps(), realised(1_000_000, 1).canary_bps()), (1, 9_999));
    }
}
