//! Configurations of servers: what they mean, and what is said of those that mean nothing.

use serin_spec::{
    load_server,
    validated::{ApiRole, Server},
};

const HEAD: &str = "apiVersion: serin.dev/v1alpha1\nkind: Server\n";
const HASH: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn load(spec: &str) -> Result<Server, String> {
    load_server("serin.yaml", &format!("{HEAD}{spec}")).map_err(|diagnostics| {
        let lines: Vec<String> = diagnostics
            .iter()
            .map(|d| {
                format!(
                    "{}:{}: {} [{}] {}",
                    d.line,
                    d.column,
                    d.message,
                    d.expected.clone().unwrap_or_default(),
                    d.help.clone().unwrap_or_default()
                )
            })
            .collect();
        lines.join("\n")
    })
}

#[test]
fn nothing_is_needed() {
    let server = load("").unwrap();
    assert_eq!(server, Server::default());
    assert_eq!((server.state, server.services.len(), server.tcp), (None, 0, None));
    assert_eq!((server.retain_runs, server.retain_ms), (100, 90 * 24 * 3_600_000));
}

#[test]
fn everything_is_understood() {
    let server = load(&format!(
        "spec:\n  state: /var/lib/serin\n  services: [{{document: a.yaml}}, {{document: b/c.yaml}}]\n  api:\n    tcp:\n      listen: 0.0.0.0:7700\n      tls: {{cert: api.pem, key: api.key}}\n      tokens: [{{name: ci, role: operator, hash: \"{HASH}\"}}]\n  retention: {{runs: 20, keep: 7d}}\n"
    ))
    .unwrap();
    assert_eq!(server.state.as_deref(), Some(std::path::Path::new("/var/lib/serin")));
    assert_eq!(server.services, [std::path::PathBuf::from("a.yaml"), "b/c.yaml".into()]);
    let tcp = server.tcp.unwrap();
    assert_eq!((tcp.listen.to_string().as_str(), tcp.tls), ("0.0.0.0:7700", Some(("api.pem".into(), "api.key".into()))));
    assert_eq!((tcp.tokens[0].name.as_str(), tcp.tokens[0].role, tcp.tokens[0].hash.as_str()), ("ci", ApiRole::Operator, HASH));
    assert_eq!((server.retain_runs, server.retain_ms), (20, 7 * 24 * 3_600_000));
}

#[test]
fn names_of_tokens_are_those_that_the_verb_makes_tokens_for() {
    let load = |name: &str| {
        let token = format!("{{name: \"{name}\", role: viewer, hash: \"{HASH}\"}}");
        load(&format!("spec: {{api: {{tcp: {{listen: \"127.0.0.1:7700\", tokens: [{token}]}}}}}}\n"))
    };
    for name in ["ci", "Ops@example.org", "a_b.c", "12", "true", "@", &"x".repeat(64)] {
        assert_eq!(load(name).map(|server| server.tcp.unwrap().tokens[0].name.clone()), Ok(serin_spec::token_name(name).unwrap()));
    }
    for name in ["", "root (uid 0)", "é", &"x".repeat(65)] {
        let said = load(name).unwrap_err();
        assert!(said.starts_with("3:") && said.contains("1 to 64 letters"), "{said}");
        assert!(serin_spec::token_name(name).unwrap_err().contains("1 to 64 letters"));
    }
}

#[test]
fn what_means_nothing_is_said() {
    let token = |name: &str, hash: &str| format!("{{name: {name}, role: admin, hash: \"{hash}\"}}");
    let tcp = |listen: &str, tokens: &str| format!("spec: {{api: {{tcp: {{listen: \"{listen}\", tokens: [{tokens}]}}}}}}\n");
    let cases = [
        ("spec: {stat: x}\n".to_owned(), "stat"),
        ("spec: {services: [{document: a.yaml}, {document: a.yaml}]}\n".to_owned(), "is named twice"),
        (tcp("0.0.0.0:7700", &token("ci", HASH)), "in the clear"),
        (tcp("127.0.0.1:7700", ""), "at least 1 item"),
        (tcp("127.0.0.1:7700", &format!("{}, {}", token("ci", HASH), token("ci", HASH))), "two tokens are called"),
        (tcp("127.0.0.1:7700", &token("ci", "serin_secret")), "not the hash of a token"),
        (tcp("127.0.0.1:7700", &format!("{{name: ci, role: root, hash: \"{HASH}\"}}")), "viewer"),
        ("spec: {retention: {keep: 1s}}\n".to_owned(), "too short"),
    ];
    for (spec, expected) in cases {
        let said = load(&spec).unwrap_err();
        assert!(said.contains(expected), "{expected:?} is missing in: {said}");
        assert!(said.starts_with("3:"), "at the line: {said}");
    }
}

#[test]
fn a_secret_in_the_wrong_place_is_not_repeated() {
    let spec = "spec: {api: {tcp: {listen: \"127.0.0.1:7700\", tokens: [{name: ci, role: admin, hash: serin_verysecret}]}}}\n";
    let diagnostics = load_server("serin.yaml", &format!("{HEAD}{spec}")).unwrap_err();
    assert!(!diagnostics.to_string().contains("verysecret"), "{diagnostics}");
    let shown = serin_spec::render(&diagnostics, "serin.yaml", &format!("{HEAD}{spec}"), false);
    assert!(!shown.contains("verysecret"), "{shown}");
    assert!(shown.contains("role: admin, hash: ****************") && shown.contains("^^^^^^^^^^^^^^^^"), "{shown}");

    // Nor in the line of another mistake, or on a line of its own, or under another name.
    let token = format!("serin_{}", "a1B2".repeat(10));
    for entry in [
        "{name: ci, role: root, hash: serin_verysecret}".to_owned(),
        "{name: ci, role: admin, hash: [\"serin_verysecret\"]}".to_owned(),
        "{name: ci, role: admin, hash:\n      serin_verysecret}".to_owned(),
        format!("{{name: ci, role: admin, token: {token}}}"),
        format!("{{name: ci, role: {token}, hash: x}}"),
        format!("{{name: ci, role: admin, {token}: x}}"),
    ] {
        let text = format!("{HEAD}spec: {{api: {{tcp: {{listen: \"127.0.0.1:7700\", tokens: [{entry}]}}}}}}\n");
        let diagnostics = load_server("serin.yaml", &text).unwrap_err();
        for shown in [serin_spec::render(&diagnostics, "serin.yaml", &text, false), serde_json::to_string(&diagnostics).unwrap()] {
            assert!(!shown.contains("verysecret") && !shown.contains("a1B2a1B2"), "{shown}");
        }
    }
}

#[test]
fn a_release_is_no_server() {
    let said = load_server("serin.yaml", "apiVersion: serin.dev/v1alpha1\nkind: Release\n").unwrap_err().to_string();
    assert!(said.contains("`kind` cannot be `Release`"), "{said}");
}
