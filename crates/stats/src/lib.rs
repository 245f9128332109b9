//! Pure maths of Serin: no clock, no randomness, no I/O.
//!
//! Beside the latency [`Histogram`] there are the sequential tests. Every one is a nonnegative process `E` that starts at 1
//! and whose mean is at most 1 at every stopping time under its null, so that `P(ever E >= 1/alpha) <= alpha`: look after every
//! request. They are kept as logarithms, take constant time and memory, allocate nothing per update, and come back from a
//! checkpoint to the last bit.
//!
//! | question | test |
//! |---|---|
//! | events more often than on stable (errors, crashes, conversions) | [`RatioE`], with its guards [`RatioCriterion`], by class [`FingerprintE`] |
//! | surely within the tolerance | [`PassE`] |
//! | a difference of rates | [`DiffE`] |
//! | above a fixed rate, canary alone | [`LimitE`], over time [`PoissonE`] |
//! | latency quantiles | [`ExceedanceE`], [`AnyLatencyE`] |
//! | CPU and memory | [`GaugeE`] |
//! | all of them together | [`ReleaseAlarm`] |

mod config;
mod criterion;
mod decayed;
mod difference;
mod dispersion;
mod exact;
mod exceedance;
mod excess_blocks;
mod fingerprint;
mod forecast;
mod gauge;
mod histogram;
mod interval;
pub mod kayenta;
mod limit;
mod log_domain;
mod mann_whitney;
mod mixture;
mod pass;
mod poisson;
mod ratio;
mod release_alarm;
mod special;
mod stable_rate;

pub use config::{ArmCounts, ConfigError, HIGHEST_RATE, Share};
pub use criterion::{RatioCriterion, RatioLimits, RatioMode};
pub use decayed::{DEFAULT_HALF_LIFE_MS, DecayedHistogram};
pub use difference::{ArmsBatch, DiffE, DifferenceNull};
pub use dispersion::{Dispersion, LEAST_PODS, MOST_PODS};
pub use exceedance::{AnyLatencyE, Coding, ExceedanceE, LOWEST_PASS_RATIO, LatencyCode};
pub use excess_blocks::{BLOCK_MS, ExcessBlocks, LEAST_BLOCKS};
pub use fingerprint::{ClassEvents, FingerprintE, LN_TOTAL, MOST_CLASSES};
pub use forecast::{Forecast, Outlook, forecast, information, least_exceedances, least_failures, least_failures_of_limit};
pub use gauge::{BlockConfig, Blocks, GaugeE};
pub use histogram::{BINS, Histogram, HistogramError, bin_bounds_us, bin_of_us};
pub use interval::{Interval, MOST_WEIGHTS, RatioEvidence, rate_interval};
pub use limit::{HALF_OF_LIMIT_PRIOR, LimitE};
pub use log_domain::{ln_mean_exp, log_add_exp, log_sum_exp};
pub use mann_whitney::{MOST_VALUES, Shift, common_language_effect, shift};
pub use pass::{DEFAULT_MARGIN, PASS_PRIOR, PASS_RATIOS, PassE};
pub use poisson::PoissonE;
pub use ratio::{ALTERNATIVES, Batch, FAIL_PRIOR, FAIL_RATIOS, FALL_RATIOS, ONSET_EVENTS, RatioConfig, RatioE, fail_alternatives};
pub use release_alarm::{DEFAULT_ALPHA, DEFAULT_BETA, Family, ReleaseAlarm, ln_bonferroni};
pub use special::{ln_beta, ln_gamma, normal_quantile};
pub use stable_rate::{StableRate, UNKNOWN_RATE};
