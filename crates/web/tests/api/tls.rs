//! TLS with a real client, and certificates that change.

use std::{fs, path::Path, sync::Arc, time::Instant};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use serin_web::{Role, TlsFiles};

use crate::support::{Daemon, PATIENCE, Reply, exchange, request, token, wide};

fn write(files: &TlsFiles) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    fs::write(&files.cert, made.cert.pem()).unwrap();
}

/// Asks as someone who trusts exactly this certificate.
fn ask(daemon: &Daemon, cert: &Path) -> Reply {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(cert).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
    exchange(StreamOwned::new(client, daemon.connect()), &request("GET", "/v1/version", Some(&token(Role::Viewer)), None))
}

#[test]
fn who_trusts_the_certificate_is_answered_and_a_renewed_one_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let files = TlsFiles { cert: dir.path().join("cert.pem"), key: dir.path().join("key.pem") };
    write(&files);
    let old = dir.path().join("old.pem");
    fs::copy(&files.cert, &old).unwrap();
    let daemon = Daemon::with(wide(), Some(files.clone()));
    assert_eq!(ask(&daemon, &files.cert).json()["api"], 1);
    assert_eq!(daemon.get("/v1/version", Some(&token(Role::Viewer))).status, 0, "no plain text on a TLS port");

    write(&files);
    let begun = Instant::now();
    while ask(&daemon, &files.cert).status != 200 {
        assert!(begun.elapsed() < PATIENCE, "the new certificate is used");
    }
    assert_eq!(ask(&daemon, &old).status, 0, "the old one is not");
}
