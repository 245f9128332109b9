//! Versions that fail, and what clients see of it.

use std::sync::atomic::Ordering::SeqCst;

use http_body_util::BodyExt as _;
use serin_core::traffic::{Arm, Assignment, Outcome};
use serin_proxy::table::HealthCheck;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::common::*;

/// The canary failed once with `outcome`, stable answered, and nobody was counted twice.
async fn rescued_once(proxy: &Proxy, outcome: Outcome) {
    let stats = proxy.stats(|stats| total(stats) == 2).await;
    let canary = counts(&stats, Arm::Canary, Assignment::Forced);
    assert_eq!((canary.of(outcome), canary.requests()), (1, 1), "{stats:#?}");
    assert_eq!(counts(&stats, Arm::Stable, Assignment::Rescue).of(Outcome::Success), 1);
    assert_eq!((stats.rescued, stats.own_errors, stats.in_flight), (1, 0, [0, 0]));
}

#[tokio::test]
async fn a_failed_connect_is_tried_on_another_replica_with_the_body_intact() {
    let echo = Upstream::http(|request| async move { text(request.into_body().collect().await.unwrap().to_bytes()) }).await;
    let mut both = table(echo.addr, None, 0);
    both.stable = pool(&[nowhere().await, echo.addr]);
    let proxy = Proxy::start(both).await;
    for _ in 0..10 {
        let answer = Client::connect(proxy.addr).await.ask(request("POST", "/", &[], "precious")).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "precious"));
    }
    let stats = proxy.stats(|stats| total(stats) == 10).await;
    assert_eq!((ended(&stats, Outcome::Success), stats.rescued), (10, 0));
    assert!(stats.endpoints.iter().all(|endpoint| endpoint.healthy), "nothing checks them");
}

#[tokio::test]
async fn a_canary_that_is_down_costs_no_client_anything() {
    let stable = Upstream::http(|request| async move { text(request.into_body().collect().await.unwrap().to_bytes()) }).await;
    let proxy = Proxy::start(table(stable.addr, Some(nowhere().await), 10_000)).await;
    let answer = Client::connect(proxy.addr).await.ask(request("POST", "/", &[], "precious")).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "precious"));
    rescued_once(&proxy, Outcome::Transport).await;
}

#[tokio::test]
async fn a_canary_that_breaks_or_babbles_is_rescued_where_that_is_safe() {
    for words in [&b""[..], b"220 smtp ready\r\n", b"HTTP/1.1 200 OK\r\ncontent-le", b"HTTP/1.1 101 X\r\n\r\n"] {
        let stable = Upstream::named("stable").await;
        let canary = Upstream::saying(words).await;
        let proxy = Proxy::start(table(stable.addr, Some(canary.addr), 10_000)).await;
        assert_eq!(get(proxy.addr, "/").await.body, "stable");
        rescued_once(&proxy, Outcome::Transport).await;

        let unsafe_one = Client::connect(proxy.addr).await.ask(request("POST", "/", &[], "x")).await;
        assert_eq!((unsafe_one.status, unsafe_one.header("x-serin-error")), (502, "broken-answer"));
        let stats = proxy.stats(|stats| total(stats) == 3).await;
        assert_eq!((stats.rescued, stats.own_errors, stable.requests.load(SeqCst)), (1, 1, 1));
    }
}

#[tokio::test]
async fn a_canary_that_hangs_is_rescued_and_a_stable_that_hangs_is_a_504() {
    let (stable, canary) = (Upstream::named("stable").await, Upstream::silent().await);
    let mut quick = table(stable.addr, Some(canary.addr), 10_000);
    quick.timeouts.response_ms = 1_000;
    let proxy = Proxy::start(quick.clone()).await;
    assert_eq!(get(proxy.addr, "/").await.body, "stable");
    rescued_once(&proxy, Outcome::Timeout).await;

    quick.version = 2;
    quick.stable = pool(&[canary.addr]);
    quick.canary = None;
    quick.weight = bps(0);
    proxy.link.apply(quick).await.unwrap();
    let answer = get(proxy.addr, "/").await;
    assert_eq!((answer.status, answer.header("x-serin-error")), (504, "response-timeout"));
    assert!(!answer.body.contains("127.0.0.1"), "{answer:?}");
    let stats = proxy.stats(|stats| total(stats) == 3).await;
    assert_eq!((counts(&stats, Arm::Stable, Assignment::Forced).of(Outcome::Timeout), stats.own_errors), (1, 1));
}

#[tokio::test]
async fn an_error_that_the_canary_answers_is_its_answer() {
    let stable = Upstream::named("stable").await;
    let canary = Upstream::http(|_| async {
        let mut response = text("sorry");
        *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
        response
    })
    .await;
    let proxy = Proxy::start(table(stable.addr, Some(canary.addr), 10_000)).await;
    let answer = get(proxy.addr, "/").await;
    assert_eq!((answer.status, answer.body.as_str(), answer.header("x-serin-error")), (503, "sorry", ""));
    let stats = proxy.stats(|stats| total(stats) == 1).await;
    assert_eq!((ended(&stats, Outcome::ServerError), stats.own_errors, stats.rescued), (1, 0, 0));
}

#[tokio::test]
async fn a_body_that_breaks_off_is_truncated_and_the_client_sees_it() {
    for words in
        [&b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"[..], b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"]
    {
        let upstream = Upstream::saying(words).await;
        let proxy = Proxy::start(table(upstream.addr, None, 0)).await;
        let response = Client::connect(proxy.addr).await.send(request("GET", "/", &[], "")).await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(response.into_body().collect().await.is_err(), "the client must not take it for whole");
        let stats = proxy.stats(|stats| total(stats) == 1).await;
        assert_eq!((ended(&stats, Outcome::Truncated), stats.in_flight), (1, [0, 0]));
    }
}

#[tokio::test]
async fn a_body_that_stalls_is_cut_off_after_the_idle_time() {
    let upstream = Upstream::raw(|mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await;
        let _ = stream.read_u8().await;
    })
    .await;
    let mut quick = table(upstream.addr, None, 0);
    quick.timeouts.idle_ms = 100;
    let proxy = Proxy::start(quick).await;
    let response = Client::connect(proxy.addr).await.send(request("GET", "/", &[], "")).await.unwrap();
    assert!(response.into_body().collect().await.is_err());
    let stats = proxy.stats(|stats| total(stats) == 1).await;
    assert_eq!(ended(&stats, Outcome::Truncated), 1);
}

#[tokio::test]
async fn a_client_that_stops_sending_its_body_gets_408_and_blames_no_version() {
    let upstream = Upstream::silent().await;
    let mut quick = table(upstream.addr, None, 0);
    quick.timeouts.idle_ms = 100;
    let proxy = Proxy::start(quick).await;
    let answer = raw(proxy.addr, b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf").await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("connection: close"), "{answer}");
    let stats = proxy.stats(|stats| total(stats) == 1).await;
    assert_eq!((ended(&stats, Outcome::ClientAborted), stats.own_errors), (1, 0));
}

#[tokio::test]
async fn a_kept_connection_that_died_is_replaced_without_the_client_noticing() {
    // Each connection serves one request and then reads the next one only to hang up.
    let upstream = Upstream::raw(|mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        read_head(&mut stream).await;
    })
    .await;
    let proxy = Proxy::with_workers(table(upstream.addr, None, 0), 1).await;
    let mut client = Client::connect(proxy.addr).await;
    for _ in 0..5 {
        assert_eq!(client.get("/", &[]).await.body, "ok");
    }
    // Something was lost on the way, but a POST may have been carried out: that is for the client to decide.
    let answer = client.ask(request("POST", "/", &[], "x")).await;
    assert_eq!(answer.status, 502);
    let stats = proxy.stats(|stats| total(stats) == 6).await;
    assert_eq!((ended(&stats, Outcome::Success), ended(&stats, Outcome::Transport)), (5, 1));
    assert_eq!(upstream.connections.load(SeqCst), 5);
}

#[tokio::test]
async fn sick_endpoints_get_no_requests_until_they_are_well() {
    let well = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let state = well.clone();
    let sick = Upstream::http(move |request| {
        let healthy = state.load(SeqCst);
        async move {
            let mut response = text("sick");
            if request.uri().path() == "/health" && !healthy {
                *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
            }
            response
        }
    })
    .await;
    let stable = Upstream::named("stable").await;
    let mut checked = table(stable.addr, Some(sick.addr), 10_000);
    let health = HealthCheck { path: Some("/health".to_owned()), interval_ms: 5, timeout_ms: 2_000, failures: 2 };
    checked.canary.as_mut().unwrap().health = Some(health);
    let proxy = Proxy::start(checked.clone()).await;
    let stats = proxy.stats(|stats| !stats.endpoints[1].healthy).await;
    assert!(stats.endpoints[1].last_error.as_deref().unwrap().contains("status 500"), "{stats:?}");
    assert!(stats.endpoints[0].healthy);
    assert_eq!(get(proxy.addr, "/").await.body, "stable");
    rescued_once(&proxy, Outcome::Transport).await;

    // Its state stays when the table changes: a new one would take a million failures to become sick.
    checked.version = 2;
    checked.canary.as_mut().unwrap().health.as_mut().unwrap().failures = 1_000_000;
    proxy.link.apply(checked.clone()).await.unwrap();
    assert!(!proxy.stats(|stats| stats.version == 2).await.endpoints[1].healthy);
    // It also moves along when the canary becomes stable.
    checked.version = 3;
    checked.weight = bps(0);
    checked.stable = checked.canary.take().unwrap();
    proxy.link.apply(checked).await.unwrap();
    let stats = proxy.stats(|stats| stats.version == 3).await;
    assert_eq!(stats.endpoints.len(), 1);
    assert!(!stats.endpoints[0].healthy);
    well.store(true, SeqCst);
    proxy.stats(|stats| stats.endpoints[0].healthy && stats.endpoints[0].last_error.is_none()).await;
    assert_eq!(get(proxy.addr, "/").await.body, "sick");
}

#[tokio::test]
async fn stable_is_tried_even_when_every_endpoint_is_sick() {
    let upstream = Upstream::http(|request| async move {
        let mut response = text("alive after all");
        if request.uri().path() == "/health" {
            *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
        }
        response
    })
    .await;
    let mut checked = table(upstream.addr, None, 0);
    checked.stable.health = Some(HealthCheck { path: Some("/health".to_owned()), interval_ms: 5, timeout_ms: 2_000, failures: 1 });
    let proxy = Proxy::start(checked).await;
    proxy.stats(|stats| !stats.endpoints[0].healthy).await;
    assert_eq!(get(proxy.addr, "/").await.body, "alive after all");
}

#[tokio::test]
async fn nothing_there_at_all_is_a_502_that_says_so() {
    let proxy = Proxy::start(table(nowhere().await, None, 0)).await;
    let answer = get(proxy.addr, "/").await;
    assert_eq!((answer.status, answer.header("x-serin-error")), (502, "connect"));
    assert_eq!(answer.body, "cannot connect to stable (e0)\n");
    let mut stream = TcpStream::connect(proxy.addr).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut again = String::new();
    stream.read_to_string(&mut again).await.unwrap();
    assert!(again.starts_with("HTTP/1.1 502"));
    assert_eq!(proxy.stats(|stats| total(stats) == 2).await.own_errors, 2);
}
