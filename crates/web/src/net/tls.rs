//! The certificate: read from PEM files, and again when they change.
//!
//! The files are looked at when a client connects, at most once a second: nothing has to watch them, and certificates that are renewed by
//! replacing files or links are found. A pair that cannot be used (half written, expired tools, wrong key) leaves the one before in place
//! and is said in the log.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use crate::{config::TlsFiles, error::TlsError};

/// How often the files are looked at, at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A certificate that is as new as its files.
#[derive(Debug)]
pub(crate) struct Certificate {
    files: TlsFiles,
    loaded: Mutex<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    /// What the files looked like when they were read last, successfully or not.
    seen: Option<[Stamp; 2]>,
    looked_at: Instant,
}

/// What changes when a file does: its device, inode, size and time of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp(u64, u64, u64, i64, i64);

impl Certificate {
    pub(crate) fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        // Before reading: a change in between is then found at the next look.
        let seen = stamps(files);
        let loaded = Loaded { config: Arc::new(read(files)?), seen, looked_at: Instant::now() };
        Ok(Self { files: files.clone(), loaded: Mutex::new(loaded) })
    }

    /// What the next connection is to use.
    pub(crate) fn current(&self, now: Instant) -> Arc<ServerConfig> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(loaded.looked_at) < LOOK_EVERY {
            return Arc::clone(&loaded.config);
        }
        loaded.looked_at = now;
        let seen = stamps(&self.files);
        if seen != loaded.seen {
            match read(&self.files) {
                Ok(config) => {
                    tracing::info!(cert = %self.files.cert.display(), "the API's certificate was read again");
                    loaded.config = Arc::new(config);
                }
                Err(error) => tracing::warn!(%error, "the API goes on with the certificate before"),
            }
            loaded.seen = seen;
        }
        Arc::clone(&loaded.config)
    }
}

fn stamps(files: &TlsFiles) -> Option<[Stamp; 2]> {
    let stamp = |path: &Path| {
        let data = fs::metadata(path).ok()?;
        Some(Stamp(data.dev(), data.ino(), data.size(), data.mtime(), data.mtime_nsec()))
    };
    Some([stamp(&files.cert)?, stamp(&files.key)?])
}

fn read(files: &TlsFiles) -> Result<ServerConfig, TlsError> {
    let unreadable = |what, path: &Path, why: String| TlsError::File { what, path: path.to_owned(), why };
    let certs: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&files.cert).and_then(Iterator::collect);
    let certs = certs.map_err(|error| unreadable("the certificate", &files.cert, error.to_string()))?;
    if certs.is_empty() {
        return Err(unreadable("the certificate", &files.cert, "there is none in it; expected PEM".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| unreadable("the private key", &files.key, error.to_string()))?;
    let pair = |why: rustls::Error| TlsError::Pair { cert: files.cert.clone(), key: files.key.clone(), why: why.to_string() };
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(pair)?
        .with_no_client_auth()
        .with_single_cert(certs, key)
        .map_err(pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(files: &TlsFiles) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(&files.cert, made.cert.pem()).unwrap();
        fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    }

    #[test]
    fn renewed_files_are_found_and_broken_ones_survived() {
        let dir = tempfile::tempdir().unwrap();
        let files = TlsFiles { cert: dir.path().join("cert.pem"), key: dir.path().join("key.pem") };
        write(&files);
        let (certificate, start) = (Certificate::load(&files).unwrap(), Instant::now());
        let at = |seconds| certificate.current(start + Duration::from_secs(seconds));
        let first = at(0);
        assert!(Arc::ptr_eq(&first, &at(10)), "nothing changed");

        fs::write(&files.cert, "half a cert").unwrap();
        assert!(Arc::ptr_eq(&first, &at(20)), "a broken file");
        fs::remove_file(&files.key).unwrap();
        assert!(Arc::ptr_eq(&first, &at(30)), "a missing file");
        write(&files);
        assert!(!Arc::ptr_eq(&first, &at(40)), "new files");
    }

    #[test]
    fn what_is_wrong_with_files_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let files = TlsFiles { cert: dir.path().join("cert.pem"), key: dir.path().join("key.pem") };
        let error = || Certificate::load(&files).unwrap_err().to_string();
        assert!(error().starts_with("cannot read the certificate from"), "{}", error());
        write(&files);
        fs::write(&files.key, "nothing").unwrap();
        assert!(error().starts_with("cannot read the private key from"), "{}", error());
        write(&files);
        let cert = fs::read(&files.cert).unwrap();
        write(&files);
        fs::write(&files.cert, cert).unwrap();
        assert!(error().contains("cannot be used together"), "{}", error());
    }
}
