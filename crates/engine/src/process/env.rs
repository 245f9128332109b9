//! Environment variables of a replica: references are resolved at launch, and values never leave this type.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fmt,
    fs::File,
    io::Read,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::Path,
};

use serin_spec::validated::EnvValue;

use super::ProcessError;

/// The largest file that may hold a variable's value, in bytes.
const MAX_VALUE_BYTES: u64 = 64 * 1024;

/// Environment variables with their values. `Debug` shows the names only: any value may be a secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ResolvedEnv(BTreeMap<String, OsString>);

impl ResolvedEnv {
    /// Looks up what the document refers to. Files are relative to `document_dir`.
    ///
    /// # Errors
    /// If a variable is not set, or a file cannot be read, is above 64 KiB, or has a NUL byte. Names are told, values are not.
    pub fn resolve(env: &BTreeMap<String, EnvValue>, document_dir: &Path) -> Result<Self, ProcessError> {
        let mut resolved = BTreeMap::new();
        for (name, value) in env {
            let value = match value {
                EnvValue::Literal(text) => OsString::from(text),
                EnvValue::Env(reference) => std::env::var_os(reference)
                    .ok_or_else(|| ProcessError::EnvNotSet { variable: name.clone(), reference: reference.clone() })?,
                EnvValue::File(path) => read_value(name, &document_dir.join(path))?,
            };
            if value.as_bytes().contains(&0) {
                return Err(ProcessError::EnvNul { variable: name.clone() });
            }
            resolved.insert(name.clone(), value);
        }
        Ok(Self(resolved))
    }

    /// The value of a variable, for the process that is to get it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(name).map(OsString::as_os_str)
    }

    /// Names with their values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &OsString)> {
        self.0.iter()
    }
}

impl fmt::Debug for ResolvedEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.keys().map(|name| (name, format_args!("…")))).finish()
    }
}

fn read_value(variable: &str, path: &Path) -> Result<OsString, ProcessError> {
    let unreadable = |source| ProcessError::EnvFileUnreadable { variable: variable.to_owned(), path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(unreadable)?.take(MAX_VALUE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_VALUE_BYTES {
        return Err(ProcessError::EnvFileTooLarge { variable: variable.to_owned(), path: path.to_owned(), max_bytes: MAX_VALUE_BYTES });
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    Ok(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(value: EnvValue, dir: &Path) -> Result<ResolvedEnv, ProcessError> {
        ResolvedEnv::resolve(&BTreeMap::from([("TOKEN".to_owned(), value)]), dir)
    }

    #[test]
    fn references_are_resolved_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        for (content, expected) in [("s3cret\n", "s3cret"), ("s3cret\r\n", "s3cret"), ("s3cret", "s3cret"), ("a\n\n", "a\n"), ("", "")] {
            std::fs::write(dir.path().join("token"), content).unwrap();
            let env = resolve(EnvValue::File("token".into()), dir.path()).unwrap();
            assert_eq!(env.get("TOKEN"), Some(OsStr::new(expected)));
            assert_eq!(format!("{env:?}"), r#"{"TOKEN": …}"#);
        }
        let path = std::env::var_os("PATH").unwrap();
        assert_eq!(resolve(EnvValue::Env("PATH".into()), dir.path()).unwrap().get("TOKEN"), Some(path.as_os_str()));
    }

    #[test]
    fn what_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let text = resolve(EnvValue::Env("SERIN_TEST_SURELY_NOT_SET".into()), dir.path()).unwrap_err().to_string();
        assert!(text.contains("TOKEN") && text.contains("SERIN_TEST_SURELY_NOT_SET"), "{text}");
        let text = resolve(EnvValue::File("absent".into()), dir.path()).unwrap_err().to_string();
        assert!(text.contains("TOKEN") && text.contains("absent"), "{text}");

        std::fs::write(dir.path().join("large"), vec![b'x'; 64 * 1024 + 1]).unwrap();
        assert!(matches!(resolve(EnvValue::File("large".into()), dir.path()), Err(ProcessError::EnvFileTooLarge { .. })));
        std::fs::write(dir.path().join("nul"), b"s3cret\0more").unwrap();
        let text = resolve(EnvValue::File("nul".into()), dir.path()).unwrap_err().to_string();
        assert!(!text.contains("s3cret"), "{text}");
    }
}
