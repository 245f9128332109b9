//! The conversation with control, and life without it.

use std::{
    os::unix::fs::PermissionsExt as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use serin_core::traffic::Outcome;
use serin_proxy::{Applied, LinkError, ProxyConfig, ProxyError, ProxyLink, protocol::Speaks};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
};

use crate::common::*;

#[tokio::test]
async fn older_tables_are_fenced_off_and_equal_ones_change_nothing() {
    let upstream = Upstream::named("stable").await;
    let proxy = Proxy::start(None).await;
    let numbered = |epoch, version| {
        let mut table = table(upstream.addr, None, 0);
        (table.epoch, table.version) = (epoch, version);
        table
    };
    let applied = Applied { epoch: 2, version: 5, weight: bps(0) };
    assert_eq!(proxy.link.apply(numbered(2, 5)).await.unwrap(), applied);
    assert_eq!(proxy.link.apply(numbered(2, 5)).await.unwrap(), applied);
    for (epoch, version) in [(2, 4), (1, 9)] {
        let refused = proxy.link.apply(numbered(epoch, version)).await.unwrap_err();
        assert!(matches!(&refused, LinkError::Rejected { reason, .. } if reason.contains("older")), "{refused}");
    }
    let mut changed = numbered(2, 5);
    changed.salt = "other".to_owned();
    let refused = proxy.link.apply(changed).await.unwrap_err();
    assert!(refused.to_string().contains("a different table"), "{refused}");
    let mut empty = numbered(3, 1);
    empty.stable.endpoints.clear();
    let refused = proxy.link.apply(empty).await.unwrap_err();
    assert!(refused.to_string().contains("stable has 0 endpoints"), "{refused}");

    assert_eq!(proxy.link.current_table().await.unwrap(), Some(numbered(2, 5)));
    proxy.link.apply(numbered(3, 1)).await.unwrap();
    assert_eq!(proxy.stats(|stats| stats.epoch == 3).await.version, 1);
}

#[tokio::test]
async fn control_may_die_and_come_back_without_a_lost_request() {
    let (stable, canary) = (Upstream::named("stable").await, Upstream::named("canary").await);
    let first = table(stable.addr, Some(canary.addr), 1000);
    let proxy = Proxy::start(first.clone()).await;
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (addr, stop) = (proxy.addr, stop.clone());
            tokio::spawn(async move {
                let mut client = Client::connect(addr).await;
                let mut sent = 0;
                while !stop.load(SeqCst) {
                    assert_eq!(client.get("/", &[]).await.status, 200);
                    sent += 1;
                }
                sent
            })
        })
        .collect();
    let mut newest = None;
    for version in 2..30 {
        let link = ProxyLink::connect(&proxy.socket).await.unwrap();
        assert_eq!(link.hello().table, Some((1, version - 1)));
        assert_eq!(link.hello().instance, proxy.link.hello().instance);
        let mut next = first.clone();
        next.version = version;
        next.weight = bps(u16::try_from(version * 300).unwrap());
        link.apply(next).await.unwrap();
        if version % 3 == 0 {
            newest = Some(link);
        }
    }
    stop.store(true, SeqCst);
    let mut sent = 0_u64;
    for client in clients {
        sent += client.await.unwrap();
    }
    drop(newest);
    let link = ProxyLink::connect(&proxy.socket).await.unwrap();
    let stats = stats(&link, |stats| total(stats) == sent).await;
    assert_eq!((ended(&stats, Outcome::Success), stats.own_errors, stats.rescued), (sent, 0, 0));
    assert_eq!(sent, (stable.requests.load(SeqCst) + canary.requests.load(SeqCst)) as u64);
}

#[tokio::test]
async fn the_newest_control_wins_and_the_one_before_is_told() {
    let upstream = Upstream::named("stable").await;
    let proxy = Proxy::start(table(upstream.addr, None, 0)).await;
    let newer = ProxyLink::connect(&proxy.socket).await.unwrap();
    tokio::time::timeout(DEADLINE, proxy.link.closed()).await.unwrap();
    assert!(matches!(proxy.link.current_table().await, Err(LinkError::Closed)));
    assert!(newer.current_table().await.unwrap().is_some());
    // Whoever connects and says nothing, or nonsense, takes nothing over.
    let _mute = UnixStream::connect(&proxy.socket).await.unwrap();
    let mut babbler = UnixStream::connect(&proxy.socket).await.unwrap();
    babbler.write_all(b"{\"get\":1}\n").await.unwrap();
    assert!(newer.current_table().await.unwrap().is_some());
}

#[tokio::test]
async fn strangers_get_a_reason_and_no_memory() {
    let proxy = Proxy::start(None).await;
    for (words, expected) in [
        (b"\"get\"\n".to_vec(), "must be a hello"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "not a message"),
        (vec![b'x'; 1_200_000], "longer than 1048576 bytes"),
    ] {
        let (reader, mut writer) = UnixStream::connect(&proxy.socket).await.unwrap().into_split();
        let mut answer = String::new();
        let mut lines = BufReader::new(reader);
        // The proxy stops reading a message that is too long: the rest of it need not be taken.
        let write = async {
            let _ = writer.write_all(&words).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = write => {}
            read = tokio::time::timeout(DEADLINE, lines.read_line(&mut answer)) => { read.unwrap().unwrap(); }
        }
        assert!(answer.starts_with("{\"error\"") && answer.contains(expected), "{answer}");
    }
    assert!(proxy.link.current_table().await.is_ok());
}

#[tokio::test]
async fn the_socket_is_private_replaced_when_stale_and_kept_when_alive() {
    let proxy = Proxy::start(None).await;
    let mode = std::fs::metadata(&proxy.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let config = |socket: &std::path::Path| ProxyConfig {
        listener: std::net::TcpListener::bind("127.0.0.1:0").unwrap(),
        control_socket: socket.to_owned(),
        table: None,
        workers: 1,
        standby: false,
        speaks: Speaks::OURS,
    };
    let second = config(&proxy.socket);
    let refused = tokio::task::spawn_blocking(move || serin_proxy::run(second)).await.unwrap().unwrap_err();
    assert!(matches!(refused, ProxyError::ControlSocket { .. }), "{refused}");

    let stale = proxy.dir.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    let third = config(&stale);
    let running = tokio::task::spawn_blocking(move || serin_proxy::run(third));
    let link = until(async || ProxyLink::connect(&stale).await.ok()).await;
    link.shutdown(0).await.unwrap();
    running.await.unwrap().unwrap();
    assert!(!stale.exists());
}

#[tokio::test]
async fn shutdown_lets_requests_finish_and_accepts_no_more() {
    let (open, _) = tokio::sync::broadcast::channel::<()>(1);
    let gate = open.clone();
    let upstream = Upstream::http(move |_| {
        let mut gate = gate.subscribe();
        async move {
            let _ = gate.recv().await;
            text("finished")
        }
    })
    .await;
    let proxy = Proxy::start(table(upstream.addr, None, 0)).await;
    let mut client = Client::connect(proxy.addr).await;
    let idle = Client::connect(proxy.addr).await;
    let pending = tokio::spawn(async move { client.get("/", &[]).await });
    proxy.stats(|stats| stats.in_flight[0] == 1).await;
    until(async || (open.receiver_count() == 1).then_some(())).await;
    proxy.link.shutdown(60_000).await.unwrap();
    // The listener is closed: a new connection is refused, while the one in flight goes on.
    until(async || tokio::net::TcpStream::connect(proxy.addr).await.err()).await;
    assert!(!proxy.socket.exists());
    open.send(()).unwrap();
    let answer = pending.await.unwrap();
    assert_eq!((answer.body.as_str(), answer.header("connection")), ("finished", "close"));
    drop(idle);
    proxy.ended().await.unwrap();
}

#[tokio::test]
async fn the_drain_deadline_is_hard() {
    let upstream = Upstream::silent().await;
    let proxy = Proxy::start(table(upstream.addr, None, 0)).await;
    let mut client = Client::connect(proxy.addr).await;
    let pending = tokio::spawn(async move { client.send(request("GET", "/", &[], "")).await });
    proxy.stats(|stats| stats.in_flight[0] == 1).await;
    proxy.link.shutdown(50).await.unwrap();
    assert!(pending.await.unwrap().is_err());
    tokio::time::timeout(DEADLINE, proxy.link.closed()).await.unwrap();
    proxy.ended().await.unwrap();
}

/// Says these lines on one connection and gives as many lines of the answer.
async fn conversation<const N: usize>(socket: &std::path::Path, lines: [&str; N]) -> [String; N] {
    let (reader, mut writer) = UnixStream::connect(socket).await.unwrap().into_split();
    let mut answers = BufReader::new(reader).lines();
    let mut heard = Vec::new();
    for line in lines {
        writer.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        heard.push(tokio::time::timeout(DEADLINE, answers.next_line()).await.unwrap().unwrap().expect("an answer"));
    }
    heard.try_into().unwrap()
}

#[tokio::test]
async fn another_version_takes_nothing_over_and_is_told_why() {
    let upstream = Upstream::named("stable").await;
    let proxy = Proxy::start(table(upstream.addr, None, 0)).await;
    for hello in [r#"{"hello":{"protocol":2,"version":"x"}}"#, r#"{"hello":{"protocol":99,"oldest":98,"version":"x"}}"#] {
        let [greeting, refusal, garbage] = conversation(&proxy.socket, [hello, r#""get""#, r#"{"from":"a later version"}"#]).await;
        assert!(greeting.starts_with("{\"hello\"") && greeting.contains("\"protocol\":3"), "{greeting}");
        for answer in [refusal, garbage] {
            assert!(answer.starts_with("{\"error\"") && answer.contains("speaks protocol 3, not "), "{answer}");
        }
    }
    // A newer program that still speaks this version is no stranger.
    let [_, served] = conversation(&proxy.socket, [r#"{"hello":{"protocol":99,"oldest":3,"version":"x"}}"#, r#""get""#]).await;
    assert!(served.starts_with("{\"stats\"") || served.starts_with("{\"table\""), "{served}");
}

#[tokio::test]
async fn a_proxy_of_another_version_can_be_relieved_of_its_socket() {
    let upstream = Upstream::named("stable").await;
    let foreign = Speaks { newest: 1, oldest: 1 };
    let (config, addr, dir) = Proxy::config(table(upstream.addr, None, 0), 1);
    let socket = config.control_socket.clone();
    let running = tokio::task::spawn_blocking(move || serin_proxy::run(ProxyConfig { speaks: foreign, ..config }));
    let link = until(async || ProxyLink::connect_any(&socket).await.ok()).await;
    assert_eq!((link.hello().speaks, link.hello().protocol()), (foreign, None));
    let refused = ProxyLink::connect(&socket).await.unwrap_err();
    assert!(matches!(&refused, LinkError::Protocol { theirs, .. } if *theirs == foreign), "{refused}");
    assert!(matches!(link.current_table().await, Err(LinkError::Refused(_))), "it understands no more than it must");
    let listener = link.listener().await.unwrap();
    assert_eq!(listener.local_addr().unwrap(), addr);
    assert_eq!(get(addr, "/").await.body, "stable", "it goes on meanwhile");
    link.shutdown(0).await.unwrap();
    running.await.unwrap().unwrap();
    // The socket is still there, and whoever connects now waits for its next owner.
    let waiting = tokio::spawn(async move { get(addr, "/").await });
    let successor = Proxy::on(listener, table(upstream.addr, None, 0)).await;
    assert_eq!(waiting.await.unwrap().body, "stable");
    drop((successor, dir));
}

#[tokio::test]
async fn the_listening_socket_is_handed_out_and_closes_with_its_last_holder() {
    let proxy = Proxy::start(None).await;
    let addr = proxy.addr;
    let [one, other] = [proxy.link.listener().await.unwrap(), proxy.link.listener().await.unwrap()];
    assert_eq!([one.local_addr().unwrap(), other.local_addr().unwrap()], [addr, addr]);
    proxy.link.shutdown(60_000).await.unwrap();
    let late = until(async || proxy.link.listener().await.err()).await;
    assert!(matches!(late, LinkError::Refused(_) | LinkError::Closed), "{late}");
    proxy.ended().await.unwrap();
    drop(one);
    tokio::net::TcpStream::connect(addr).await.unwrap();
    drop(other);
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn a_proxy_that_stands_by_leaves_clients_to_the_other_until_it_is_told() {
    let (before, after) = (Upstream::named("before").await, Upstream::named("after").await);
    let old = Proxy::start(table(before.addr, None, 0)).await;
    let new = Proxy::standing_by(old.link.listener().await.unwrap(), table(after.addr, None, 0)).await;
    assert!(new.link.hello().standby && !old.link.hello().standby);
    for _ in 0..50 {
        assert_eq!(get(old.addr, "/").await.body, "before");
    }
    new.link.serve().await.unwrap();
    new.link.serve().await.unwrap();
    old.link.shutdown(60_000).await.unwrap();
    let addr = old.addr;
    old.ended().await.unwrap();
    for _ in 0..50 {
        assert_eq!(get(addr, "/").await.body, "after");
    }
}

#[tokio::test]
async fn connections_whose_request_may_be_under_way_are_kept_a_little_longer() {
    use tokio::io::AsyncReadExt as _;
    let upstream = Upstream::named("stable").await;
    let proxy = Proxy::with_workers(table(upstream.addr, None, 0), 1).await;
    let mut silent = tokio::net::TcpStream::connect(proxy.addr).await.unwrap();
    // Connections are accepted in their order: the silent one is in, too.
    assert_eq!(get(proxy.addr, "/").await.body, "stable");
    let began = std::time::Instant::now();
    proxy.link.shutdown(60_000).await.unwrap();
    let closed = tokio::time::timeout(DEADLINE, silent.read(&mut [0; 1])).await.expect("it is closed");
    assert!(matches!(closed, Ok(0)), "{closed:?}");
    // Timers are never early: this can be too late, but not too soon.
    assert!(began.elapsed() >= std::time::Duration::from_secs(1), "{:?}", began.elapsed());
    proxy.ended().await.unwrap();
}

#[tokio::test]
async fn a_proxy_that_stands_by_does_not_outlive_its_control() {
    let (config, _, dir) = Proxy::config(None, 1);
    let socket = config.control_socket.clone();
    let running = tokio::task::spawn_blocking(move || serin_proxy::run(ProxyConfig { standby: true, ..config }));
    let link = until(async || ProxyLink::connect(&socket).await.ok()).await;
    assert!(!running.is_finished());
    drop(link);
    tokio::time::timeout(DEADLINE, running).await.expect("it ends").unwrap().unwrap();
    drop(dir);
}

#[tokio::test]
async fn the_name_of_a_successor_is_left_alone() {
    let (config, _, dir) = Proxy::config(None, 1);
    let socket = config.control_socket.clone();
    let running = tokio::task::spawn_blocking(move || serin_proxy::run(config));
    let link = until(async || ProxyLink::connect(&socket).await.ok()).await;
    let successor = dir.path().join("successor.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&successor).unwrap();
    std::fs::rename(&successor, &socket).unwrap();
    link.shutdown(0).await.unwrap();
    running.await.unwrap().unwrap();
    assert!(socket.exists());
}
