//! What was seen of a release second by second: for charts and reports, never for decisions.
//!
//! Policies:
//! - **A file beside the journal.** `recordings/N.jsonl` in the state folder, one JSON object per line in the order of time. Any process may
//!   read it. It is not synced: it must survive the death of the process, not of the machine.
//! - **Never in the way.** The driver hands samples to a queue and goes on; what does not fit is left out and counted. A disk that hangs
//!   costs samples and nothing else.
//! - **Quiet seconds cost nothing.** A second in which nothing was seen and nothing changed is no sample.
//! - **Bounded.** At [`MOST_SAMPLES`] neighbours are put together, so that the file has half as many of twice the length. Sums stay exact, and
//!   latencies are histograms, so that any span of time has its true quantiles.

mod gather;
mod read;
mod sample;
mod write;

pub(crate) use gather::{Gatherer, SAMPLE_MS};
pub use read::{Points, read};
pub use sample::{ArmSample, CriterionSample, Point, PointArm, Sample};
pub use write::{MOST_SAMPLES, Recorder};
