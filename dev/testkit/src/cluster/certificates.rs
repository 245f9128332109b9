//! Keys and certificates of one cluster, fresh each time.

use std::{fs, path::Path};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// Names under which the API server is asked.
const NAMES: [&str; 3] = ["127.0.0.1", "localhost", "kubernetes.default.svc"];

/// Writes `ca.crt`, `apiserver.crt`, `apiserver.key`, and the key that signs tokens of service accounts (`accounts.key`, `accounts.pub`).
pub(super) fn write(folder: &Path) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(rcgen::DnType::CommonName, "test cluster");
    let authority_certificate = authority.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(authority, authority_key);

    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(NAMES.map(str::to_owned)).unwrap().signed_by(&key, &issuer).unwrap();
    let accounts = KeyPair::generate().unwrap();
    let files = [
        ("ca.crt", authority_certificate.pem()),
        ("apiserver.crt", server.pem()),
        ("apiserver.key", key.serialize_pem()),
        ("accounts.key", accounts.serialize_pem()),
        ("accounts.pub", accounts.public_key_pem()),
    ];
    for (name, text) in files {
        fs::write(folder.join(name), text).unwrap();
    }
}
