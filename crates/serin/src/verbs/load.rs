//! `serin load`: requests at a constant rate, and a count of those that were lost.

use std::{io::IsTerminal as _, process::ExitCode, time::Duration};

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use crate::{
    load::{self, Pattern, Settings, Tally, Target},
    output::{self, Output},
    signals, values,
};

/// The largest request body: 64 MiB. All requests in flight share it.
const MOST_BODY_BYTES: u64 = 64 * 1024 * 1024;

/// Sends requests at a constant rate, however slow the server is, and counts the lost ones.
///
/// Exit code 0 if every request was answered, 1 if any was lost or timed out. Answers of any status count as answered, but a 502,
/// 503 or 504 with the header x-serin-error was made by the proxy and counts as lost as well.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to send requests: `http://HOST[:PORT]/PATH`.
    url: Uri,
    /// Requests per second, fractions allowed.
    #[arg(long, value_name = "N", value_parser = rps)]
    rps: f64,
    /// How long to send; until SIGINT or SIGTERM if not given.
    #[arg(long, value_name = "DURATION", value_parser = positive)]
    duration: Option<Duration>,
    /// How requests are spread over time.
    #[arg(long, value_enum, default_value_t)]
    arrivals: Pattern,
    /// Seed of the Poisson arrivals, to repeat a run.
    #[arg(long)]
    seed: Option<u64>,
    /// Idle connections to keep for reuse. More are opened while more requests are in flight.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    connections: u32,
    /// Requests in flight; what is due beyond is counted as not sent.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    max_in_flight: u32,
    /// Time for a whole request, from connecting to the last byte of the answer.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = positive)]
    timeout: Duration,
    /// How long to wait before the start until the server accepts connections.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = values::duration)]
    wait: Duration,
    /// Request method.
    #[arg(long, default_value = "GET", value_parser = method)]
    method: Method,
    /// A request header; may be given several times.
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// A path to request instead of the URL's; may be given several times, they are requested in turn.
    #[arg(long = "path", value_name = "PATH", value_parser = path)]
    paths: Vec<Uri>,
    /// Size of the request body.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=MOST_BODY_BYTES))]
    body_bytes: u64,
    /// Exit with 0 even if requests were lost or timed out.
    #[arg(long)]
    allow_lost: bool,
}

/// Runs the load and prints the report. Exit code 1 if requests were lost or timed out, unless allowed.
///
/// # Errors
/// If the URL cannot be used or the server does not come up in time.
pub(crate) fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let mut headers = HeaderMap::new();
    for (name, value) in args.headers {
        headers.append(name, value);
    }
    let body = Bytes::from(vec![b'x'; usize::try_from(args.body_bytes)?]);
    let target = Target::new(&args.url, args.method.clone(), headers, body).map_err(anyhow::Error::msg)?.with_paths(args.paths);
    let settings = Settings {
        url: args.url.to_string(),
        method: args.method.to_string(),
        target,
        rps: args.rps,
        pattern: args.arrivals,
        seed: args.seed.unwrap_or_else(rand::random),
        duration: args.duration,
        connections: args.connections as usize,
        timeout: args.timeout,
        max_in_flight: args.max_in_flight,
        wait: args.wait,
    };
    let terminal = std::io::stderr().is_terminal();
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    let progress = |tally: &Tally, elapsed| {
        if terminal {
            output::progress(&line(tally, elapsed));
        }
    };
    let report = runtime.block_on(async {
        let signals = signals::end_requests().context("cannot watch for signals")?;
        anyhow::Ok(load::run(settings, signals, progress).await?)
    })?;
    runtime.shutdown_background();
    if terminal {
        output::progress("");
    }
    match output {
        Output::Text => output::data(&report.text())?,
        Output::Json => output::data(&serde_json::to_string(&report)?)?,
    }
    Ok(if report.is_clean() || args.allow_lost { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn line(tally: &Tally, elapsed: Duration) -> String {
    format!(
        "{}  sent {}  in flight {}  answered {}  lost {}  not sent {}",
        serin_core::human_duration(values::ms(elapsed)),
        tally.sent,
        tally.in_flight(),
        tally.answered,
        tally.lost(),
        tally.not_sent,
    )
}

fn rps(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rps) if rps > 0.0 && rps <= 1_000_000.0 => Ok(rps),
        _ => Err(format!("expected requests per second above 0 and up to 1000000, such as 200 or 0.5, not '{text}'")),
    }
}

fn positive(text: &str) -> Result<Duration, String> {
    let duration = values::duration(text)?;
    if duration.is_zero() { Err("expected more than zero".to_owned()) } else { Ok(duration) }
}

fn method(text: &str) -> Result<Method, String> {
    match text.to_ascii_uppercase().parse() {
        Ok(Method::CONNECT) => Err("CONNECT asks for a tunnel and cannot be used for load".to_owned()),
        Ok(method) => Ok(method),
        Err(_) => Err(format!("'{text}' is not a request method")),
    }
}

fn path(text: &str) -> Result<Uri, String> {
    let wrong = || format!("expected a path, such as /pay or /find?q=1, not '{text}'");
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    if uri.scheme().is_none() && uri.authority().is_none() && text.starts_with('/') { Ok(uri) } else { Err(wrong()) }
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or_else(|| format!("expected 'NAME: VALUE', such as 'x-canary: true', not '{text}'"))?;
    let name: HeaderName = name.trim().parse().map_err(|_| format!("'{name}' is not a header name"))?;
    let value = value.trim().parse().map_err(|_| format!("'{value}' is not a header value"))?;
    // Those are decided by the connection and the body; a wrong one would make every answer look lost.
    if matches!(name.as_str(), "content-length" | "transfer-encoding" | "connection" | "upgrade") {
        return Err(format!("{name} is set by load itself and cannot be given"));
    }
    Ok((name, value))
}
