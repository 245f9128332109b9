//! What is not built yet, and what must never be passed on.

use std::sync::atomic::Ordering::SeqCst;

use crate::common::*;

#[tokio::test]
async fn what_is_not_built_is_refused_in_words_and_in_no_cell() {
    let upstream = Upstream::named("stable").await;
    let proxy = Proxy::start(table(upstream.addr, None, 0)).await;
    let cases: [(&[u8], &str, &str); 6] = [
        (
            b"GET /chat HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
            "HTTP/1.1 501",
            "x-serin-error: unsupported-upgrade",
        ),
        (b"CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n", "HTTP/1.1 501", "x-serin-error: unsupported-connect"),
        (
            b"POST /s/m HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc+proto\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 501",
            "x-serin-error: unsupported-grpc",
        ),
        (
            b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 501",
            "x-serin-error: unsupported-transfer-encoding",
        ),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", "HTTP/1.1 505", "x-serin-error: unsupported-http2"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/1.1 505", "send HTTP/1.1"),
    ];
    for (number, (bytes, status, words)) in cases.into_iter().enumerate() {
        let answer = raw(proxy.addr, bytes).await;
        assert!(answer.starts_with(status) && answer.contains(words), "{number}: {answer}");
        proxy.stats(|stats| stats.unsupported == number as u64 + 1).await;
    }
    let stats = proxy.stats(|_| true).await;
    assert_eq!((total(&stats), stats.own_errors, upstream.requests.load(SeqCst)), (0, 0, 0));
}

#[tokio::test]
async fn ambiguous_lengths_and_hosts_are_refused() {
    let upstream = Upstream::named("stable").await;
    let proxy = Proxy::start(table(upstream.addr, None, 0)).await;
    let cases: [&[u8]; 9] = [
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3, 4\r\n\r\nabcd",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\n folded: x\r\n\r\n",
    ];
    for (number, bytes) in cases.into_iter().enumerate() {
        let answer = raw(proxy.addr, bytes).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{number}: {answer}");
    }
    assert_eq!(upstream.requests.load(SeqCst), 0);
}

#[tokio::test]
async fn chunked_with_a_length_beside_it_hides_no_second_request() {
    let upstream = Upstream::http(|request| async move {
        let both = request.headers().contains_key("content-length");
        text(format!("{} {} {both}", request.method(), request.uri()))
    })
    .await;
    let proxy = Proxy::start(table(upstream.addr, None, 0)).await;
    for bytes in [
        &b"POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /b HTTP/1.1\r\nhost: a\r\n\r\n"[..],
        b"POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\nGET /b HTTP/1.1\r\nhost: a\r\n\r\n",
    ] {
        let answer = raw(proxy.addr, bytes).await;
        assert!(answer.contains("POST /a false"), "a second length was passed on: {answer}");
        assert!(!answer.contains("/b"), "a hidden request was carried out: {answer}");
    }
}

#[tokio::test]
async fn heads_are_bounded() {
    let upstream = Upstream::named("stable").await;
    let proxy = Proxy::start(table(upstream.addr, None, 0)).await;
    let many: String = (0..200).map(|n| format!("x-{n}: 1\r\n")).collect();
    let long = format!("x-long: {}\r\n", "x".repeat(100_000));
    for headers in [many, long] {
        let answer = raw(proxy.addr, format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}\r\n").as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{} bytes: {answer}", headers.len());
    }
    assert_eq!(upstream.requests.load(SeqCst), 0);
    assert_eq!(get(proxy.addr, "/").await.body, "stable");
}

#[tokio::test]
async fn without_a_table_there_is_a_503_that_says_so() {
    let proxy = Proxy::start(None).await;
    let answer = get(proxy.addr, "/").await;
    assert_eq!((answer.status, answer.header("x-serin-error")), (503, "no-route-table"));
    let stats = proxy.stats(|stats| stats.own_errors == 1).await;
    assert_eq!((stats.epoch, stats.version, total(&stats)), (0, 0, 0));
    assert_eq!(proxy.link.current_table().await.unwrap(), None);
}

#[tokio::test]
async fn clients_that_hold_connections_for_nothing_lose_them() {
    let upstream = Upstream::named("stable").await;
    let mut quick = table(upstream.addr, None, 0);
    quick.timeouts.idle_ms = 1_000;
    let proxy = Proxy::start(quick).await;
    // One that is done and stays; one that says nothing; one that never finishes its head.
    let kept = raw(proxy.addr, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let mute = raw(proxy.addr, b"");
    let slow = raw(proxy.addr, b"GET / HTTP/1.1\r\nhost: a\r\nx-never: ");
    let (kept, mute, slow) = tokio::join!(kept, mute, slow);
    assert!(kept.starts_with("HTTP/1.1 200"), "{kept}");
    assert_eq!((mute.as_str(), slow.as_str()), ("", ""));
}
