//! From observed traffic to verdicts.
//!
//! A [`Trial`] remembers what a stage has seen (its [`Tally`]) and asks a judge what it means. Judges are interchangeable:
//! each takes the same observations and gives the same [`Assessment`]. Nothing here is journaled; the journal holds the
//! decisions that the release draws from assessments, and a [checkpoint](Trial::checkpoint) lets a restarted shell go on.

mod assessment;
mod guards;
mod kayenta;
mod reading;
mod sequential;
mod sights;
mod slices;
mod tally;
#[cfg(test)]
mod tests;
mod threshold;
mod trial;
mod window;

pub use assessment::{Assessment, CriterionAssessment, EvidenceLevel, Verdict};
pub use kayenta::LEAST_VALUES;
pub use sequential::least_gauge_ms;
pub(crate) use sequential::{QUANTILES, SHARE_BY_WEIGHT, pass_margin, quantiles};
pub use serin_stats::HIGHEST_RATE;
pub use tally::{SplitCheck, Tally};
pub use trial::{Checkpoint, Trial};
