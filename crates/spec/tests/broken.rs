//! Each document in `tests/broken` is refused, and what people read about it is kept beside it. Review every change by eye: the carets must
//! stand under the mistake, and the words must help someone who has never seen this project.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

use std::{panic::AssertUnwindSafe, path::Path};

use serin_spec::{load_bytes, render};

#[test]
fn broken_documents_are_refused_with_help() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().unwrap().strip_suffix(".yaml").map(str::to_owned))
        .collect();
    names.sort();
    assert!(names.len() >= 45, "only {} documents", names.len());
    let mut failed = Vec::new();
    for name in names {
        let bytes = std::fs::read(folder.join(format!("{name}.yaml"))).unwrap();
        let file = format!("{name}.yaml");
        let text = String::from_utf8_lossy(&bytes);
        let diagnostics = load_bytes(&file, &bytes).expect_err(&file);
        assert!(diagnostics.has_errors(), "{file}");
        let shown = render(&diagnostics, &file, &text, false);
        let settings = {
            let mut settings = insta::Settings::clone_current();
            settings.set_snapshot_path("broken");
            settings.set_prepend_module_to_snapshot(false);
            settings.set_omit_expression(true);
            settings
        };
        // All of them are compared before the test fails, so that one run shows every change.
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| settings.bind(|| insta::assert_snapshot!(name.as_str(), shown))));
        if outcome.is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "differ from what was reviewed: {failed:?}");
}
