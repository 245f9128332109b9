//! Sums of numbers that are kept as their natural logarithms.
//!
//! Evidence spans hundreds of orders of magnitude in both directions, so that it is never held as a plain number. Zero is
//! negative infinity. Nothing here returns NaN for arguments that are not NaN, except opposite infinities, which do not occur.

/// `ln(exp(a) + exp(b))` without overflow or underflow; exact to a few units in the last place.
#[must_use]
pub fn log_add_exp(a: f64, b: f64) -> f64 {
    let (high, low) = if a >= b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY || high == f64::INFINITY {
        return high;
    }
    high + (low - high).exp().ln_1p()
}

/// `ln(sum of exp(x))`; negative infinity for no terms.
#[must_use]
pub fn log_sum_exp(terms: &[f64]) -> f64 {
    let high = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if high.is_infinite() {
        return high;
    }
    high + terms.iter().map(|term| (term - high).exp()).sum::<f64>().ln()
}

/// `ln` of the plain mean of numbers given as logarithms: how equally weighted e-processes of one stream are combined.
/// Negative infinity for no terms.
#[must_use]
pub fn ln_mean_exp(terms: &[f64]) -> f64 {
    if terms.is_empty() {
        return f64::NEG_INFINITY;
    }
    log_sum_exp(terms) - (terms.len() as f64).ln()
}

/// `count * ln_factor`, where no events leave everything as it was, also for a factor of zero or infinity.
#[must_use]
pub(crate) fn ln_power(count: f64, ln_factor: f64) -> f64 {
    if count == 0.0 { 0.0 } else { count * ln_factor }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn zero_and_infinity_stay_what_they_are() {
        let zero = f64::NEG_INFINITY;
        assert_eq!(log_add_exp(zero, zero), zero);
        assert_eq!(log_add_exp(zero, -3.5), -3.5);
        assert_eq!(log_add_exp(f64::INFINITY, zero), f64::INFINITY);
        assert_eq!(log_sum_exp(&[]), zero);
        assert_eq!(log_sum_exp(&[zero, zero]), zero);
        assert_eq!(log_sum_exp(&[f64::INFINITY, f64::INFINITY]), f64::INFINITY);
        assert_eq!(ln_power(0.0, zero), 0.0);
    }

    #[test]
    fn far_beyond_what_a_float_can_hold() {
        assert_eq!(log_add_exp(1e9, 1e9), 1e9 + std::f64::consts::LN_2);
        assert_eq!(log_add_exp(-1e9, -2e9), -1e9);
        assert!((ln_mean_exp(&[-5000.0, -5000.0]) + 5000.0).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn sums_agree_with_plain_arithmetic(values in proptest::collection::vec(1e-100_f64..1e100, 1..9)) {
            let logs: Vec<f64> = values.iter().map(|x| x.ln()).collect();
            let expected = values.iter().sum::<f64>().ln();
            prop_assert!((log_sum_exp(&logs) - expected).abs() < 1e-11);
            let folded = logs.iter().copied().fold(f64::NEG_INFINITY, log_add_exp);
            prop_assert!((folded - expected).abs() < 1e-11);
        }
    }
}
