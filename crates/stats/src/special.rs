//! Special functions, accurate over the whole range in which counts of requests are used (arguments beyond 1e9).

use std::f64::consts::PI;

/// From here on Stirling's series has full precision with the terms kept.
const STIRLING_FROM: f64 = 15.0;
/// Coefficients `B_2j / (2j (2j-1))` of Stirling's series.
const STIRLING: [f64; 7] = [1.0 / 12.0, -1.0 / 360.0, 1.0 / 1260.0, -1.0 / 1680.0, 1.0 / 1188.0, -691.0 / 360_360.0, 1.0 / 156.0];

/// `ln Gamma(x)` for `x > 0`, relative error about 1e-15 except near the zeros at 1 and 2, where the absolute error is.
/// Infinity at 0 and infinity; NaN below 0.
#[must_use]
pub fn ln_gamma(x: f64) -> f64 {
    if x.is_nan() || x < 0.0 {
        return f64::NAN;
    }
    if x == 0.0 || x == f64::INFINITY {
        return f64::INFINITY;
    }
    // Shift up to where the series holds: Gamma(x) = Gamma(x + n) / (x (x+1) … (x+n-1)). At most 15 factors, below 1e18.
    let (mut shifted, mut product) = (x, 1.0);
    while shifted < STIRLING_FROM {
        product *= shifted;
        shifted += 1.0;
    }
    let series = (shifted - 0.5) * shifted.ln() - shifted + 0.5 * (2.0 * PI).ln() + stirling_tail(shifted);
    if product == 1.0 { series } else { series - product.ln() }
}

/// `ln B(a, b)` for `a, b > 0`, without the cancellation of three large `ln Gamma`. NaN outside.
#[must_use]
pub fn ln_beta(a: f64, b: f64) -> f64 {
    let (small, large) = if a <= b { (a, b) } else { (b, a) };
    if small.is_nan() || large.is_nan() || small <= 0.0 {
        return f64::NAN;
    }
    if large < STIRLING_FROM {
        return ln_gamma(small) + ln_gamma(large) - ln_gamma(small + large);
    }
    let sum = small + large;
    let tails = stirling_tail(large) - stirling_tail(sum);
    if small < STIRLING_FROM {
        // ln Gamma(large) - ln Gamma(sum) with the leading terms joined.
        return ln_gamma(small) + tails + (large - 0.5) * (-small / sum).ln_1p() + small - small * sum.ln();
    }
    let balance = (small - 0.5) * (small / sum).ln() + large * (-small / sum).ln_1p();
    0.5 * (2.0 * PI).ln() + stirling_tail(small) + tails + balance - 0.5 * large.ln()
}

/// The normal quantile: the `z` with `P(N(0,1) <= z) = p`, relative error about 1e-16 (Wichura's algorithm AS 241).
/// Infinite at 0 and 1; NaN outside.
#[must_use]
pub fn normal_quantile(p: f64) -> f64 {
    if !(0.0..=1.0).contains(&p) {
        return f64::NAN;
    }
    let centred = p - 0.5;
    if centred.abs() <= 0.425 {
        let r = 0.180_625 - centred * centred;
        return centred * polynomial(&CENTRE_ABOVE, r) / polynomial(&CENTRE_BELOW, r);
    }
    let tail = if centred < 0.0 { p } else { 1.0 - p };
    if tail <= 0.0 {
        return f64::INFINITY.copysign(centred);
    }
    let r = (-tail.ln()).sqrt();
    let size = if r <= 5.0 {
        polynomial(&MIDDLE_ABOVE, r - 1.6) / polynomial(&MIDDLE_BELOW, r - 1.6)
    } else {
        polynomial(&FAR_ABOVE, r - 5.0) / polynomial(&FAR_BELOW, r - 5.0)
    };
    size.copysign(centred)
}

/// `ln Gamma(x) - [(x - 0.5) ln x - x + 0.5 ln(2 pi)]` for `x >= 15`.
fn stirling_tail(x: f64) -> f64 {
    let inverse_square = 1.0 / (x * x);
    STIRLING.iter().rev().fold(0.0, |sum, coefficient| sum * inverse_square + coefficient) / x
}

/// Coefficients ascending.
fn polynomial(coefficients: &[f64; 8], x: f64) -> f64 {
    coefficients.iter().rev().fold(0.0, |sum, coefficient| sum * x + coefficient)
}

const CENTRE_ABOVE: [f64; 8] = [
    3.387_132_872_796_366_5,
    133.141_667_891_784_38,
    1_971.590_950_306_551_3,
    13_731.693_765_509_46,
    45_921.953_931_549_87,
    67_265.770_927_008_7,
    33_430.575_583_588_13,
    2_509.080_928_730_122_7,
];
const CENTRE_BELOW: [f64; 8] = [
    1.0,
    42.313_330_701_600_91,
    687.187_007_492_057_9,
    5_394.196_021_424_751,
    21_213.794_301_586_597,
    39_307.895_800_092_71,
    28_729.085_735_721_943,
    5_226.495_278_852_854,
];
const MIDDLE_ABOVE: [f64; 8] = [
    1.423_437_110_749_683_5,
    4.630_337_846_156_546,
    5.769_497_221_460_691,
    3.647_848_324_763_204_5,
    1.270_458_252_452_368_4,
    0.241_780_725_177_450_6,
    0.022_723_844_989_269_184,
    7.745_450_142_783_414e-4,
];
const MIDDLE_BELOW: [f64; 8] = [
    1.0,
    2.053_191_626_637_759,
    1.676_384_830_183_803_8,
    0.689_767_334_985_1,
    0.148_103_976_427_480_08,
    0.015_198_666_563_616_457,
    5.475_938_084_995_345e-4,
    1.050_750_071_644_416_9e-9,
];
const FAR_ABOVE: [f64; 8] = [
    6.657_904_643_501_103,
    5.463_784_911_164_114,
    1.784_826_539_917_291_3,
    0.296_560_571_828_504_87,
    0.026_532_189_526_576_124,
    0.001_242_660_947_388_078_4,
    2.711_555_568_743_487_6e-5,
    2.010_334_399_292_288_1e-7,
];
const FAR_BELOW: [f64; 8] = [
    1.0,
    0.599_832_206_555_888,
    0.136_929_880_922_735_8,
    0.014_875_361_290_850_615,
    7.868_691_311_456_133e-4,
    1.846_318_317_510_054_8e-5,
    1.421_511_758_316_446e-7,
    2.044_263_103_389_939_8e-15,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        assert!((ln_gamma(0.5) - PI.sqrt().ln()).abs() < 1e-15);
        assert!(ln_gamma(1.0).abs() < 1e-14 && ln_gamma(2.0).abs() < 1e-14);
        assert!((ln_beta(0.5, 0.5) - PI.ln()).abs() < 1e-14);
        assert_eq!(normal_quantile(0.5), 0.0);
        assert!((normal_quantile(0.99) - 2.326_347_874_040_841).abs() < 1e-15);
    }

    #[test]
    fn edges_of_the_ranges() {
        assert_eq!(ln_gamma(0.0), f64::INFINITY);
        assert!(
            ln_gamma(-1.0).is_nan() && ln_beta(0.0, 1.0).is_nan() && normal_quantile(1.5).is_nan() && normal_quantile(f64::NAN).is_nan()
        );
        assert_eq!((normal_quantile(0.0), normal_quantile(1.0)), (f64::NEG_INFINITY, f64::INFINITY));
    }
}
