//! Sums, bounds, and that no request is counted twice or not at all while workers and readers interleave.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    time::Duration,
};

use proptest::prelude::*;
use serin_core::traffic::OTHER_ERRORS;

use super::*;
use crate::classes::Subject;

const EDGES_US: [u64; 6] = [1, 8, 32, 128, 1 << 12, 1 << 20];

fn key(bps: u16) -> CellKey {
    CellKey { weight: WeightBps::new(bps).unwrap(), arm: Arm::Stable, assignment: Assignment::Random }
}

fn sticky() -> CellKey {
    CellKey { assignment: Assignment::Sticky, ..key(5) }
}

fn ended(key: CellKey, outcome: Outcome) -> Ended {
    Ended { era: 0, key, started: Instant::now(), open: None, outcome, class: None, replica: None, first: false, first_error: false }
}

fn record(counters: &Counters, shard: usize, key: CellKey, outcome: Outcome) {
    counters.shards()[shard].end(ended(key, outcome), Instant::now);
}

fn endpoints(ids: &[&str]) -> Vec<Arc<EndpointState>> {
    ids.iter().map(|id| Arc::new(EndpointState::new(id, "127.0.0.1:1"))).collect()
}

/// Requests older than each edge: ended slow or failed, or open.
fn older(snapshot: &Snapshot, key: CellKey) -> [u64; 6] {
    let is = |weight, arm, assignment| key == CellKey { weight, arm, assignment };
    let counts = snapshot.cells.iter().find(|cell| is(cell.weight, cell.arm, cell.assignment));
    let counts = counts.map(|cell| cell.sessions.as_ref().map_or(&cell.counts, |sessions| &sessions.first));
    let open = snapshot.open.iter().find(|cell| is(cell.weight, cell.arm, cell.assignment));
    EDGES_US
        .map(|edge| counts.map_or(0, |counts| counts.slow_or_failed(edge)) + open.map_or(0, |cell| cell.ages.count_at_or_above_us(edge)))
}

#[test]
fn shards_add_up() {
    let counters = Counters::new(2);
    record(&counters, 0, key(5), Outcome::Success);
    record(&counters, 1, key(5), Outcome::ServerError);
    record(&counters, 1, key(6), Outcome::Success);
    let cells = counters.snapshot().cells;
    assert_eq!(cells.len(), 2);
    assert_eq!((cells[0].counts.requests(), cells[0].counts.errors(), cells[0].counts.latency.total()), (2, 1, 1));
}

#[test]
fn what_is_open_when_a_canary_goes_is_told_no_more() {
    let counters = Counters::new(2);
    let (before, shard) = (Era::default(), &counters.shards()[1]);
    let at = |era: &Era, open, outcome| Ended { era: era.number(), open: Some(open), ..ended(key(5), outcome) };
    let ended = shard.begin(before.number(), key(5), Instant::now());
    shard.end(at(&before, ended, Outcome::Success), Instant::now);
    let open = shard.begin(before.number(), key(5), Instant::now());
    assert_eq!(counters.snapshot().open.len(), 1);
    let after = before.next();
    counters.era_in_force(&after);
    assert_eq!(counters.snapshot().open, []);
    shard.end(at(&before, open, Outcome::ServerError), Instant::now);
    assert_eq!(counters.snapshot().cells[0].counts.all(), 1, "what was counted before stays, so that differences are right");
    assert!(!counters.mark().1);
    let open = shard.begin(after.number(), key(5), Instant::now());
    assert_eq!(counters.snapshot().open.len(), 1);
    shard.end(at(&after, open, Outcome::Success), Instant::now);
    assert_eq!(counters.snapshot().cells[0].counts.all(), 2);
}

#[test]
fn the_weight_longest_out_of_force_makes_room() {
    let counters = Counters::new(1);
    for bps in 0..64 {
        counters.weight_in_force(key(bps).weight);
        record(&counters, 0, key(bps), Outcome::Success);
    }
    counters.weight_in_force(key(0).weight);
    counters.weight_in_force(key(100).weight);
    record(&counters, 0, key(100), Outcome::Success);
    let weights: Vec<u16> = counters.snapshot().cells.iter().map(|cell| cell.weight.canary_bps()).collect();
    assert_eq!(weights.len(), 64);
    assert!(weights.contains(&0) && !weights.contains(&1) && weights.contains(&100));
}

#[test]
fn first_requests_and_first_errors_of_clients_are_counted_apart() {
    let counters = Counters::new(2);
    let sticky = |outcome, first, first_error, class: Option<&str>| Ended {
        first,
        first_error,
        class: class.map(str::to_owned),
        ..ended(sticky(), outcome)
    };
    counters.shards()[0].end(sticky(Outcome::Success, true, false, None), Instant::now);
    counters.shards()[1].end(sticky(Outcome::ServerError, false, true, Some("500 GET /")), Instant::now);
    counters.shards()[1].end(sticky(Outcome::ServerError, false, false, Some("500 GET /")), Instant::now);
    record(&counters, 0, key(5), Outcome::Success);
    let cells = counters.snapshot().cells;
    assert_eq!(cells[0].sessions, None, "random requests have no sessions");
    let sessions = cells[1].sessions.as_ref().unwrap();
    assert_eq!((cells[1].counts.requests(), sessions.first.requests(), sessions.errors.errors()), (3, 1, 1));
    assert_eq!((cells[1].counts.error_classes["500 GET /"], sessions.errors.error_classes["500 GET /"]), (2, 1));
}

#[test]
fn replicas_are_counted_until_their_endpoint_goes() {
    let counters = Counters::new(2);
    let (first, again) = (endpoints(&["a", "b"]), endpoints(&["b"]));
    counters.replicas_in_force(&first);
    let end = |shard: usize, endpoint: &EndpointState, outcome| {
        counters.shards()[shard].end(Ended { replica: Some(endpoint.number), ..ended(key(5), outcome) }, Instant::now)
    };
    end(0, &first[0], Outcome::Success);
    end(1, &first[0], Outcome::ServerError);
    let told = || counters.snapshot().replicas.iter().map(|cell| (cell.id.clone(), cell.counts.requests())).collect::<Vec<_>>();
    assert_eq!(told(), [("a".to_owned(), 2)], "those without requests are left out");
    counters.replicas_in_force(&[first[0].clone(), again[0].clone()]);
    end(0, &first[1], Outcome::Success);
    assert_eq!(told(), [("a".to_owned(), 2)], "the old b has gone");
    end(0, &again[0], Outcome::Success);
    assert_eq!(told(), [("a".to_owned(), 2), ("b".to_owned(), 1)], "the new b is another one");

    let many = endpoints(&["x"; 70]);
    counters.replicas_in_force(&many);
    many.iter().for_each(|endpoint| _ = end(0, endpoint, Outcome::Success));
    assert_eq!(told().len(), MAX_REPLICAS);
}

#[test]
fn classes_never_shrink_however_workers_share_them() {
    let counters = Counters::new(3);
    let mut before = Counts::default();
    // Far more classes than have a place, in another order at each worker.
    for step in 0..600_usize {
        let worker = step % 3;
        let uri = format!("/r{}x", (step * (worker + 7)) % 61);
        let subject = Subject::of(&http::Request::get(uri).body(()).unwrap().into_parts().0);
        let status = 500 + u16::try_from(step % 4).unwrap();
        let class = counters.classes.class(key(5), Outcome::ServerError, status, &subject);
        counters.shards()[worker].end(Ended { class: Some(class), ..ended(key(5), Outcome::ServerError) }, Instant::now);
        let now = counters.snapshot().cells.remove(0).counts;
        assert_eq!(now.since(&before).all(), 1, "a class lost its place");
        before = now;
    }
    assert!(before.error_classes[OTHER_ERRORS] > 0);
    assert_eq!(before.error_classes.values().sum::<u64>(), 600);
}

#[derive(Debug, Clone)]
enum Step {
    Begin { shard: usize },
    End { chosen: usize, outcome: usize },
    Pass { us: u64 },
    Look,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0_usize..2).prop_map(|shard| Step::Begin { shard }),
        2 => (any::<usize>(), 0_usize..8).prop_map(|(chosen, outcome)| Step::End { chosen, outcome }),
        3 => (0_u64..5_000).prop_map(|us| Step::Pass { us }),
        3 => Just(Step::Look),
    ];
    proptest::collection::vec(step, 0..150)
}

proptest! {
    #[test]
    fn the_older_ones_never_become_fewer_and_nobody_counts_twice(steps in steps(), is_sticky in any::<bool>()) {
        let counters = Counters::new(2);
        let key = if is_sticky { sticky() } else { key(5) };
        let (mut now, mut open, mut begun, mut before) = (Instant::now(), Vec::new(), 0, [0; 6]);
        for step in steps {
            match step {
                Step::Begin { shard } => {
                    open.push((shard, now, counters.shards()[shard].begin(0, key, now)));
                    begun += 1;
                }
                Step::End { chosen, outcome } if !open.is_empty() => {
                    let (shard, started, id) = open.swap_remove(chosen % open.len());
                    let outcome = Outcome::ALL[outcome];
                    let ended = Ended { started, open: Some(id), first: true, ..ended(key, outcome) };
                    counters.shards()[shard].end(ended, || now);
                }
                Step::End { .. } => {}
                Step::Pass { us } => now += Duration::from_micros(us),
                Step::Look => {
                    let snapshot = counters.snapshot_at(|| now);
                    let after = older(&snapshot, key);
                    for ((before, after), edge) in before.iter().zip(after).zip(EDGES_US) {
                        prop_assert!(after >= *before, "fewer above {edge} µs: {after} after {before}");
                        prop_assert!(after <= begun, "more above {edge} µs than there ever were: {after} of {begun}");
                    }
                    let told: u64 = snapshot.cells.iter().map(|cell| cell.counts.all()).sum();
                    let still: u64 = snapshot.open.iter().map(|cell| cell.ages.total()).sum();
                    prop_assert_eq!((told + still, still), (begun, open.len() as u64));
                    before = after;
                }
            }
        }
    }
}

/// A latency taken before the lock would be less than the age at a reading in between.
#[test]
fn the_clock_is_read_within_the_lock() {
    let counters = Counters::new(1);
    let shard = &counters.shards()[0];
    let clock = || {
        assert!(shard.state.try_lock().is_err(), "nobody holds the lock");
        Instant::now()
    };
    let open = Some(shard.begin(0, key(5), Instant::now()));
    assert_eq!(counters.snapshot_at(clock).open.len(), 1);
    shard.end(Ended { open, ..ended(key(5), Outcome::Success) }, clock);
    assert_eq!(counters.snapshot_at(clock).open, []);
}

/// Fails if a request leaves the open ones in another step than it enters its cell.
#[test]
fn no_request_is_missing_or_counted_twice_while_a_worker_works() {
    let counters = Counters::new(1);
    let (asked, begun, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (shard, mut open) = (&counters.shards()[0], VecDeque::new());
            while !stop.load(SeqCst) {
                let started = Instant::now();
                asked.fetch_add(1, SeqCst);
                open.push_back((started, shard.begin(0, key(5), started)));
                begun.fetch_add(1, SeqCst);
                if open.len() > 5
                    && let Some((started, id)) = open.pop_front()
                {
                    shard.end(Ended { started, open: Some(id), ..ended(key(5), Outcome::Success) }, Instant::now);
                }
            }
        });
        let look = |before: &mut [u64; 6]| {
            let least = begun.load(SeqCst);
            let snapshot = counters.snapshot();
            let most = asked.load(SeqCst);
            let told: u64 = snapshot.cells.iter().map(|cell| cell.counts.all()).sum();
            let still: u64 = snapshot.open.iter().map(|cell| cell.ages.total()).sum();
            let after = older(&snapshot, key(5));
            let fewer = before.iter().zip(after).any(|(before, after)| after < *before);
            let faulty = fewer || !(least..=most).contains(&(told + still));
            let before = std::mem::replace(before, after);
            faulty.then(|| format!("{told} + {still} of {least} to {most}; {before:?}, then {after:?}"))
        };
        let (mut looks, mut fault, mut before, deadline) = (0, None, [0; 6], Instant::now() + Duration::from_secs(20));
        while fault.is_none() && (looks < 5_000 || before[0] < 20_000) && Instant::now() < deadline {
            looks += 1;
            fault = look(&mut before);
        }
        stop.store(true, SeqCst);
        assert_eq!(fault, None);
        assert!(before[0] >= 20_000, "the worker did not work: {before:?}");
    });
}
