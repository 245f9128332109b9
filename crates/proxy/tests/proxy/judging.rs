//! What the judge gets to see beside outcomes: kinds of errors, ages of open requests, replicas, clients.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use hyper::body::Frame;
use serin_core::traffic::{Arm, Assignment, OTHER_ERRORS, Sessions};
use serin_proxy::{protocol::Stats, table::Sticky};
use tokio::time::Instant;

use crate::common::*;

fn classes(stats: &Stats, arm: Arm) -> BTreeMap<String, u64> {
    stats.cells.iter().filter(|cell| cell.arm == arm).flat_map(|cell| cell.counts.error_classes.clone()).collect()
}

fn expected<const N: usize>(classes: [(&str, u64); N]) -> BTreeMap<String, u64> {
    classes.into_iter().map(|(class, count)| (class.to_owned(), count)).collect()
}

/// Answers with the status that the query names.
async fn by_query() -> Upstream {
    Upstream::http(|request| async move {
        let mut response = text("answer");
        *response.status_mut() = request.uri().query().and_then(|status| status.parse().ok()).unwrap_or_default();
        if request.uri().path() == "/named" {
            response.headers_mut().insert("x-serin-route", http::HeaderValue::from_static("checkout"));
        }
        response
    })
    .await
}

#[tokio::test]
async fn errors_are_told_apart_by_status_method_and_route() {
    let upstream = by_query().await;
    let proxy = Proxy::start(table(upstream.addr, None, 0)).await;
    let mut client = Client::connect(proxy.addr).await;
    for (method, path) in [
        ("GET", "/users/1?503"),
        ("GET", "/users/22?503"),
        ("GET", "/users/22?500"),
        ("POST", "/users/22?503"),
        ("PURGE", "/users?503"),
        ("GET", "/users/1?404"),
        ("GET", "/users/1"),
    ] {
        client.ask(request(method, path, &[], "")).await;
    }
    let named = client.get("/named?500", &[]).await;
    assert_eq!((named.status, named.header("x-serin-route")), (500, "checkout"), "passed on unchanged");
    let stats = proxy.stats(|stats| total(stats) == 8).await;
    let wanted =
        [("503 GET /users/*", 2), ("500 GET /users/*", 1), ("503 POST /users/*", 1), ("503 OTHER /users", 1), ("500 GET checkout", 1)];
    assert_eq!(classes(&stats, Arm::Stable), expected(wanted));
}

#[tokio::test]
async fn failures_without_a_whole_answer_have_classes_too_and_a_rescue_keeps_its_subject() {
    let stable = by_query().await;
    let proxy = Proxy::start(table(stable.addr, Some(nowhere().await), 10_000)).await;
    assert_eq!(get(proxy.addr, "/a/1?503").await.status, 503);
    let stats = proxy.stats(|stats| total(stats) == 2).await;
    assert_eq!(classes(&stats, Arm::Canary), expected([("transport GET /a/*", 1)]));
    assert_eq!(classes(&stats, Arm::Stable), expected([("503 GET /a/*", 1)]));

    let cut = Upstream::saying(b"HTTP/1.1 200 OK\r\nx-serin-route: report\r\ncontent-length: 9\r\n\r\nhalf").await;
    let silent = Upstream::silent().await;
    for (upstream, class) in [(cut, "truncated GET report"), (silent, "timeout GET /a/*")] {
        let mut quick = table(upstream.addr, None, 0);
        quick.timeouts.response_ms = 1_000;
        let proxy = Proxy::start(quick).await;
        raw(proxy.addr, b"GET /a/1 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        let stats = proxy.stats(|stats| total(stats) == 1).await;
        assert_eq!(classes(&stats, Arm::Stable), expected([(class, 1)]));
    }
}

#[tokio::test]
async fn a_flood_of_failing_routes_stays_bounded() {
    let upstream = by_query().await;
    let proxy = Proxy::start(table(upstream.addr, None, 0)).await;
    let mut client = Client::connect(proxy.addr).await;
    for number in 0..100 {
        client.get(&format!("/page{number}x?500"), &[]).await;
    }
    let stats = proxy.stats(|stats| total(stats) == 100).await;
    let classes = classes(&stats, Arm::Stable);
    assert!(classes.len() <= 64, "{classes:?}");
    assert_eq!(classes.values().sum::<u64>(), 100);
    assert!(classes[OTHER_ERRORS] >= 36, "{classes:?}");
}

fn open_ages(stats: &Stats, arm: Arm, edge_us: u64) -> u64 {
    stats.open.iter().filter(|cell| cell.arm == arm).map(|cell| cell.ages.count_at_or_above_us(edge_us)).sum()
}

#[tokio::test]
async fn requests_that_hang_show_up_while_they_hang_and_grow_older() {
    let (stable, canary) = (Upstream::named("stable").await, Upstream::silent().await);
    let proxy = Proxy::start(table(stable.addr, Some(canary.addr), 10_000)).await;
    let addr = proxy.addr;
    let began = Instant::now();
    let hanging: Vec<_> = (0..3).map(|_| tokio::spawn(async move { get(addr, "/").await })).collect();
    let stats = proxy.stats(|stats| open_ages(stats, Arm::Canary, 0) == 3).await;
    let cell = &stats.open[0];
    assert_eq!((stats.open.len(), cell.weight, cell.assignment), (1, bps(10_000), Assignment::Forced));
    assert_eq!((total(&stats), stats.in_flight), (0, [0, 3]));

    let stats = proxy.stats(|stats| open_ages(stats, Arm::Canary, 1 << 18) == 3).await;
    assert!(began.elapsed() >= Duration::from_micros(1 << 18), "older than they are");
    assert_eq!(total(&stats), 0);
    hanging.iter().for_each(tokio::task::JoinHandle::abort);
    let stats = proxy.stats(|stats| total(stats) == 3).await;
    assert_eq!(stats.open, [], "given up on: counted, and open no more");
    assert_eq!(stats.cells[0].counts.slow_or_failed(1 << 18), 3);
}

#[tokio::test]
async fn an_answer_that_streams_is_open_until_its_end() {
    let (feeds, mut fed_by) = tokio::sync::mpsc::channel(1);
    let upstream = Upstream::http(move |_| {
        let feeds = feeds.clone();
        async move {
            let (feed, body) = fed();
            feeds.send(feed).await.unwrap();
            http::Response::new(body)
        }
    })
    .await;
    let proxy = Proxy::start(table(upstream.addr, None, 0)).await;
    let addr = proxy.addr;
    let client = tokio::spawn(async move { get(addr, "/").await });
    let feed = fed_by.recv().await.unwrap();
    feed.send(Frame::data(Bytes::from("first"))).await.unwrap();
    proxy.stats(|stats| open_ages(stats, Arm::Stable, 1 << 16) == 1).await;
    drop(feed);
    assert_eq!(client.await.unwrap().body, "first");
    let stats = proxy.stats(|stats| total(stats) == 1).await;
    assert_eq!(stats.open, []);
}

#[tokio::test]
async fn every_replica_of_stable_is_counted_for_compared_requests() {
    let (one, two) = (Upstream::named("one").await, by_query().await);
    let canary = Upstream::named("canary").await;
    let mut replicated = table(one.addr, Some(canary.addr), 5_000);
    replicated.stable = pool(&[one.addr, two.addr, nowhere().await]);
    let proxy = Proxy::start(replicated.clone()).await;
    let mut client = Client::connect(proxy.addr).await;
    let mut answers: BTreeMap<String, u64> = BTreeMap::new();
    for _ in 0..200 {
        *answers.entry(client.get("/?500", &[]).await.body).or_default() += 1;
    }
    let stats = proxy.stats(|stats| total(stats) == 200).await;
    let told: Vec<_> = stats.replicas.iter().map(|cell| (cell.id.as_str(), cell.counts.requests(), cell.counts.errors())).collect();
    assert_eq!(told, [("e0", answers["one"], 0), ("e1", answers["answer"], answers["answer"])], "refused connections belong to nobody");

    replicated.version = 2;
    replicated.stable.endpoints.remove(0);
    replicated.weight = bps(0);
    proxy.link.apply(replicated).await.unwrap();
    client.get("/?500", &[]).await;
    let stats = proxy.stats(|stats| total(stats) == 201).await;
    let told: Vec<_> = stats.replicas.iter().map(|cell| (cell.id.as_str(), cell.counts.requests())).collect();
    assert_eq!(told, [("e1", answers["answer"])], "the first has gone, and what was forced is not compared");
}

/// Of both arms and all weights: first requests, first errors.
fn sessions(stats: &Stats) -> Sessions {
    let mut sum = Sessions::default();
    for cell in &stats.cells {
        assert_eq!(cell.sessions.is_some(), cell.assignment == Assignment::Sticky);
        if let Some(sessions) = &cell.sessions {
            sum.first.merge(&sessions.first);
            sum.errors.merge(&sessions.errors);
        }
    }
    sum
}

#[tokio::test]
async fn a_client_counts_once_however_much_it_sends_or_fails() {
    let (stable, canary) = (by_query().await, by_query().await);
    let mut sticky = table(stable.addr, Some(canary.addr), 5_000);
    sticky.sticky = Some(Sticky::Header { name: "x-user".to_owned() });
    let proxy = Proxy::start(sticky.clone()).await;
    for _ in 0..50 {
        // Connections of their own go to different workers.
        Client::connect(proxy.addr).await.get("/", &[("x-user", "ann")]).await;
        Client::connect(proxy.addr).await.get("/a/1?503", &[("x-user", "ann")]).await;
    }
    let mut client = Client::connect(proxy.addr).await;
    client.get("/?500", &[("x-user", "bob")]).await;
    client.get("/", &[]).await;
    let stats = proxy.stats(|stats| total(stats) == 102).await;
    let Sessions { first, errors } = sessions(&stats);
    assert_eq!((first.requests(), first.errors(), errors.errors(), errors.all()), (2, 1, 2, 2));
    assert_eq!(errors.error_classes, expected([("500 GET /", 1), ("503 GET /a/*", 1)]));

    sticky.version = 2;
    sticky.weight = bps(6_000);
    proxy.link.apply(sticky.clone()).await.unwrap();
    client.get("/?500", &[("x-user", "ann")]).await;
    let stats = proxy.stats(|stats| total(stats) == 103).await;
    assert_eq!((sessions(&stats).first.all(), sessions(&stats).errors.all()), (3, 2), "the same release at another weight");

    sticky.version = 3;
    sticky.salt = "the next release".to_owned();
    proxy.link.apply(sticky).await.unwrap();
    client.get("/?500", &[("x-user", "ann")]).await;
    let stats = proxy.stats(|stats| total(stats) == 104).await;
    assert_eq!((sessions(&stats).first.all(), sessions(&stats).errors.all()), (4, 3), "another release");
}

/// First requests and first errors of clients at a weight, both arms.
fn sessions_at(stats: &Stats, weight: u16) -> (u64, u64) {
    let at_weight = |arm: Arm| {
        let cell = stats.cells.iter().find(|cell| cell.weight == bps(weight) && cell.arm == arm);
        let sessions = cell.and_then(|cell| cell.sessions.clone()).unwrap_or_default();
        (sessions.first.all(), sessions.errors.all())
    };
    let [(stable, stable_errors), (canary, canary_errors)] = Arm::BOTH.map(at_weight);
    (stable + canary, stable_errors + canary_errors)
}

#[tokio::test]
async fn at_another_weight_everybody_has_a_first_request_again_and_nobody_a_first_error() {
    let (stable, canary) = (by_query().await, by_query().await);
    let mut sticky = table(stable.addr, Some(canary.addr), 1_000);
    sticky.sticky = Some(Sticky::Header { name: "x-user".to_owned() });
    let proxy = Proxy::start(sticky.clone()).await;
    let round = async |users: std::ops::Range<u32>, path: &str| {
        for user in users {
            Client::connect(proxy.addr).await.get(path, &[("x-user", &format!("user-{user}"))]).await;
        }
    };
    round(0..40, "/?500").await;
    round(0..20, "/?503").await;
    let stats = proxy.stats(|stats| total(stats) == 60).await;
    assert_eq!(sessions_at(&stats, 1_000), (40, 40));

    sticky.version = 2;
    sticky.weight = bps(2_500);
    proxy.link.apply(sticky.clone()).await.unwrap();
    round(0..40, "/").await;
    round(0..40, "/?500").await;
    round(40..42, "/?500").await;
    let stats = proxy.stats(|stats| total(stats) == 142).await;
    assert_eq!((sessions_at(&stats, 1_000), sessions_at(&stats, 2_500)), ((40, 40), (42, 2)));
    let split = Arm::BOTH.map(|arm| counts(&stats, arm, Assignment::Sticky).all());
    assert!(split.iter().all(|requests| *requests > 0), "{split:?}");

    // Another table of the same weight changes nothing.
    sticky.version = 3;
    sticky.timeouts.idle_ms += 1;
    proxy.link.apply(sticky).await.unwrap();
    round(0..42, "/?500").await;
    let stats = proxy.stats(|stats| total(stats) == 184).await;
    assert_eq!((sessions_at(&stats, 1_000), sessions_at(&stats, 2_500)), ((40, 40), (42, 2)));
}

#[tokio::test]
async fn a_request_in_flight_belongs_to_the_weight_that_assigned_it() {
    let silent = Upstream::silent().await;
    let mut sticky = table(silent.addr, Some(silent.addr), 1_000);
    sticky.sticky = Some(Sticky::Header { name: "x-user".to_owned() });
    let proxy = Proxy::start(sticky.clone()).await;
    let addr = proxy.addr;
    let ask = || tokio::spawn(async move { Client::connect(addr).await.get("/", &[("x-user", "ann")]).await });
    let open =
        |stats: &Stats, weight| stats.open.iter().filter(|cell| cell.weight == bps(weight)).map(|cell| cell.ages.total()).sum::<u64>();
    let mut hanging = vec![ask(), ask()];
    proxy.stats(|stats| stats.in_flight.iter().sum::<u64>() == 2).await;
    sticky.version = 2;
    sticky.weight = bps(2_500);
    proxy.link.apply(sticky).await.unwrap();
    hanging.extend([ask(), ask()]);
    let stats = proxy.stats(|stats| stats.in_flight.iter().sum::<u64>() == 4).await;
    assert_eq!((open(&stats, 1_000), open(&stats, 2_500)), (1, 1));
    hanging.iter().for_each(tokio::task::JoinHandle::abort);
    let stats = proxy.stats(|stats| total(stats) == 4).await;
    assert_eq!((sessions_at(&stats, 1_000), sessions_at(&stats, 2_500), &stats.open[..]), ((1, 0), (1, 0), &[][..]));
}

#[tokio::test]
async fn only_the_first_request_of_a_client_is_among_the_open() {
    let silent = Upstream::silent().await;
    let mut sticky = table(silent.addr, Some(silent.addr), 5_000);
    sticky.sticky = Some(Sticky::Header { name: "x-user".to_owned() });
    let proxy = Proxy::start(sticky).await;
    let addr = proxy.addr;
    let ask = |user: &'static str| tokio::spawn(async move { Client::connect(addr).await.get("/", &[("x-user", user)]).await });
    let hanging = [ask("ann"), ask("ann"), ask("ann"), ask("bob")];
    let stats = proxy.stats(|stats| stats.in_flight.iter().sum::<u64>() == 4).await;
    assert_eq!(stats.open.iter().map(|cell| cell.ages.total()).sum::<u64>(), 2);
    assert!(stats.open.iter().all(|cell| cell.assignment == Assignment::Sticky));
    hanging.iter().for_each(tokio::task::JoinHandle::abort);
    let stats = proxy.stats(|stats| total(stats) == 4).await;
    assert_eq!((sessions(&stats).first.all(), &stats.open[..]), (2, &[][..]));
}

/// The canary of one release is the stable version of the next: its long streams say nothing about the next canary.
#[tokio::test]
async fn what_is_open_on_a_promoted_canary_is_not_the_next_ones() {
    let (stable, silent) = (Upstream::named("stable").await, Upstream::silent().await);
    let first = table(stable.addr, Some(silent.addr), 10_000);
    let proxy = Proxy::start(first.clone()).await;
    let addr = proxy.addr;
    let ask = || tokio::spawn(async move { get(addr, "/").await });
    let streams = [ask(), ask(), ask()];
    proxy.stats(|stats| open_ages(stats, Arm::Canary, 0) == 3).await;

    let mut promoted = first.clone();
    promoted.version = 2;
    promoted.stable = promoted.canary.take().unwrap();
    promoted.weight = bps(0);
    proxy.link.apply(promoted.clone()).await.unwrap();
    let stats = proxy.stats(|stats| stats.version == 2).await;
    assert_eq!((&stats.open[..], stats.in_flight, total(&stats)), (&[][..], [0, 0], 0));
    let busy: Vec<_> = stats.endpoints.iter().map(|endpoint| (endpoint.arm, endpoint.in_flight)).collect();
    assert_eq!(busy, [(Arm::Stable, 3)], "whoever stops that version must still see them");

    let mut next = promoted;
    next.version = 3;
    next.canary = Some(first.stable.clone());
    next.weight = bps(10_000);
    proxy.link.apply(next).await.unwrap();
    assert_eq!(get(addr, "/").await.body, "stable");
    streams.iter().for_each(tokio::task::JoinHandle::abort);
    let stats = proxy.stats(|stats| stats.endpoints.iter().all(|endpoint| endpoint.in_flight == 0)).await;
    assert_eq!((total(&stats), stats.cells[0].arm, stats.cells[0].counts.errors()), (1, Arm::Canary, 0), "{:?}", stats.cells);
    assert_eq!((&stats.open[..], stats.in_flight), (&[][..], [0, 0]));
}
