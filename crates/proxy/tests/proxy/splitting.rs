//! Who gets a request: weights, matches, sticky clients, and the swap of tables.

use serin_core::traffic::{Arm, Assignment};
use serin_proxy::table::{MatchRule, Sticky};

use crate::common::*;

async fn arms(client: &mut Client, count: usize) -> Vec<bool> {
    let mut canary = Vec::new();
    for _ in 0..count {
        canary.push(client.get("/", &[]).await.body == "canary");
    }
    canary
}

#[tokio::test]
async fn the_split_is_exact_over_a_block_and_random_within() {
    let (stable, canary) = (Upstream::named("stable").await, Upstream::named("canary").await);
    let proxy = Proxy::with_workers(table(stable.addr, Some(canary.addr), 2000), 1).await;
    let mut client = Client::connect(proxy.addr).await;
    let mut blocks = Vec::new();
    for _ in 0..3 {
        let block = arms(&mut client, 100).await;
        assert_eq!(block.iter().filter(|canary| **canary).count(), 20);
        blocks.push(block);
    }
    assert!(blocks[0] != blocks[1] || blocks[1] != blocks[2]);
    let stats = proxy.stats(|stats| total(stats) == 300).await;
    assert_eq!(counts(&stats, Arm::Canary, Assignment::Random).requests(), 60);
    assert_eq!(counts(&stats, Arm::Stable, Assignment::Random).requests(), 240);
}

#[tokio::test]
async fn a_share_below_one_percent_is_exact_too() {
    let (stable, canary) = (Upstream::named("stable").await, Upstream::named("canary").await);
    let proxy = Proxy::with_workers(table(stable.addr, Some(canary.addr), 50), 1).await;
    let mut client = Client::connect(proxy.addr).await;
    let block = arms(&mut client, 200).await;
    assert_eq!(block.iter().filter(|canary| **canary).count(), 1);
}

#[tokio::test]
async fn matches_come_before_the_weight_and_go_in_the_same_swap() {
    let (stable, canary) = (Upstream::named("stable").await, Upstream::named("canary").await);
    let mut first = table(stable.addr, Some(canary.addr), 0);
    let rule = MatchRule { headers: vec![("x-canary".to_owned(), "true".to_owned())], cookies: vec![] };
    first.matches = vec![rule];
    let proxy = Proxy::start(first.clone()).await;
    let mut client = Client::connect(proxy.addr).await;
    assert_eq!(client.get("/", &[("x-canary", "true")]).await.body, "canary");
    assert_eq!(client.get("/", &[]).await.body, "stable");

    let mut second = first;
    second.version = 2;
    second.matches.clear();
    proxy.link.apply(second).await.unwrap();
    // The connection was kept: the new table counts from the next request on.
    assert_eq!(client.get("/", &[("x-canary", "true")]).await.body, "stable");
    let stats = proxy.stats(|stats| total(stats) == 3).await;
    assert_eq!(counts(&stats, Arm::Canary, Assignment::Matched).requests(), 1);
    assert_eq!(counts(&stats, Arm::Stable, Assignment::Forced).requests(), 2);
}

#[tokio::test]
async fn a_cookie_keeps_its_client_on_its_arm_and_raising_the_weight_only_adds_clients() {
    let (stable, canary) = (Upstream::named("stable").await, Upstream::named("canary").await);
    let mut sticky = table(stable.addr, Some(canary.addr), 1000);
    sticky.sticky = Some(Sticky::Cookie { name: "serin".to_owned(), max_age_s: 3600 });
    let proxy = Proxy::start(sticky.clone()).await;
    let mut client = Client::connect(proxy.addr).await;
    let mut clients = Vec::new();
    for _ in 0..60 {
        let first = client.get("/", &[]).await;
        let cookie = first.header("set-cookie").split(';').next().unwrap().to_owned();
        assert!(cookie.starts_with("serin="), "{first:?}");
        clients.push((cookie, first.body));
    }
    for (version, weight) in [(2, 1000), (3, 4000), (4, 9000)] {
        sticky.version = version;
        sticky.weight = bps(weight);
        proxy.link.apply(sticky.clone()).await.unwrap();
        for (cookie, before) in &mut clients {
            let again = client.get("/", &[("cookie", cookie)]).await;
            assert_eq!(again.header("set-cookie"), "", "issued twice");
            assert!(weight > 1000 || again.body == *before, "the same weight moved a client");
            assert!(before != "canary" || again.body == "canary", "a client left the canary at {weight}");
            *before = again.body;
        }
    }
    assert!(clients.iter().filter(|(_, arm)| arm == "canary").count() > 40);
    let stats = proxy.stats(|stats| total(stats) == 240).await;
    assert_eq!(
        counts(&stats, Arm::Canary, Assignment::Sticky).requests() + counts(&stats, Arm::Stable, Assignment::Sticky).requests(),
        240
    );
}

#[tokio::test]
async fn requests_count_at_the_weight_that_assigned_them() {
    let (release, _) = tokio::sync::broadcast::channel::<()>(1);
    let gate = release.clone();
    let slow = Upstream::http(move |_| {
        let mut gate = gate.subscribe();
        async move {
            let _ = gate.recv().await;
            text("slow")
        }
    })
    .await;
    let stable = Upstream::named("stable").await;
    let first = table(stable.addr, Some(slow.addr), 10_000);
    let proxy = Proxy::start(first.clone()).await;
    let addr = proxy.addr;
    let pending = tokio::spawn(async move { get(addr, "/").await });
    proxy.stats(|stats| stats.in_flight == [0, 1]).await;
    until(async || (release.receiver_count() == 1).then_some(())).await;

    let mut second = first;
    second.version = 2;
    second.weight = bps(0);
    proxy.link.apply(second).await.unwrap();
    assert_eq!(get(addr, "/").await.body, "stable");
    release.send(()).unwrap();
    assert_eq!(pending.await.unwrap().body, "slow");
    let stats = proxy.stats(|stats| total(stats) == 2).await;
    let weights: Vec<_> = stats.cells.iter().map(|cell| (cell.weight.canary_bps(), cell.arm)).collect();
    assert_eq!(weights, [(0, Arm::Stable), (10_000, Arm::Canary)]);
    assert_eq!(stats.in_flight, [0, 0]);
}
