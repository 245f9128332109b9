//! The second door, that leads to the canary alone.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU16, Ordering::SeqCst},
};

use http::StatusCode;
use serin_core::traffic::{Arm, Assignment};
use serin_proxy::{LinkError, table::RouteTable};
use tokio::net::TcpStream;

use crate::common::*;

/// An address that this process has, for as long as the socket lives. Below the ports that the system gives to whoever asks for any, so that
/// nobody gets it in the meantime.
fn taken() -> (std::net::TcpListener, SocketAddr) {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = u16::try_from(std::process::id().wrapping_mul(31) % 2_900).unwrap();
    let mut ports = (0..2_900).map(|_| 9_000 + begin.wrapping_add(NEXT.fetch_add(1, SeqCst)) % 2_900);
    ports.find_map(|port| Some((std::net::TcpListener::bind(("127.0.0.1", port)).ok()?, ([127, 0, 0, 1], port).into()))).unwrap()
}

fn previewed(stable: SocketAddr, canary: SocketAddr, preview: Option<SocketAddr>, version: u64) -> RouteTable {
    RouteTable { preview, version, ..table(stable, Some(canary), 0) }
}

async fn opened(address: SocketAddr) -> Client {
    until(async || TcpStream::connect(address).await.ok()).await;
    Client::connect(address).await
}

async fn closed(address: SocketAddr) {
    until(async || TcpStream::connect(address).await.is_err().then_some(())).await;
}

#[tokio::test]
async fn the_preview_address_leads_to_the_canary_and_everybody_else_to_stable() {
    let (stable, canary) = (Upstream::named("stable").await, Upstream::named("canary").await);
    let (socket, address) = taken();
    let proxy = Proxy::start(previewed(stable.addr, canary.addr, None, 1)).await;
    drop(socket);
    proxy.link.apply(previewed(stable.addr, canary.addr, Some(address), 2)).await.unwrap();
    let mut looker = Client::connect(address).await;
    for _ in 0..10 {
        assert_eq!(looker.get("/", &[]).await.body, "canary");
        assert_eq!(get(proxy.addr, "/").await.body, "stable");
    }
    let stats = proxy.stats(|stats| total(stats) == 20).await;
    assert_eq!(counts(&stats, Arm::Canary, Assignment::Preview).requests(), 10);
    assert_eq!(counts(&stats, Arm::Stable, Assignment::Forced).requests(), 10);
}

#[tokio::test]
async fn it_is_gone_in_the_swap_that_takes_it_also_for_connections_that_stand() {
    let (stable, canary) = (Upstream::named("stable").await, Upstream::named("canary").await);
    let (socket, address) = taken();
    drop(socket);
    let proxy = Proxy::start(previewed(stable.addr, canary.addr, Some(address), 1)).await;
    let mut looker = opened(address).await;
    assert_eq!(looker.get("/", &[]).await.body, "canary");
    proxy.link.apply(previewed(stable.addr, canary.addr, None, 2)).await.unwrap();
    let answer = looker.get("/", &[]).await;
    assert_eq!((answer.status, answer.header("x-serin-error")), (StatusCode::MISDIRECTED_REQUEST.as_u16(), "no-preview"));
    closed(address).await;
    assert_eq!(canary.requests.load(SeqCst), 1);
    // And it comes back, also before anybody let go of the address.
    for version in 3..=42 {
        let preview = (version % 2 == 0).then_some(address);
        proxy.link.apply(previewed(stable.addr, canary.addr, preview, version)).await.unwrap();
    }
    assert_eq!(opened(address).await.get("/", &[]).await.body, "canary");
}

#[tokio::test]
async fn who_looks_sees_failures_that_clients_would_be_spared() {
    let stable = Upstream::named("stable").await;
    let (socket, address) = taken();
    drop(socket);
    let proxy = Proxy::start(previewed(stable.addr, nowhere().await, Some(address), 1)).await;
    assert_eq!(opened(address).await.get("/", &[]).await.status, 502);
    let stats = proxy.stats(|stats| total(stats) == 1).await;
    assert_eq!((counts(&stats, Arm::Canary, Assignment::Preview).errors(), stats.rescued), (1, 0));
}

#[tokio::test]
async fn an_address_that_is_taken_is_a_reason_to_refuse_a_table_and_none_to_serve_nobody() {
    let (stable, canary) = (Upstream::named("stable").await, Upstream::named("canary").await);
    let (socket, address) = taken();
    let proxy = Proxy::start(previewed(stable.addr, canary.addr, None, 1)).await;
    let refused = proxy.link.apply(previewed(stable.addr, canary.addr, Some(address), 2)).await;
    assert!(matches!(&refused, Err(LinkError::Rejected { reason, .. }) if reason.contains("preview address")), "{refused:?}");
    assert_eq!(proxy.link.current_table().await.unwrap().unwrap().version, 1);
    drop(proxy);

    // What a proxy begins with is served whatever became of the address, which it takes as soon as it can.
    let proxy = Proxy::start(previewed(stable.addr, canary.addr, Some(address), 2)).await;
    assert_eq!(get(proxy.addr, "/").await.body, "stable");
    drop(socket);
    assert_eq!(opened(address).await.get("/", &[]).await.body, "canary");
}

#[tokio::test]
async fn a_successor_takes_the_address_when_its_predecessor_stops() {
    let (stable, canary) = (Upstream::named("stable").await, Upstream::named("canary").await);
    let (socket, address) = taken();
    drop(socket);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let old = Proxy::on(listener.try_clone().unwrap(), previewed(stable.addr, canary.addr, Some(address), 1)).await;
    opened(address).await;
    let new = Proxy::standing_by(listener, previewed(stable.addr, canary.addr, Some(address), 1)).await;
    new.link.serve().await.unwrap();
    old.link.shutdown(0).await.unwrap();
    old.ended().await.unwrap();
    assert_eq!(opened(address).await.get("/", &[]).await.body, "canary");
    let stats = new.stats(|stats| total(stats) == 1).await;
    assert_eq!(counts(&stats, Arm::Canary, Assignment::Preview).requests(), 1);
}
