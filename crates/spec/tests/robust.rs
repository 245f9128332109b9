//! No text makes the reader panic, hang or point outside of the text.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

use proptest::prelude::*;
use serin_spec::{Diagnostics, MAX_DIAGNOSTICS, MAX_DOCUMENT_BYTES, load, load_bytes, render};

const GOOD: &str = include_str!("good/everything.yaml");

/// Everything that must hold whatever the text is.
fn survives(text: &str) {
    let (Ok(diagnostics) | Err(diagnostics)) = load("any.yaml", text).map(|loaded| loaded.warnings);
    let unified = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n").replace('\r', "\n");
    let lines: Vec<&str> = unified.split('\n').collect();
    for diagnostic in &diagnostics {
        assert!((1..=lines.len().max(1)).contains(&diagnostic.line), "{diagnostic:?}");
        let end = diagnostic.column + diagnostic.length - 1;
        assert!(diagnostic.column >= 1 && diagnostic.length >= 1, "{diagnostic:?}");
        assert!(end <= lines[diagnostic.line - 1].chars().count().max(1), "{diagnostic:?}");
        assert!(!diagnostic.message.is_empty() && !diagnostic.message.contains(['\n', '\u{1b}']), "{diagnostic:?}");
    }
    assert!(diagnostics.len() <= MAX_DIAGNOSTICS);
    let shown = render(&diagnostics, "any\u{1b}.yaml", text, false);
    assert!(!shown.contains(|character: char| character.is_control() && character != '\n'), "{shown:?}");
}

fn refused(text: &str) -> (&'static str, Diagnostics) {
    let diagnostics = load("any.yaml", text).unwrap_err();
    let code = diagnostics.iter().next().unwrap().code;
    (code, diagnostics)
}

#[test]
fn a_large_document_is_refused_before_it_is_parsed() {
    // A syntax error at the start: it would be the first thing said if anything were parsed.
    assert_eq!(refused(&format!("]{}", "x".repeat(10 * 1024 * 1024))).0, "too-large");
    let comment = format!("{GOOD}#{}", "x".repeat(MAX_DOCUMENT_BYTES - GOOD.len() - 1));
    assert!(load("any.yaml", &comment).is_ok());
    assert_eq!(refused(&format!("{comment}x")).0, "too-large");
}

#[test]
fn documents_that_grow_are_stopped() {
    for text in [
        format!("a: &a {}\nb: [{}]\n", "x".repeat(900_000), "*a, ".repeat(10_000)),
        format!("[{}]", "a, ".repeat(100_000)),
        "- ".repeat(300_000),
        "[".repeat(300_000),
        "{a: ".repeat(200_000),
        format!("{}x", "&a ".repeat(200_000)),
        "? ".repeat(300_000),
        "a:\n".repeat(200_000),
        (0..9_000).map(|line| format!("key{line}: &a{line} x\n")).collect(),
        format!("a: \"{}", "\\u".repeat(400_000)),
        format!("a: '{}", "''".repeat(400_000)),
        "!".repeat(900_000),
        "%YAML ".repeat(100_000),
        "a: |\n".repeat(100_000),
        (1..500).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect(),
    ] {
        survives(&text);
        assert!(load("any.yaml", &text).is_err());
    }
}

#[test]
fn what_is_left_out_is_counted() {
    let stages: String = (0..60).map(|number| format!("        - {{weight: 5, hold: 1m, x{number}: 1}}\n")).collect();
    let text = GOOD.replace("      stages:\n", &format!("      stages:\n{stages}"));
    let (_, diagnostics) = refused(&text);
    assert_eq!((diagnostics.len(), diagnostics.omitted()), (MAX_DIAGNOSTICS, 10));
    assert!(render(&diagnostics, "any.yaml", &text, false).ends_with("error: and 10 more errors that are not shown\n"));
}

#[test]
fn bytes_that_are_no_text_are_refused_with_their_place() {
    let diagnostics = load_bytes("any.yaml", b"a: b\nc: \xff\xfe\n").unwrap_err();
    let first = diagnostics.iter().next().unwrap();
    assert_eq!((first.code, first.line, first.column), ("invalid-utf8", 2, 4));
}

#[test]
fn diagnostics_are_data_too() {
    let text = GOOD.replace("weight: 0.5", "weight: 0.5, wieght: 1");
    let (_, diagnostics) = refused(&text);
    let json = serde_json::to_value(&diagnostics).unwrap();
    assert_eq!(json["diagnostics"][0]["path"], "spec.strategy.canary.stages[0].wieght");
    assert_eq!(json["diagnostics"][0]["code"], "unknown-field");
    assert_eq!(json["source"], "any.yaml");
}

/// A good document with some of its parts replaced, removed or repeated.
fn mutated() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just(String::new()),
        Just("\t".to_owned()),
        Just("\r".to_owned()),
        Just("{{".to_owned()),
        Just("*env".to_owned()),
        Just("&a [".to_owned()),
        Just("- ".to_owned()),
        Just("~".to_owned()),
        Just("\n---\n".to_owned()),
        Just("-1e999".to_owned()),
        Just("日本".to_owned()),
        Just("\u{202e}\u{1b}[2J".to_owned()),
        "[ -~]{0,8}",
        any::<String>(),
    ];
    prop::collection::vec((0..GOOD.len(), 0..24_usize, piece), 1..6).prop_map(|edits| {
        let mut text = GOOD.to_owned();
        for (from, length, piece) in edits {
            let mut from = from.min(text.len());
            while !text.is_char_boundary(from) {
                from -= 1;
            }
            let mut to = (from + length).min(text.len());
            while !text.is_char_boundary(to) {
                to += 1;
            }
            text.replace_range(from..to, &piece);
        }
        text
    })
}

/// A good document with one word replaced by one that means something elsewhere.
fn scrambled() -> impl Strategy<Value = String> {
    let words: Vec<&'static str> = GOOD.split([' ', '\n', ',', '{', '}', '[', ']']).filter(|word| !word.is_empty()).collect();
    let count = words.len();
    (0..count, 0..count).prop_map(move |(from, to)| GOOD.replacen(words[from], words[to], 1))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text in any::<String>()) {
        survives(&text);
    }

    #[test]
    fn yaml_like_text(text in "([ \\-?:{}\\[\\],&*!|>'\"%@#\t\r\na-c0-9.]|<<|\\{\\{|: |\n  |- ){0,80}") {
        survives(&text);
    }

    #[test]
    fn mutated_documents(text in mutated()) {
        survives(&text);
    }

    #[test]
    fn scrambled_documents(text in scrambled()) {
        survives(&text);
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(load_bytes("any.yaml", &bytes));
    }
}
