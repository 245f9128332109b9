//! Traffic of two arms, made up from a seed: what the judge would see of it, tick by tick.

#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]

use std::collections::BTreeMap;

use serin_stats::Histogram;

use crate::{
    Timestamp, WeightBps,
    judge::{CriterionAssessment, Trial, Verdict},
    plan::{
        Analysis, Combine, Criterion, Expectation, Gate, Guard, JudgeKind, Metric, OUTAGE_GUARD, OnInconclusive, OnNoData, Plan,
        RetreatEnd, RetreatPolicy, SequentialRules, Step, VersusStable,
    },
    traffic::{Arm, ArmGauges, Assignment, Counts, Observation, OpenCell, Outcome, ReplicaCell, TrafficCell},
};

pub(super) const TICK_MS: u64 = 50;

pub(super) fn bps(weight: u16) -> WeightBps {
    WeightBps::new(weight).unwrap()
}

pub(super) fn criterion(metric: Metric, max: Option<f64>, versus_stable: Option<(f64, Option<f64>)>) -> Criterion {
    let versus = |(ratio, increase)| VersusStable { ratio: Some(ratio), increase, decrease: None, combine: Combine::Both };
    Criterion { max, versus_stable: versus_stable.map(versus), min_sample: 20, ..Criterion::of(metric) }
}

pub(super) fn guard(max: f64) -> Guard {
    Guard { name: OUTAGE_GUARD.to_owned(), metric: Metric::ErrorRate, max, window_ms: 10_000, min_sample: 20 }
}

pub(super) fn plan(criteria: Vec<Criterion>, guards: Vec<Guard>) -> Plan {
    let step = Step {
        weights: BTreeMap::from([("main".to_owned(), bps(500))]),
        hold_ms: 60_000,
        min_hold_ms: 60_000,
        max_hold_ms: 600_000,
        early: false,
        min_requests: 0,
        gate: Gate::Auto,
        criteria: vec![],
        preview: None,
    };
    Plan {
        release: "r".to_owned(),
        targets: vec!["main".to_owned()],
        steps: vec![step; 64],
        bake_ms: 0,
        retain_ms: 0,
        analysis: Analysis {
            judge: JudgeKind::Sequential(SequentialRules::default()),
            expect: Expectation::default(),
            interval_ms: 1_000,
            window_ms: 30_000,
            poll_ms: None,
            on_no_data: OnNoData::Hold,
            on_inconclusive: OnInconclusive::Hold,
            retreat: RetreatPolicy { recover_within_ms: 10_000, otherwise: RetreatEnd::Pause },
            criteria,
            guards,
        },
        deploy_timeout_ms: 0,
        sticky: false,
    }
}

/// What an arm does with its requests.
#[derive(Debug, Clone, Copy)]
pub(super) struct Behaviour {
    /// Share that is answered with a 5xx.
    pub(super) errors: f64,
    /// The 5xx come at this latency, in ms; everything else is lognormal.
    pub(super) error_ms: f64,
    /// Median latency and the standard deviation of its logarithm.
    pub(super) median_ms: f64,
    pub(super) sigma: f64,
    /// Slow-down of the slowest twentieth.
    pub(super) tail: f64,
    /// Share that is never answered.
    pub(super) hangs: f64,
    /// Failures come with this delay.
    pub(super) failure_delay_ms: u64,
    /// Share of requests that fail on one route only.
    pub(super) new_class: f64,
}

pub(super) const HEALTHY: Behaviour =
    Behaviour { errors: 0.005, error_ms: 20.0, median_ms: 50.0, sigma: 0.8, tail: 1.0, hangs: 0.0, failure_delay_ms: 0, new_class: 0.0 };

/// A running world.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) trial: Trial,
    pub(super) now_ms: u64,
    pub(super) weight: u16,
    pub(super) rps: f64,
    pub(super) stable: Behaviour,
    pub(super) canary: Behaviour,
    pub(super) replicas: usize,
    /// What the processes use, stable's first.
    pub(super) gauges: [ArmGauges; 2],
    /// What a declared rule sends to the canary, in requests per second, and what becomes of it.
    pub(super) matched: Option<(f64, Behaviour)>,
    pub(super) failed_on_canary: u64,
    pub(super) requests_on_canary: u64,
    random: Random,
    step: usize,
    hanging: Vec<(u64, u16, Arm)>,
    failing: Vec<(u64, u16, Arm)>,
}

impl World {
    pub(super) fn new(seed: u64, plan: Plan) -> Self {
        let trial = Trial::new(&plan);
        Self {
            plan,
            trial,
            now_ms: 1_000_000,
            weight: 0,
            rps: 200.0,
            stable: HEALTHY,
            canary: HEALTHY,
            replicas: 0,
            gauges: Default::default(),
            matched: None,
            failed_on_canary: 0,
            requests_on_canary: 0,
            random: Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            step: 0,
            hanging: Vec::new(),
            failing: Vec::new(),
        }
    }

    /// Stable alone, so that its latencies are known.
    pub(super) fn warm_up(&mut self, ms: u64) {
        for _ in 0..ms / TICK_MS {
            self.tick();
        }
    }

    pub(super) fn stage(&mut self, weight: u16) {
        self.weight = weight;
        self.trial.begin_stage(&self.plan, self.step, bps(weight));
        self.step += 1;
    }

    /// One tick; the first criterion or guard that fails.
    pub(super) fn tick(&mut self) -> Option<CriterionAssessment> {
        let observation = self.observation();
        self.trial.observe(&observation);
        let assessment = self.trial.assessment();
        let mut all = assessment.broken_guards.iter().chain(&assessment.criteria);
        all.find(|one| matches!(one.verdict, Verdict::Fail | Verdict::Environment)).cloned()
    }

    /// Ticks until something fails, or until the time is over.
    pub(super) fn run(&mut self, ms: u64) -> Option<(u64, CriterionAssessment)> {
        let began = self.now_ms;
        while self.now_ms - began < ms {
            if let Some(broken) = self.tick() {
                return Some((self.now_ms - began, broken));
            }
        }
        None
    }

    /// Runs until every criterion passes; how long that took.
    pub(super) fn run_to_pass(&mut self, ms: u64) -> Option<u64> {
        let began = self.now_ms;
        while self.now_ms - began < ms {
            if let Some(broken) = self.tick() {
                panic!("{broken:?}");
            }
            if self.trial.assessment().all_pass() {
                return Some(self.now_ms - began);
            }
        }
        None
    }

    pub(super) fn observation(&mut self) -> Observation {
        self.now_ms += TICK_MS;
        let (mut cells, mut replicas) = (BTreeMap::<(u16, Arm, Assignment), Counts>::new(), vec![Counts::default(); self.replicas]);
        let arrivals = self.random.poisson(self.rps * TICK_MS as f64 / 1_000.0);
        for _ in 0..arrivals {
            let arm = if self.random.uniform() * 10_000.0 < f64::from(self.weight) { Arm::Canary } else { Arm::Stable };
            let behaviour = if arm == Arm::Canary { self.canary } else { self.stable };
            let assignment = if self.weight == 0 || self.weight == 10_000 { Assignment::Forced } else { Assignment::Random };
            let mut counts = Counts::default();
            self.request(behaviour, arm, &mut counts);
            if arm == Arm::Canary {
                self.requests_on_canary += 1;
                self.failed_on_canary += counts.errors();
            } else if self.replicas > 0 {
                let replica = self.random.next() as usize % self.replicas;
                replicas[replica].merge(&counts);
            }
            cells.entry((self.weight, arm, assignment)).or_default().merge(&counts);
        }
        if let Some((rps, behaviour)) = self.matched {
            for _ in 0..self.random.poisson(rps * TICK_MS as f64 / 1_000.0) {
                let mut counts = Counts::default();
                self.request(behaviour, Arm::Canary, &mut counts);
                cells.entry((self.weight, Arm::Canary, Assignment::Matched)).or_default().merge(&counts);
            }
        }
        let due: Vec<_> = self.failing.iter().filter(|(at, ..)| *at <= self.now_ms).copied().collect();
        self.failing.retain(|(at, ..)| *at > self.now_ms);
        for (_, weight, arm) in due {
            cells.entry((weight, arm, Assignment::Random)).or_default().record(Outcome::Timeout, 10_000_000);
        }
        let cells = cells.into_iter().map(|((weight, arm, assignment), counts)| TrafficCell {
            weight: bps(weight),
            arm,
            assignment,
            counts,
            sessions: None,
        });
        let replicas = replicas.into_iter().enumerate().map(|(index, counts)| ReplicaCell { id: format!("stable-{index}"), counts });
        Observation {
            at: Timestamp(self.now_ms),
            cells: cells.collect(),
            gauges: self.gauges,
            open: self.open(),
            replicas: replicas.collect(),
            measured: Vec::new(),
        }
    }

    fn request(&mut self, behaviour: Behaviour, arm: Arm, counts: &mut Counts) {
        let us = |ms: f64| (ms * 1_000.0) as u64;
        if self.random.uniform() < behaviour.hangs {
            self.hanging.push((self.now_ms, self.weight, arm));
        } else if self.random.uniform() < behaviour.errors {
            if behaviour.failure_delay_ms > 0 {
                self.failing.push((self.now_ms + behaviour.failure_delay_ms, self.weight, arm));
                return;
            }
            counts.record(Outcome::ServerError, us(behaviour.error_ms));
            counts.record_class(["500 GET /", "502 GET /orders/*", "503 POST /pay"][self.random.next() as usize % 3]);
        } else if self.random.uniform() < behaviour.new_class {
            counts.record(Outcome::ServerError, us(behaviour.error_ms));
            counts.record_class("500 GET /new");
        } else {
            let z = self.random.normal();
            let tail = if z > 1.645 { behaviour.tail } else { 1.0 };
            counts.record(Outcome::Success, us(behaviour.median_ms * (behaviour.sigma * z).exp() * tail));
        }
    }

    fn open(&self) -> Vec<OpenCell> {
        let mut open: BTreeMap<(u16, Arm), Histogram> = BTreeMap::new();
        for (began, weight, arm) in &self.hanging {
            open.entry((*weight, *arm)).or_default().record_us((self.now_ms - began) * 1_000);
        }
        let cell = |((weight, arm), ages)| OpenCell { weight: bps(weight), arm, assignment: Assignment::Random, ages };
        open.into_iter().map(cell).collect()
    }
}

/// A small generator: the tests need reproducible traffic, not good randomness.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11
    }

    fn uniform(&mut self) -> f64 {
        self.next() as f64 / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        let (a, b) = (self.uniform().max(1e-12), self.uniform());
        (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    }

    fn poisson(&mut self, mean: f64) -> u64 {
        let (limit, mut product, mut count) = ((-mean).exp(), 1.0, 0);
        loop {
            product *= self.uniform();
            if product <= limit {
                return count;
            }
            count += 1;
        }
    }
}

/// The median.
pub(super) fn median<T: Ord + Copy>(mut values: Vec<T>) -> T {
    values.sort_unstable();
    values[values.len() / 2]
}
