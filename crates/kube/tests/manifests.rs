//! The manifests in `charts/serin` and `packaging/kubernetes` are what the code says. With SERIN_GENERATE=1 (`cargo xtask generate`) they are written instead.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use std::{env, fs, path::Path};

#[test]
fn manifests_are_what_the_code_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (name, text) in [
        ("charts/serin/crds/releases.yaml", serin_kube::crd::file()),
        ("charts/serin/crds/releasememories.yaml", serin_kube::crd::memory_file()),
        ("charts/serin/rbac.yaml", serin_kube::rbac::file()),
        ("packaging/kubernetes/serin.yaml", serin_kube::install::file()),
    ] {
        let path = root.join(name);
        if env::var_os("SERIN_GENERATE").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
        } else {
            let found = fs::read_to_string(&path).unwrap_or_default();
            assert!(found == text, "{} is not what the code says: run `cargo xtask generate`", path.display());
        }
    }
}
