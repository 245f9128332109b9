//! `serin init`: a first release document.

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::Context;

use crate::{
    exit,
    output::{self, Output},
};

/// Writes a first release document, with comments, for two commands or two URLs.
///
/// Without arguments it is for Serin's own sample service, so that it runs as it stands.
///
/// Exit codes: 0 written, 2 the versions do not fit together or the file is there already.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The version that serves now: a command line (with {{port}} where its port goes) or a URL.
    stable: Option<String>,
    /// The version on trial: a command line or a URL.
    #[arg(requires = "stable")]
    canary: Option<String>,
    /// The release's name.
    #[arg(long, default_value = "my-service", value_parser = name)]
    name: String,
    /// Where clients shall connect.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: std::net::SocketAddr,
    /// The file to write; `-` for standard output. An existing file is not overwritten.
    #[arg(long, default_value = "release.yaml")]
    file: PathBuf,
}

/// Writes the document.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn run(args: &Args, output: Output) -> anyhow::Result<ExitCode> {
    let text = match document(args) {
        Ok(text) => text,
        Err(error) => {
            output::error(&error);
            return Ok(exit::code(exit::USAGE));
        }
    };
    if args.file == std::path::Path::new("-") {
        output::data(text.trim_end())?;
        return Ok(exit::code(exit::SUCCEEDED));
    }
    let file = args.file.display();
    let mut created = match std::fs::File::create_new(&args.file) {
        Ok(created) => created,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            output::error(&format!("{file} is there already; name another one with --file"));
            return Ok(exit::code(exit::USAGE));
        }
        Err(error) => return Err(error).with_context(|| format!("cannot write {file}")),
    };
    created.write_all(text.as_bytes()).with_context(|| format!("cannot write {file}"))?;
    match output {
        Output::Json => output::data(&serde_json::json!({"file": args.file}).to_string())?,
        Output::Text => output::note(&format!("wrote {file}; next: `serin plan {file}`, then `serin run {file}`")),
    }
    Ok(exit::code(exit::SUCCEEDED))
}

fn document(args: &Args) -> Result<String, String> {
    let sample = |version: &str| format!("{{{{serin}}}} sample-app --version {version} --port {{{{port}}}}");
    let stable = args.stable.clone().unwrap_or_else(|| sample("v1"));
    let canary = args.canary.clone().unwrap_or_else(|| if args.stable.is_some() { stable.clone() } else { sample("v2") });
    let is_url = |text: &str| text.starts_with("http://") || text.starts_with("https://");
    let workload = match (is_url(&stable), is_url(&canary)) {
        (true, true) if stable == canary => return Err("stable and canary need different URLs".to_owned()),
        (true, true) => external(&stable, &canary),
        (false, false) => processes(&stable, &canary, args.stable.is_none())?,
        _ => return Err("stable and canary must both be commands or both be URLs".to_owned()),
    };
    let (name, listen) = (&args.name, args.listen);
    Ok(format!(
        "# A release document for Serin. Check it with `serin check`, see what it does with `serin plan`, start it with `serin run`.
apiVersion: serin.dev/v1alpha1
kind: Release
metadata: {{name: {name}}}
spec:
  workload:
{workload}
  traffic:
    embedded:
      listen: {listen}            # clients connect here; Serin's proxy splits the requests
      # match: [{{header: {{x-canary: \"true\"}}}}]  # these requests always go to the canary while the release is in a stage
      # sticky: {{cookie: {{name: serin}}}}          # clients keep their version

  strategy:
    canary:
      stages:                     # weight in percent; a stage passes after its hold, with enough requests and all criteria proven
        - {{weight: 5,  hold: 5m,  minRequests: 500}}
        - {{weight: 25, hold: 10m, minRequests: 1000}}
        - {{weight: 50, hold: 10m, minRequests: 1000}}
      bake: 10m                   # at 100 %: still measured, stable still warm

  analysis:
    # expect: {{rps: 100, errors: 0.5%}}  # your usual traffic; `serin plan` then says how long decisions take
    criteria:                     # what must be shown to hold for the canary to get more traffic
      - {{metric: error-rate, versusStable: {{ratio: 1.5, increase: 0.5pp}}}}
      - {{metric: latency-any, versusStable: {{ratio: 1.5}}}}
      - {{metric: latency-p99, max: 2s}}
    # Every release has the guard `outage` too: an error rate that is surely above 5 % rolls back.
"
    ))
}

fn external(stable: &str, canary: &str) -> String {
    format!(
        "    external:                     # servers that run already
      stable: {{urls: [{}], health: {{path: /}}}}
      canary: {{urls: [{}], health: {{path: /}}}}
",
        quoted(stable),
        quoted(canary)
    )
}

fn processes(stable: &str, canary: &str, with_load: bool) -> Result<String, String> {
    let load = if with_load {
        "      load: {command: [\"{{serin}}\", load, \"{{url}}\", --rps=50]}   # traffic to try it with; remove for a real service\n"
    } else {
        ""
    };
    let ready = if with_load { "/ready" } else { "/" };
    Ok(format!(
        "    processes:                    # Serin starts these; {{{{port}}}} (and $PORT) is a free port for each replica
      stable: {{command: {}, ready: {{path: {ready}}}}}
      canary: {{command: {}, ready: {{path: {ready}}}}}
{load}",
        list(stable)?,
        list(canary)?
    ))
}

/// A command line as a YAML list. Quotes group words, as in a shell; nothing else of a shell is known.
fn list(command: &str) -> Result<String, String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in command.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(format!("a quote is not closed in: {command}"));
    }
    words.extend(word);
    if words.is_empty() {
        return Err("the command is empty".to_owned());
    }
    Ok(format!("[{}]", words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(", ")))
}

/// A YAML string in double quotes: JSON's strings are YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let good = !text.is_empty() && text.len() <= 63 && text.chars().all(fits) && !text.starts_with('-') && !text.ends_with('-');
    if good { Ok(text.to_owned()) } else { Err("expected lower-case letters, digits and dashes, at most 63, such as checkout".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(stable: Option<&str>, canary: Option<&str>) -> Args {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Args {
            stable: own(stable),
            canary: own(canary),
            name: "my-service".to_owned(),
            listen: "127.0.0.1:8080".parse().unwrap(),
            file: "-".into(),
        }
    }

    #[test]
    fn what_it_writes_is_a_valid_document() {
        for (stable, canary) in [
            (None, None),
            (Some("./app --port {{port}} --name 'two words'"), Some("./app2 --port={{port}}")),
            (Some("http://127.0.0.1:9001"), Some("http://127.0.0.1:9002")),
        ] {
            let text = document(&args(stable, canary)).unwrap();
            if let Err(diagnostics) = serin_spec::load("release.yaml", &text) {
                panic!("{}", serin_spec::render(&diagnostics, "release.yaml", &text, false));
            }
        }
    }

    #[test]
    fn mixed_or_equal_versions_are_refused() {
        assert!(document(&args(Some("http://127.0.0.1:9001"), Some("./app"))).is_err());
        assert!(document(&args(Some("http://127.0.0.1:9001"), Some("http://127.0.0.1:9001"))).is_err());
        assert!(document(&args(Some("./app 'unclosed"), None)).is_err());
    }

    #[test]
    fn quotes_group_words() {
        assert_eq!(list("a 'b c' \"\" d\\e").unwrap(), r#"["a", "b c", "", "d\\e"]"#);
    }
}
