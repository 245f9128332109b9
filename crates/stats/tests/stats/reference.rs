//! Agreement with an independent implementation: see `tests/reference/make.py`.

use std::sync::LazyLock;

use serde_json::Value;
use serin_stats::{
    ArmsBatch, Batch, DiffE, Dispersion, GaugeE, LimitE, PoissonE, RatioConfig, RatioE, RatioEvidence, StableRate, common_language_effect,
    information, ln_beta, ln_gamma, normal_quantile, rate_interval, shift,
};

use crate::support::{counts, events, share};

static REFERENCE: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(include_str!("../reference/reference.json")).unwrap());

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    list(value).iter().map(|value| value.as_f64().unwrap()).collect()
}

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("{key} in {value}"))
}

#[track_caller]
fn close(got: f64, expected: f64, relative: f64, absolute: f64) {
    assert!((got - expected).abs() <= absolute + relative * expected.abs(), "got {got}, expected {expected}");
}

#[test]
fn special_functions() {
    let special = &REFERENCE["special"];
    for row in list(&special["ln_gamma"]) {
        let row = numbers(row);
        close(ln_gamma(row[0]), row[1], 4e-15, 4e-15);
    }
    for row in list(&special["ln_beta"]) {
        let row = numbers(row);
        close(ln_beta(row[0], row[1]), row[2], 1e-14, 1e-14);
        close(ln_beta(row[1], row[0]), row[2], 1e-14, 1e-14);
    }
    for row in list(&special["normal_quantile"]) {
        let row = numbers(row);
        close(normal_quantile(row[0]), row[1], 2e-15, 0.0);
    }
}

fn check_ratio<const K: usize>(config: &RatioConfig<K>, case: &Value) {
    assert_eq!(config.rho0, number(case, "rho0"));
    let mut test = RatioE::new(config).unwrap();
    test.set_tempering(number(case, "eta")).unwrap();
    for (batch, expected) in list(&case["batches"]).iter().zip(numbers(&case["ln_e"])) {
        let (canary, stable) = (batch[0].as_u64().unwrap(), batch[1].as_u64().unwrap());
        test.update(events(canary, stable, batch[2].as_f64().unwrap()));
        // Billions of events leave an absolute error of their number times a unit in the last place.
        close(test.ln_e(), expected, 1e-12, 1e-11 + 1e-16 * (canary + stable) as f64 * 10.0);
    }
}

#[test]
fn ratio_streams() {
    for case in list(&REFERENCE["ratios"]) {
        match case["name"].as_str().unwrap() {
            "fail" => check_ratio(&RatioConfig::fail(1.0, 1.5), case),
            "strict" => check_ratio(&RatioConfig::fail(1.5, 1.5), case),
            _ => check_ratio(&RatioConfig::pass(1.5), case),
        }
    }
}

#[test]
fn limit_streams() {
    for case in list(&REFERENCE["limits"]) {
        let mut test = LimitE::above(number(case, "limit")).unwrap();
        for (batch, expected) in list(&case["batches"]).iter().zip(numbers(&case["ln_e"])) {
            test.update(counts(batch[0].as_u64().unwrap(), batch[1].as_u64().unwrap()));
            close(test.ln_e(), expected, 1e-12, 1e-12);
        }
    }
}

#[test]
fn poisson_streams() {
    for case in list(&REFERENCE["poissons"]) {
        let mut test = PoissonE::above(number(case, "rate")).unwrap();
        for (batch, expected) in list(&case["batches"]).iter().zip(numbers(&case["ln_e"])) {
            test.update(batch[0].as_u64().unwrap(), batch[1].as_f64().unwrap()).unwrap();
            close(test.ln_e(), expected, 1e-12, 1e-12);
        }
    }
}

#[test]
fn difference_batches() {
    for case in list(&REFERENCE["differences"]) {
        let past = numbers(&case["past"]);
        let mut rate = StableRate::default();
        rate.add(counts(past[0] as u64, past[1] as u64));
        let d = number(case, "difference");
        let mut test = match case["kind"].as_str().unwrap() {
            "pass_below" => DiffE::pass_below(d, rate),
            "pass_not_lower" => DiffE::pass_not_lower(d, rate),
            _ => DiffE::fail_above(d, rate),
        }
        .unwrap();
        let batch: Vec<u64> = list(&case["batch"]).iter().map(|value| value.as_u64().unwrap()).collect();
        test.update(ArmsBatch {
            canary: counts(batch[0], batch[1]),
            stable: counts(batch[2], batch[3]),
            weight: share(number(case, "weight")),
        });
        close(test.ln_e(), number(case, "ln_e"), 1e-9, 1e-9);
    }
}

#[test]
fn gauge_blocks() {
    for case in list(&REFERENCE["gauges"]) {
        let mut test = GaugeE::new(1.2).unwrap();
        for (index, block) in numbers(&case["blocks"]).into_iter().enumerate() {
            test.update(block).unwrap();
            for (got, expected) in [(test.ln_e_fail(), &case["ln_fail"][index]), (test.ln_e_pass(), &case["ln_pass"][index])] {
                match expected.as_f64() {
                    Some(expected) => close(got, expected, 1e-10, 1e-10),
                    None => assert_eq!(got, f64::NEG_INFINITY),
                }
            }
        }
    }
}

#[test]
fn ratio_intervals() {
    for case in list(&REFERENCE["ratio_intervals"]) {
        let mut evidence = RatioEvidence::new();
        for bin in list(&case["bins"]) {
            let weight = share(bin[2].as_f64().unwrap());
            evidence.add(Batch { canary_events: bin[0].as_u64().unwrap(), stable_events: bin[1].as_u64().unwrap(), weight }, 1.0);
        }
        let interval = evidence.ratio_interval(number(case, "alpha")).unwrap();
        close(evidence.ratio().unwrap(), number(case, "ratio"), 1e-9, 0.0);
        close(interval.low, number(case, "low"), 1e-8, 0.0);
        close(interval.high, number(case, "high"), 1e-8, 0.0);
    }
}

#[test]
fn rate_intervals() {
    for case in list(&REFERENCE["rate_intervals"]) {
        let seen = counts(case["requests"].as_u64().unwrap(), case["events"].as_u64().unwrap());
        let interval = rate_interval(seen, number(case, "alpha")).unwrap();
        close(interval.low, number(case, "low"), 1e-9, 0.0);
        close(interval.high, number(case, "high"), 1e-9, 0.0);
    }
}

#[test]
fn mann_whitney_shifts() {
    for case in list(&REFERENCE["mann_whitney"]) {
        let (x, y) = (numbers(&case["x"]), numbers(&case["y"]));
        let got = shift(&x, &y, 0.98).unwrap();
        close(got.lower, number(case, "lower"), 1e-9, 1e-12);
        close(got.upper, number(case, "upper"), 1e-9, 1e-12);
        close(got.estimate, number(case, "estimate"), 1e-9, 1e-14);
        close(common_language_effect(&x, &y).unwrap(), number(case, "effect"), 1e-12, 0.0);
    }
}

#[test]
fn information_per_request() {
    for row in list(&REFERENCE["information"]) {
        let row = numbers(row);
        close(information(0.01, share(row[0]), row[1], row[2]), row[3], 1e-10, 0.0);
    }
}

#[test]
fn placebo_dispersion() {
    let case = &REFERENCE["dispersion"];
    let mut dispersion = Dispersion::new(4).unwrap();
    for (requests, events) in list(&case["requests"]).iter().zip(list(&case["events"])) {
        let pods: Vec<(u64, u64)> = numbers(requests).into_iter().zip(numbers(events)).map(|(n, k)| (n as u64, k as u64)).collect();
        dispersion.add_second(&pods).unwrap();
    }
    close(dispersion.phi(), number(case, "phi"), 1e-12, 0.0);
}
