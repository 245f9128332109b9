//! Counters agree with what clients did, whatever happened.

use std::sync::atomic::Ordering::SeqCst;

use bytes::Bytes;
use hyper::body::Frame;
use serin_core::traffic::{Arm, Assignment, Outcome};
use serin_proxy::table::AccessLog;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::common::*;

#[tokio::test]
async fn every_request_is_counted_exactly_once_by_status_and_latency() {
    let by_path = |request: http::Request<hyper::body::Incoming>| async move {
        let status: u16 = request.uri().path()[1..].parse().unwrap();
        let mut response = text(format!("{status}"));
        *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
        response
    };
    let (stable, canary) = (Upstream::http(by_path).await, Upstream::http(by_path).await);
    let proxy = Proxy::start(table(stable.addr, Some(canary.addr), 3000)).await;
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let addr = proxy.addr;
            tokio::spawn(async move {
                let mut client = Client::connect(addr).await;
                for n in 0..100 {
                    let status = [200, 302, 404, 500][n % 4];
                    assert_eq!(client.get(&format!("/{status}"), &[]).await.status, status);
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let stats = proxy.stats(|stats| total(stats) == 800).await;
    for outcome in [Outcome::Success, Outcome::Redirect, Outcome::ClientError, Outcome::ServerError] {
        assert_eq!(ended(&stats, outcome), 200, "{outcome:?}");
    }
    for (arm, upstream) in [(Arm::Stable, &stable), (Arm::Canary, &canary)] {
        let counts = counts(&stats, arm, Assignment::Random);
        assert_eq!(counts.requests(), upstream.requests.load(SeqCst) as u64);
        assert_eq!(counts.latency.total(), counts.requests() - counts.errors());
        assert!(counts.latency.quantile_us(0.5).unwrap() > 0.0);
    }
    assert_eq!((stats.in_flight, stats.own_errors), ([0, 0], 0));
    assert!(stats.endpoints.iter().all(|endpoint| endpoint.in_flight == 0));
}

#[tokio::test]
async fn a_client_that_goes_away_is_counted_apart_before_and_within_the_answer() {
    let upstream = Upstream::http(|request| async move {
        if request.uri().path() == "/never" {
            std::future::pending::<()>().await;
        }
        let (feed, body) = fed();
        tokio::spawn(async move {
            let _ = feed.send(Frame::data(Bytes::from("first"))).await;
            feed.closed().await;
        });
        http::Response::new(body)
    })
    .await;
    let proxy = Proxy::start(table(upstream.addr, None, 0)).await;
    let before = TcpStream::connect(proxy.addr).await.unwrap();
    let mut before = before;
    before.write_all(b"GET /never HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let stats = proxy.stats(|stats| stats.in_flight[0] == 1).await;
    assert_eq!((stats.endpoints[0].in_flight, total(&stats)), (1, 0));
    drop(before);
    let stats = proxy.stats(|stats| total(stats) == 1).await;
    assert_eq!(ended(&stats, Outcome::ClientAborted), 1);

    let mut within = TcpStream::connect(proxy.addr).await.unwrap();
    within.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert!(read_head(&mut within).await.starts_with(b"HTTP/1.1 200"));
    drop(within);
    let stats = proxy.stats(|stats| total(stats) == 2).await;
    assert_eq!((ended(&stats, Outcome::ClientAborted), stats.in_flight), (2, [0, 0]));

    let mut upload = TcpStream::connect(proxy.addr).await.unwrap();
    upload.write_all(b"POST /never HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf").await.unwrap();
    proxy.stats(|stats| stats.in_flight[0] == 1).await;
    drop(upload);
    let stats = proxy.stats(|stats| total(stats) == 3).await;
    assert_eq!(ended(&stats, Outcome::ClientAborted), 3);
    assert_eq!(counts(&stats, Arm::Stable, Assignment::Forced).requests(), 0);
}

#[tokio::test]
async fn latency_runs_until_the_body_ends() {
    let upstream = Upstream::http(|_| async {
        let (feed, body) = fed();
        tokio::spawn(async move {
            let _ = feed.send(Frame::data(Bytes::from("first"))).await;
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            let _ = feed.send(Frame::data(Bytes::from("last"))).await;
        });
        http::Response::new(body)
    })
    .await;
    let proxy = Proxy::start(table(upstream.addr, None, 0)).await;
    assert_eq!(get(proxy.addr, "/").await.body, "firstlast");
    let stats = proxy.stats(|stats| total(stats) == 1).await;
    assert_eq!(counts(&stats, Arm::Stable, Assignment::Forced).latency.count_at_or_above_us(95_000), 1);
}

#[tokio::test]
async fn the_access_log_has_a_line_per_request_without_secrets() {
    let upstream = Upstream::named("stable").await;
    let proxy = Proxy::start(None).await;
    let path = proxy.dir.path().join("access.log");
    let mut logged = table(upstream.addr, Some(nowhere().await), 10_000);
    logged.access_log = Some(AccessLog { path: path.clone(), max_bytes: 1_000_000 });
    proxy.link.apply(logged).await.unwrap();
    let mut client = Client::connect(proxy.addr).await;
    client.get("/buy?card=4111", &[("cookie", "session=secret"), ("authorization", "secret")]).await;
    client.get("/chat", &[("upgrade", "websocket")]).await;
    let text = until(async || std::fs::read_to_string(&path).ok().filter(|text| text.lines().count() == 2)).await;
    assert!(!text.contains("4111") && !text.contains("secret"), "{text}");
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let first = &lines[0];
    assert_eq!((&first["path"], &first["status"], &first["bytes"]), (&"/buy".into(), &200.into(), &6.into()));
    assert_eq!((&first["arm"], &first["assignment"]), (&"stable".into(), &"rescue".into()));
    assert_eq!((&first["weight_bps"], &first["table_version"]), (&10_000.into(), &1.into()));
    assert_eq!((&lines[1]["status"], &lines[1]["arm"]), (&501.into(), &serde_json::Value::Null));
}
