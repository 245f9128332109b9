//! What goes through unchanged, and what is changed on the way.

use std::sync::atomic::Ordering::SeqCst;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Frame};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::common::*;

fn chunks(count: usize, size: usize) -> Body {
    let (feed, body) = fed();
    tokio::spawn(async move {
        for _ in 0..count {
            if feed.send(Frame::data(Bytes::from(vec![b'x'; size]))).await.is_err() {
                return;
            }
        }
    });
    body
}

#[tokio::test]
async fn large_bodies_stream_both_ways() {
    let upstream = Upstream::http(|request| async move {
        let mut size = 0;
        let mut body = request.into_body();
        while let Some(frame) = body.frame().await {
            size += frame.unwrap().data_ref().map_or(0, Bytes::len);
        }
        let mut response = Response::new(chunks(1000, 20_000));
        response.headers_mut().insert("x-received", HeaderValue::from(size));
        response
    })
    .await;
    let proxy = Proxy::start(table(upstream.addr, None, 0)).await;
    let upload = http::Request::post("/").body(chunks(1000, 20_000)).unwrap();
    let answer = Client::connect(proxy.addr).await.ask(upload).await;
    assert_eq!((answer.header("x-received"), answer.body.len()), ("20000000", 20_000_000));
    let stats = proxy.stats(|stats| total(stats) == 1).await;
    assert_eq!(stats.in_flight, [0, 0]);
}

#[tokio::test]
async fn each_piece_arrives_before_the_next_is_sent() {
    let upstream = Upstream::http(|request| async move { Response::new(request.into_body().map_err(std::io::Error::other).boxed()) }).await;
    let proxy = Proxy::start(table(upstream.addr, None, 0)).await;
    let (feed, body) = fed();
    let mut client = Client::connect(proxy.addr).await;
    let mut echo = client.send(http::Request::post("/").body(body).unwrap()).await.unwrap().into_body();
    for piece in ["one", "two", "three"] {
        feed.send(Frame::data(Bytes::from(piece))).await.unwrap();
        let got = tokio::time::timeout(DEADLINE, echo.frame()).await.unwrap().unwrap().unwrap();
        assert_eq!(got.into_data().unwrap(), piece);
    }
    drop(feed);
    assert!(tokio::time::timeout(DEADLINE, echo.frame()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_the_upstream_back() {
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = sent.clone();
    let upstream = Upstream::http(move |_| {
        let count = count.clone();
        async move {
            let (feed, body) = fed();
            tokio::spawn(async move {
                for _ in 0..4000 {
                    if feed.send(Frame::data(Bytes::from(vec![b'x'; 20_000]))).await.is_err() {
                        return;
                    }
                    count.fetch_add(1, SeqCst);
                }
            });
            Response::new(body)
        }
    })
    .await;
    let mut quick = table(upstream.addr, None, 0);
    quick.timeouts.idle_ms = 1_000;
    let proxy = Proxy::start(quick).await;
    let mut lazy = TcpStream::connect(proxy.addr).await.unwrap();
    lazy.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    // The proxy gives the client up after the idle time; most of the 80 MB was never fetched.
    let stats = proxy.stats(|stats| total(stats) == 1).await;
    assert_eq!(ended(&stats, serin_core::traffic::Outcome::ClientAborted), 1);
    assert!(sent.load(SeqCst) < 3000, "{} pieces were gathered", sent.load(SeqCst));
}

#[tokio::test]
async fn connections_are_kept_on_both_sides() {
    let upstream = Upstream::named("stable").await;
    let proxy = Proxy::with_workers(table(upstream.addr, None, 0), 1).await;
    let mut client = Client::connect(proxy.addr).await;
    for _ in 0..20 {
        assert_eq!(client.get("/", &[]).await.body, "stable");
    }
    assert_eq!((upstream.connections.load(SeqCst), upstream.requests.load(SeqCst)), (1, 20));
}

#[tokio::test]
async fn headers_reach_the_version_and_the_client_without_hop_by_hop_fields() {
    let upstream = Upstream::http(|request| async move {
        let mut lines: Vec<String> = request.headers().iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        let mut response = text(format!("{}\n{}", request.uri(), lines.join("\n")));
        for (name, value) in [("connection", "x-internal"), ("x-internal", "1"), ("keep-alive", "timeout=5"), ("x-kept", "yes")] {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    })
    .await;
    let proxy = Proxy::start(table(upstream.addr, None, 0)).await;
    let answer = raw(
        proxy.addr,
        b"GET http://shop.test/a?q=1 HTTP/1.1\r\nHost: other\r\nConnection: close, X-Drop\r\nX-Drop: 1\r\nX-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\nProxy-Connection: keep-alive\r\n\r\n",
    )
    .await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, "/a?q=1\nhost: shop.test\nx-forwarded-for: 9.9.9.9, 127.0.0.1\nx-forwarded-host: shop.test\nx-forwarded-proto: http");
    assert!(head.contains("x-kept: yes") && !head.contains("x-internal") && !head.contains("keep-alive"), "{head}");
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let upstream = Upstream::http(|request| async move {
        let collected = request.into_body().collect().await.unwrap();
        let sum = collected.trailers().map_or(HeaderValue::from_static("none"), |trailers| trailers["x-sum"].clone());
        let mut trailers = HeaderMap::new();
        trailers.insert("x-echo", sum);
        let (feed, body) = fed();
        tokio::spawn(async move {
            for frame in [Frame::data(Bytes::from("body")), Frame::trailers(trailers)] {
                let _ = feed.send(frame).await;
            }
        });
        let mut response = Response::new(body);
        response.headers_mut().insert("trailer", HeaderValue::from_static("x-echo"));
        response
    })
    .await;
    let proxy = Proxy::start(table(upstream.addr, None, 0)).await;
    let answer = raw(
        proxy.addr,
        b"POST / HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: te, close\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 42\r\n\r\n",
    )
    .await;
    assert!(answer.ends_with("0\r\nx-echo: 42\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn expect_continue_is_answered_before_the_body_is_sent() {
    let upstream = Upstream::http(|request| async move { text(request.into_body().collect().await.unwrap().to_bytes()) }).await;
    let proxy = Proxy::start(table(upstream.addr, None, 0)).await;
    let mut stream = TcpStream::connect(proxy.addr).await.unwrap();
    let head = b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\nconnection: close\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let go_on = tokio::time::timeout(DEADLINE, read_head(&mut stream)).await.unwrap();
    assert!(go_on.starts_with(b"HTTP/1.1 100"), "{}", String::from_utf8_lossy(&go_on));
    stream.write_all(b"hello").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
}

#[tokio::test]
async fn answers_without_body_stay_without() {
    let upstream = Upstream::http(|request| async move {
        let status = request.uri().path()[1..].parse().unwrap_or(200);
        let mut response = if status == 200 { text("12345") } else { text("") };
        *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
        response
    })
    .await;
    let proxy = Proxy::start(table(upstream.addr, None, 0)).await;
    let mut client = Client::connect(proxy.addr).await;
    let head = client.ask(request("HEAD", "/", &[], "")).await;
    assert_eq!((head.status, head.header("content-length"), head.body.as_str()), (200, "5", ""));
    for status in [204, 304] {
        let answer = client.get(&format!("/{status}"), &[]).await;
        assert_eq!((answer.status, answer.body.as_str()), (status, ""));
    }
    assert_eq!(client.get("/", &[]).await.body, "12345");
    let stats = proxy.stats(|stats| total(stats) == 4).await;
    assert_eq!(ended(&stats, serin_core::traffic::Outcome::Redirect), 1);
}

#[tokio::test]
async fn old_clients_without_host_are_served() {
    let upstream = Upstream::http(|request| async move { text(request.headers()["host"].to_str().unwrap().to_owned()) }).await;
    let proxy = Proxy::start(table(upstream.addr, None, 0)).await;
    let answer = raw(proxy.addr, b"GET / HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200") && answer.ends_with(&upstream.addr.to_string()), "{answer}");
}

#[tokio::test]
async fn a_get_with_a_chunked_body_keeps_it() {
    let upstream = Upstream::http(|request| async move {
        assert!(!request.body().is_end_stream());
        text(request.into_body().collect().await.unwrap().to_bytes())
    })
    .await;
    let proxy = Proxy::start(table(upstream.addr, None, 0)).await;
    let answer =
        raw(proxy.addr, b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n").await;
    assert!(answer.ends_with("\r\n\r\nabc"), "{answer}");
}
