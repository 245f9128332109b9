//! The verbs that start nothing: status and history of what was, schema, completions, init, and the help of all of them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    thread,
};

use serde_json::{Value, json};
use serin_testkit::{
    Document, Place, free_address, processes,
    prompt::{Finished, Prompt, clean, finish},
    schema,
};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");

/// Every verb that people are shown.
const VERBS: [&str; 26] = [
    "run",
    "plan",
    "check",
    "analyze",
    "init",
    "status",
    "history",
    "pause",
    "resume",
    "approve",
    "reject",
    "weight",
    "promote",
    "abort",
    "load",
    "sample-app",
    "schema",
    "completions",
    "serve",
    "apply",
    "get",
    "explain",
    "watch",
    "retry",
    "rollback",
    "delete",
];

fn serin(place: &Place, args: &[&str]) -> Finished {
    let mut command = place.command(args);
    clean(&mut command);
    finish(command, None)
}

#[test]
fn where_nothing_ever_ran() {
    let prompt = Prompt::new(SERIN);
    for verb in ["status", "history"] {
        let finished = prompt.run(&[verb]).expect_code(2);
        assert_eq!(finished.stdout, "");
        assert!(finished.stderr.contains(".serin holds no releases") && finished.stderr.contains("--state"), "{}", finished.stderr);
    }
    let finished = prompt.run(&["run"]).expect_code(2);
    assert!(finished.stderr.contains("nothing was interrupted in .serin; name a release document"), "{}", finished.stderr);
    assert_eq!(fs::read_dir(prompt.folder()).unwrap().count(), 0, "asking made something");
}

#[test]
fn status_and_history_of_running_and_finished_releases() {
    let place = Place::new(SERIN);
    let document = Document::sample_apps("viewed", &[], &[]).stage(50.0, "30s", 20);
    let load = place.load(&document, 50, &[]);
    let release = place.run(&document, &[]);
    let _ = release.stage(1);

    let text = serin(&place, &["status"]).expect_code(0);
    let lines: Vec<_> = text.stdout.lines().collect();
    assert!(lines[0].starts_with("viewed  run 1   stage 1 of 1 · canary 50 %"), "{}", text.stdout);
    assert!(lines[0].ends_with(&format!("http://{}", document.listen)), "{}", text.stdout);
    assert!(text.stdout.contains("waiting: holding at 50 %"), "{}", text.stdout);
    assert!(!text.stdout.contains('\x1b'), "escape sequences in a pipe");
    let status = place.status();
    assert_eq!(
        (&status["type"], &status["status"]["release"], &status["status"]["weight"]),
        (&json!("status"), &json!("viewed"), &json!(5000))
    );

    // The journal can be read while the owner writes it.
    let running = serin(&place, &["history"]).expect_code(0);
    assert!(running.stdout.contains("viewed run 1 · not ended"), "{}", running.stdout);
    assert!(running.stdout.contains("stage 1 entered    weight 50 %"), "{}", running.stdout);

    let _ = serin(&place, &["abort", "--reason", "seen enough"]).expect_code(0);
    assert_eq!(release.end().code, Some(4));
    let _ = load.stop();

    let text = serin(&place, &["status"]).expect_code(4);
    assert!(text.stdout.starts_with("viewed run 1 · rolled back"), "{}", text.stdout);
    assert!(
        text.stdout.contains(&format!("aborted by {}", serin_testkit::prompt::me("tester"))) && text.stdout.contains("seen enough"),
        "{}",
        text.stdout
    );
    let data = serin(&place, &["status", "--output", "json"]).expect_code(4).json();
    let parts = ["running", "interrupted"].map(|field| &data[field]);
    assert_eq!((parts, &data["end"]["result"]), ([&json!(false); 2], &json!("rolled-back")), "{data}");

    let text = serin(&place, &["history"]).expect_code(0);
    assert!(text.stdout.lines().next().unwrap().contains("viewed run 1 · rolled back · "), "{}", text.stdout);
    for line in ["release began", "weight proven", "rollback", "traffic returned", "rolled back"] {
        assert!(text.stdout.contains(line), "no {line} in\n{}", text.stdout);
    }
    let lines = serin(&place, &["history", "--output", "json"]).expect_code(0).json_lines();
    assert_eq!((&lines[0]["type"], &lines[0]["outcome"]), (&json!("release"), &json!("rolled back")));
    let numbers: Vec<_> = lines[1..].iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    assert_eq!(lines.last().unwrap()["event"]["type"], "rolled-back");
    assert_eq!(serin(&place, &["history", "--list", "--output", "json"]).expect_code(0).json_lines().len(), 1);
    processes::assert_none_left(place.path());
}

#[test]
fn the_schema_is_one_and_takes_every_example() {
    let prompt = Prompt::new(SERIN);
    let schema = schema::compile(&prompt.run(&["schema"]).expect_code(0).json());
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples");
    let folders = fs::read_dir(examples).unwrap().map(|entry| entry.unwrap().path());
    let documents: Vec<_> = folders.map(|folder| folder.join("release.yaml")).filter(|file| file.exists()).collect();
    assert!(documents.len() >= 4, "{documents:?}");
    for file in documents {
        let document = schema::yaml(&fs::read_to_string(&file).unwrap());
        assert_eq!(schema.errors(&document), None, "{}", file.display());
        let mut wrong = document.clone();
        let strategy = &mut wrong["spec"]["strategy"];
        match strategy.pointer_mut("/canary/stages/0/weight") {
            Some(weight) => *weight = Value::Bool(true),
            None => strategy["blueGreen"]["bake"] = Value::Bool(true),
        }
        assert!(schema.errors(&wrong).is_some(), "takes a weight or a bake of true");
        wrong = document;
        wrong["spec"]["trafic"] = json!({});
        assert!(schema.errors(&wrong).is_some(), "takes an unknown field");
    }
}

#[test]
fn completion_scripts_know_every_verb() {
    let prompt = Prompt::new(SERIN);
    for (shell, sign) in [("bash", "complete -F _serin"), ("zsh", "#compdef serin"), ("fish", "complete -c serin")] {
        let script = prompt.run(&["completions", shell]).expect_code(0).stdout;
        assert!(script.contains(sign), "{shell}");
        for verb in VERBS {
            assert!(script.contains(verb), "{shell} does not know {verb}");
        }
        assert!(script.contains("wait-for-operator"), "{shell} does not know options");
    }
    let _ = prompt.run(&["completions", "cobol"]).expect_code(2);
}

#[test]
fn init_writes_a_document_that_passes_check() {
    let prompt = Prompt::new(SERIN);
    let listen = free_address().to_string();
    let written = prompt.run(&["init", "--listen", &listen]).expect_code(0);
    assert_eq!(written.stdout, "");
    assert!(written.stderr.contains("wrote release.yaml") && written.stderr.contains("serin plan release.yaml"), "{}", written.stderr);
    let checked = prompt.run(&["check", "release.yaml"]).expect_code(0);
    assert_eq!(checked.stderr, "", "a first document with warnings");
    let document = fs::read_to_string(prompt.folder().join("release.yaml")).unwrap();
    assert_eq!(schema::compile(&prompt.run(&["schema"]).json()).errors(&schema::yaml(&document)), None);

    prompt.write("release.yaml", "mine");
    let refused = prompt.run(&["init"]).expect_code(2);
    assert!(refused.stderr.contains("release.yaml is there already; name another one with --file"), "{}", refused.stderr);
    assert_eq!(fs::read_to_string(prompt.folder().join("release.yaml")).unwrap(), "mine");

    let stdout = prompt.run(&["init", "--file", "-", "--listen", &listen, "http://127.0.0.1:1", "http://127.0.0.1:2"]).expect_code(0);
    let checked = prompt.run_with_input(&["check", "-"], &stdout.stdout).expect_code(0);
    assert!(checked.stdout.contains("2 servers to check when the release starts"), "{}", checked.stdout);
    let _ = prompt.run(&["init", "--file", "other.yaml", "http://127.0.0.1:1", "./app"]).expect_code(2);
    assert!(!prompt.folder().join("other.yaml").exists());
}

#[test]
fn the_default_document_of_init_runs() {
    let place = Place::new(SERIN);
    let listen = free_address().to_string();
    let _ = serin(&place, &["init", "--listen", &listen]).expect_code(0);
    let file = place.path().join("release.yaml");
    let command = place.command(&["--output", "json", "run", file.to_str().unwrap()]);
    let release = serin_testkit::Release::start(command);
    let _ = release.stage(1);
    // Its stages take minutes, so it is enough that its own traffic arrives on both versions.
    serin_testkit::wait::until("traffic on both versions", || {
        let arms = place.status()["status"]["arms"].clone();
        let served = |arm: usize| arms[arm]["totals"]["by_weight"].as_u64().unwrap_or(0) > 0;
        (served(0) && served(1)).then_some(())
    });
    let _ = serin(&place, &["abort"]).expect_code(0);
    assert_eq!(release.end().code, Some(4));
    processes::assert_none_left(place.path());
}

/// Without the number of the last run before, its end would be taken for the end of what was applied.
#[test]
fn nothing_is_applied_and_waited_for_if_the_server_does_not_say_what_was_before() {
    let place = Place::new(SERIN);
    let file = place.path().join("shop.yaml");
    fs::write(&file, Document::sample_apps("shop", &[], &[]).stage(50.0, "1s", 20).text()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let answering = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        let body = r#"{"error":{"code":"no-answer","message":"its disk hangs"}}"#;
        write!(stream, "HTTP/1.1 503 Service Unavailable\r\nserin-api-version: 1\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
        String::from_utf8(head).unwrap()
    });
    let finished = serin(&place, &["apply", file.to_str().unwrap(), "--wait", "--server", &server]).expect_code(1);
    assert!(finished.stderr.contains("its disk hangs"), "{}", finished.stderr);
    assert!(answering.join().unwrap().starts_with("GET /v1/services/shop "));
}

#[test]
fn help_says_what_exit_codes_mean() {
    let prompt = Prompt::new(SERIN);
    for verb in VERBS {
        let help = prompt.run(&[verb, "--help"]).expect_code(0);
        assert!(help.stdout.contains(&format!("Usage: serin {verb}")), "{verb}: {}", help.stdout);
        let relevant = !matches!(verb, "schema" | "completions");
        assert_eq!(help.stdout.contains("Exit code"), relevant, "{verb} says nothing of its exit codes:\n{}", help.stdout);
        assert!(!help.stdout.contains('\x1b'), "{verb}: escape sequences in a pipe");
    }
    let run = prompt.run(&["run", "--help"]).stdout.replace('\n', " ");
    for code in ["0 succeeded", "2 document or usage", "3 preflight", "4 rolled back", "5 needs an operator", "130 interrupted"] {
        assert!(run.contains(code), "{code}: {run}");
    }
    assert!(!prompt.run(&["--help"]).stdout.contains("proxy  "), "the proxy is for `run` alone");
}

#[test]
fn what_is_not_known_is_refused_with_exit_code_2() {
    let prompt = Prompt::new(SERIN);
    for verb in VERBS {
        let refused = prompt.run(&[verb, "--no-such-option"]).expect_code(2);
        assert!(refused.stderr.contains("--no-such-option"), "{verb}: {}", refused.stderr);
        assert_eq!(refused.stdout, "", "{verb}");
    }
    let typo = prompt.run(&["statsu"]).expect_code(2);
    assert!(typo.stderr.contains("'status'"), "no suggestion: {}", typo.stderr);
    for args in [
        &["check"][..],
        &["weight"],
        &["weight", "101"],
        &["weight", "ten"],
        &["token", "root (uid 0)"],
        &["run", "--wait-for-operator", "20"],
        &[],
    ] {
        let refused = prompt.run(args).expect_code(2);
        assert!(!refused.stderr.is_empty(), "{args:?}");
    }
}
