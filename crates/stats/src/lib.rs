//! Pure maths of Serin: no clock, no randomness, no I/O.
//!
//! Today it holds the latency [`Histogram`]; the sequential tests of the analysis live here as well once they judge.

mod histogram;

pub use histogram::{BINS, Histogram, HistogramError, bin_bounds_us, bin_of_us};
