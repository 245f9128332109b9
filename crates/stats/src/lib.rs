//! Pure maths of Serin: no clock, no randomness, no I/O.

mod config;
mod difference;
mod exact;
mod histogram;
mod limit;
mod log_domain;
mod mixture;
mod pass;
mod poisson;
mod ratio;
mod stable_rate;

pub use config::{ArmCounts, ConfigError, Share};
pub use difference::{ArmsBatch, DiffE, DifferenceNull};
pub use histogram::{BINS, Histogram, HistogramError, bin_bounds_us, bin_of_us};
pub use limit::LimitE;
pub use log_domain::{ln_mean_exp, log_add_exp, log_sum_exp};
pub use pass::{DEFAULT_MARGIN, PASS_PRIOR, PASS_RATIOS, PassE};
pub use poisson::PoissonE;
pub use ratio::{ALTERNATIVES, Batch, FAIL_PRIOR, FAIL_RATIOS, FALL_RATIOS, ONSET_EVENTS, RatioConfig, RatioE, fail_alternatives};
pub use stable_rate::{StableRate, UNKNOWN_RATE};
