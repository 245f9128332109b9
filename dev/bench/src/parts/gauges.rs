//! Table 5.7: gauges that resemble themselves. Both arms follow a logarithmic AR(1) series sampled every 15 s, so that their ratio
//! scatters by 10 %; the question is whether the canary's is higher.
//!
//! Our test sees means of blocks (60 s; 180 s at an autocorrelation of 0.9); "raw" is the same test on single samples. Welch and
//! Mann-Whitney are made for one look; here they look every 5 minutes at 1 %, one-sided.

use anyhow::Result;
use serin_stats::{BlockConfig, Blocks, GaugeE, normal_quantile, shift};

use super::{Bench, Findings, decided, decisions, row};
use crate::random::Random;
use crate::summary::Cell;
use crate::table::Table;
use crate::traffic::STAGE_S;
use crate::wiring::{ALPHA, ln_single};

const SAMPLE_S: u32 = 15;
const LOOK_S: u32 = 300;
/// Standard deviation of the ratio.
const RATIO_DEVIATION: f64 = 0.1;
const RULES: [&str; 4] = ["t on blocks", "t raw", "Welch peek", "Mann-Whitney peek"];

/// Simulates the table.
///
/// # Errors
/// If a test refuses its configuration or a value.
pub(super) fn run(bench: &Bench) -> Result<Findings> {
    let mut cells = Vec::new();
    let mut table = Table::new("5.7 Gauges called higher within 30 min", &[&["rho", "shift"], &RULES[..]].concat());
    for (number, (rho, higher)) in (0..).zip([(0.0, 0.0), (0.6, 0.0), (0.9, 0.0), (0.6, 0.1), (0.9, 0.2)]) {
        let runs = bench.cell(13, number, bench.runs, |random| Ok(decisions(&stage(rho, higher, random)?)))?;
        let labels = [format!("{rho:.1}"), format!("{:.0}%", 100.0 * higher)];
        let cell = Cell::new("gauges", &[("rho", &labels[0]), ("shift", &labels[1])], &RULES, &runs);
        table.row(row(&cell, &["rho", "shift"], decided));
        cells.push(cell);
    }
    Ok(Findings { cells, text: table.draw() })
}

fn stage(rho: f64, higher: f64, random: &mut Random) -> Result<[bool; 4]> {
    let block_ms = if rho > 0.8 { 180_000 } else { 60_000 };
    // The series has settled before it starts.
    let mut blocks = Blocks::new(BlockConfig { block_ms, warm_up_ms: 0, ..BlockConfig::default() });
    let (mut on_blocks, mut raw) = (GaugeE::new(1.0)?, GaugeE::new(1.0)?);
    let mut arms = [(); 2].map(|()| Series::new(rho, RATIO_DEVIATION / std::f64::consts::SQRT_2, random));
    let mut values = [Vec::new(), Vec::new()];
    let mut decided = [false; 4];
    for sample in 1..=STAGE_S / SAMPLE_S {
        let [canary, stable] = [(1.0 + higher, 0), (1.0, 1)].map(|(level, arm)| level * arms[arm].next(random).exp());
        if let Some(mean) = blocks.push(u64::from(sample * SAMPLE_S) * 1_000, canary, stable)? {
            on_blocks.update(mean)?;
        }
        raw.update(canary.ln() - stable.ln())?;
        decided[0] |= on_blocks.ln_e_fail() >= ln_single();
        decided[1] |= raw.ln_e_fail() >= ln_single();
        values[0].push(canary);
        values[1].push(stable);
        if (sample * SAMPLE_S).is_multiple_of(LOOK_S) {
            decided[2] |= welch_higher(&values[0], &values[1], ALPHA);
            decided[3] |= shift(&values[0], &values[1], 1.0 - 2.0 * ALPHA)?.lower > 0.0;
        }
    }
    Ok(decided)
}

/// An AR(1) series in its stationary state.
#[derive(Debug, Clone)]
struct Series {
    rho: f64,
    deviation: f64,
    state: f64,
}

impl Series {
    fn new(rho: f64, deviation: f64, random: &mut Random) -> Self {
        Self { rho, deviation, state: deviation * random.normal() }
    }

    fn next(&mut self, random: &mut Random) -> f64 {
        let innovation = self.deviation * (1.0 - self.rho * self.rho).sqrt();
        self.state = self.rho * self.state + innovation * random.normal();
        self.state
    }
}

/// Welch's test, one-sided.
fn welch_higher(x: &[f64], y: &[f64], alpha: f64) -> bool {
    let moments = |values: &[f64]| {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
        (mean, variance / n, n)
    };
    let ((x_mean, x_part, n), (y_mean, y_part, m)) = (moments(x), moments(y));
    let freedom = (x_part + y_part).powi(2) / (x_part.powi(2) / (n - 1.0) + y_part.powi(2) / (m - 1.0));
    (x_mean - y_mean) / (x_part + y_part).sqrt() > student_quantile(1.0 - alpha, freedom)
}

/// Student's quantile by the Cornish-Fisher expansion: to 0.2 % from 20 degrees of freedom on.
fn student_quantile(p: f64, freedom: f64) -> f64 {
    let z = normal_quantile(p);
    let first = (z.powi(3) + z) / 4.0;
    let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
    z + first / freedom + second / freedom.powi(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_series_has_its_deviation_and_autocorrelation() {
        let mut random = Random::new(1, 0, 0, 0);
        let mut series = Series::new(0.6, 0.1, &mut random);
        let values: Vec<f64> = (0..100_000).map(|_| series.next(&mut random)).collect();
        let variance = values.iter().map(|value| value * value).sum::<f64>() / 1e5;
        let covariance = values.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>() / 1e5;
        assert!((variance.sqrt() - 0.1).abs() < 0.002 && (covariance / variance - 0.6).abs() < 0.02);
    }

    #[test]
    fn student_quantiles_are_those_of_the_tables() {
        for (freedom, expected) in [(20.0, 2.528), (38.0, 2.429), (120.0, 2.358)] {
            assert!((student_quantile(0.99, freedom) - expected).abs() < 0.003);
        }
        let (high, low): (Vec<f64>, Vec<f64>) =
            ((0..30).map(|i| f64::from(i % 7) + 3.0).collect(), (0..30).map(|i| f64::from(i % 7)).collect());
        assert!(welch_higher(&high, &low, 0.01) && !welch_higher(&low, &high, 0.01) && !welch_higher(&low, &low, 0.01));
    }
}
