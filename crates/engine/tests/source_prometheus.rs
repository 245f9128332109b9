//! What a Prometheus may do that a real one cannot be made to do: hang, flood, warn, redirect; and how it is told who asks.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
};
use serin_core::traffic::{Gap, GapKind};
use serin_engine::source::{MachineKeys, MetricSource, PrometheusSource};
use serin_spec::validated::{Auth, EnvValue, Prometheus, Secret, SourceUrl};

const ONE: &str = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"7"]}]}}"#;

fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len()).into_bytes()
}

/// Answers every connection with these bytes, and tells what it was asked. Ends with the test's process.
fn server(bytes: Vec<u8>) -> (Prometheus, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (asked, questions) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = asked.send(read(&mut stream));
            // A client that has read enough hangs up.
            let _ = stream.write_all(&bytes);
        }
    });
    (source(port), questions)
}

fn source(port: u16) -> Prometheus {
    let url = SourceUrl { is_tls: false, host: "127.0.0.1".to_owned(), port, prefix: "/prom".to_owned() };
    Prometheus { url, auth: None, ca: None, headers: BTreeMap::new(), timeout_ms: 60_000 }
}

/// A request with its body.
fn read(stream: &mut impl Read) -> String {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut buffer).unwrap_or(0);
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok()).unwrap_or(0);
        let is_whole = text.split_once("\r\n\r\n").is_some_and(|(_, body)| body.len() >= length);
        if is_whole || count == 0 {
            return text;
        }
    }
}

async fn ask(server: &Prometheus, dir: &Path) -> Result<f64, Gap> {
    PrometheusSource::new(server.clone(), Arc::new(MachineKeys(dir.to_owned()))).value("up{a=\"b\"}").await
}

#[tokio::test]
async fn faults_are_told_apart() {
    let there = Path::new(".");
    for (bytes, kind, words) in [
        (
            answer("200 OK", "", &ONE.replace("\"data\"", "\"warnings\":[\"a store is missing\"],\"data\"")),
            GapKind::Warnings,
            "a store is missing",
        ),
        (answer("401 Unauthorized", "", "who are you"), GapKind::Refused, "401"),
        (answer("502 Bad Gateway", "", "<html>"), GapKind::Refused, "502"),
        (answer("200 OK", "", "<html>"), GapKind::Malformed, "`url`"),
        (
            answer("400 Bad Request", "", r#"{"status":"error","errorType":"bad_data","error":"1:3: parse error"}"#),
            GapKind::Refused,
            "1:3: parse error",
        ),
        (
            answer("302 Found", "location: http://elsewhere.example/login?token=s3cret\r\n", ""),
            GapKind::Refused,
            "http://elsewhere.example/login,",
        ),
        (answer("200 OK", "", &" ".repeat((8 << 20) + 1)), GapKind::Malformed, "8 MiB"),
        (b"SSH-2.0\r\n".to_vec(), GapKind::Unreachable, "broke"),
        (Vec::new(), GapKind::Unreachable, "broke"),
    ] {
        let (server, _questions) = server(bytes);
        let gap = ask(&server, there).await.unwrap_err();
        assert_eq!(gap.kind, kind, "{gap}");
        assert!(gap.text.contains(words) && !gap.text.contains("s3cret"), "{gap}");
    }
}

#[tokio::test]
async fn a_source_that_hangs_or_is_not_there() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let hanging = Prometheus { timeout_ms: 100, ..source(port) };
    let gap = ask(&hanging, Path::new(".")).await.unwrap_err();
    assert!(gap.kind == GapKind::TimedOut && gap.text.contains("100 ms"), "{gap}");
    drop(listener);
    let gap = ask(&source(port), Path::new(".")).await.unwrap_err();
    assert!(gap.kind == GapKind::Unreachable && gap.text.contains(&port.to_string()), "{gap}");
}

#[tokio::test]
async fn who_asks_is_told_anew_with_every_question() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("token"), "first\n").unwrap();
    let (plain, questions) = server(answer("200 OK", "", ONE));
    let token = || Secret::File("token".into());
    let headers = BTreeMap::from([("x-scope-orgid".to_owned(), EnvValue::Literal("shop".to_owned()))]);
    let bearer = Prometheus { auth: Some(Auth::Bearer(token())), headers, ..plain.clone() };
    assert_eq!(ask(&bearer, dir.path()).await, Ok(7.0));
    let asked = questions.recv().unwrap();
    assert!(asked.starts_with("POST /prom/api/v1/query HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("authorization: Bearer first\r\n") && asked.contains("x-scope-orgid: shop\r\n"), "{asked}");
    assert!(asked.contains("query=up%7Ba%3D%22b%22%7D&timeout=60000ms"), "{asked}");
    fs::write(dir.path().join("token"), "second").unwrap();
    assert_eq!(ask(&bearer, dir.path()).await, Ok(7.0));
    assert!(questions.recv().unwrap().contains("authorization: Bearer second\r\n"));
    let basic = Prometheus { auth: Some(Auth::Basic { username: "serin".to_owned(), password: token() }), ..plain.clone() };
    assert_eq!(ask(&basic, dir.path()).await, Ok(7.0));
    assert!(questions.recv().unwrap().contains("authorization: Basic c2VyaW46c2Vjb25k\r\n"));
    for (secret, words) in [
        (Secret::File("absent".into()), "absent cannot be read"),
        (Secret::Env("SERIN_TEST_SURELY_NOT_SET".to_owned()), "SERIN_TEST_SURELY_NOT_SET is not set"),
    ] {
        let gap = ask(&Prometheus { auth: Some(Auth::Bearer(secret)), ..plain.clone() }, dir.path()).await.unwrap_err();
        assert!(gap.kind == GapKind::Secret && gap.text.contains(words), "{gap}");
    }
    // What no header can have is not shown either.
    fs::write(dir.path().join("token"), "s3c\nret").unwrap();
    let gap = ask(&bearer, dir.path()).await.unwrap_err();
    assert!(gap.kind == GapKind::Secret && !gap.text.contains("s3c"), "{gap}");
    assert!(questions.try_recv().is_err(), "nothing was asked without its secret");
}

/// Serves TLS to who has a certificate of the test's own authority.
fn tls_server(dir: &Path) -> Prometheus {
    let authority = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = params.self_signed(&authority).unwrap();
    let issuer = rcgen::Issuer::new(params, authority);
    let issue = |name: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        (certificate, key)
    };
    fs::write(dir.join("ca.pem"), root.pem()).unwrap();
    let (client, client_key) = issue("serin");
    fs::write(dir.join("client.pem"), client.pem()).unwrap();
    fs::write(dir.join("client.key"), client_key.serialize_pem()).unwrap();
    let (own, own_key) = issue("localhost");
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(root.der().to_vec())).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![own.der().clone()], PrivateKeyDer::try_from(own_key.serialize_der()).unwrap())
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = Arc::new(config);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream: TcpStream = stream.unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream);
            if read(&mut stream).starts_with("POST") {
                let _ = stream.write_all(&answer("200 OK", "", ONE));
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    let url = SourceUrl { is_tls: true, host: "localhost".to_owned(), port, prefix: String::new() };
    Prometheus { url, ..source(port) }
}

#[tokio::test]
async fn certificates_on_both_sides() {
    let dir = tempfile::tempdir().unwrap();
    let unknown = tls_server(dir.path());
    let file = |name: &str| Secret::File(name.into());
    let known = Prometheus { ca: Some(file("ca.pem")), ..unknown.clone() };
    let mtls = |key: &str| Auth::MutualTls { certificate: file("client.pem"), key: file(key) };
    let both = Prometheus { auth: Some(mtls("client.key")), ..known.clone() };
    assert_eq!(ask(&both, dir.path()).await, Ok(7.0));
    let gap = ask(&Prometheus { ca: None, ..both.clone() }, dir.path()).await.unwrap_err();
    assert!(gap.kind == GapKind::Unreachable && gap.text.contains("no TLS"), "a server that nobody vouches for: {gap}");
    let gap = ask(&known, dir.path()).await.unwrap_err();
    assert_eq!(gap.kind, GapKind::Unreachable, "without a certificate of one's own: {gap}");
    let gap = ask(&Prometheus { auth: Some(mtls("client.pem")), ..known }, dir.path()).await.unwrap_err();
    assert!(gap.kind == GapKind::Secret && gap.text.contains("mtls.key"), "{gap}");
}
