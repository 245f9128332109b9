//! Secrets that questions need: read anew for every question, and never shown or logged.

use std::{
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use serin_core::traffic::{Gap, GapKind};
use serin_spec::validated::{EnvValue, Secret};
use tokio::io::AsyncReadExt as _;

use crate::Pending;

/// The largest file that may hold a secret, in bytes: certificates of a large organisation fit.
const MAX_BYTES: u64 = 1 << 20;

/// Where secrets are.
pub trait Keyring: Send + Sync {
    /// The value of a reference.
    ///
    /// # Errors
    /// If there is none. Where it was looked for is told; what was found is not.
    fn read<'a>(&'a self, secret: &'a Secret) -> Pending<'a, Result<Vec<u8>, Gap>>;
}

/// Variables and files of this machine. Files are relative to the folder.
#[derive(Debug, Clone)]
pub struct MachineKeys(pub PathBuf);

impl Keyring for MachineKeys {
    fn read<'a>(&'a self, secret: &'a Secret) -> Pending<'a, Result<Vec<u8>, Gap>> {
        Box::pin(async move {
            match secret {
                Secret::Env(variable) => environment(variable),
                Secret::File(path) => file(&self.0.join(path)).await,
                Secret::Key { name, .. } => Err(gap(format!("this machine has no Secret {name}"))),
            }
        })
    }
}

/// The value of a header.
///
/// # Errors
/// As [`Keyring::read`].
pub(super) async fn value(value: &EnvValue, keys: &dyn Keyring) -> Result<Vec<u8>, Gap> {
    match value {
        EnvValue::Literal(text) => Ok(text.clone().into_bytes()),
        EnvValue::Env(variable) => keys.read(&Secret::Env(variable.clone())).await,
        EnvValue::File(path) => keys.read(&Secret::File(path.clone())).await,
    }
}

fn environment(variable: &str) -> Result<Vec<u8>, Gap> {
    std::env::var_os(variable)
        .map(OsStringExt::into_vec)
        .ok_or_else(|| gap(format!("the environment variable {variable} is not set: set it where Serin is started")))
}

async fn file(path: &Path) -> Result<Vec<u8>, Gap> {
    let unreadable = |error: std::io::Error| gap(format!("{} cannot be read: {error}", path.display()));
    let mut bytes = Vec::new();
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).await.map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(gap(format!("{} is too large for a secret: at most 1 MiB", path.display())));
    }
    for end in [b'\n', b'\r'] {
        if bytes.last() == Some(&end) {
            bytes.pop();
        }
    }
    Ok(bytes)
}

fn gap(text: String) -> Gap {
    Gap { kind: GapKind::Secret, text }
}
