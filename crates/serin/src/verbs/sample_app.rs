//! `serin sample-app`: a small HTTP service that misbehaves on request.

use std::{net::IpAddr, process::ExitCode, time::Duration};

use anyhow::Context;

use crate::{
    output::{self, Output},
    sample_app::{self, Behaviour, Change, Config, Mode},
    values,
};

/// A small HTTP service for trying out releases: it can be slow, fail, hang, send garbage, reset or crash.
///
/// Routes: / (and any other path), /health, /ready, /metrics, /echo, /bytes/N, /sleep/MS, /status/CODE, and /admin/behaviour,
/// which shows the current behaviour (GET), replaces it (PUT) or changes single fields (PATCH).
///
/// Serves until SIGTERM or SIGINT. Exit codes: 0 every request in flight was finished, 1 some had to be cut off.
#[derive(Debug, clap::Args)]
#[command(disable_version_flag = true)]
pub(crate) struct Args {
    /// Port to listen on; 0 takes a free one.
    #[arg(long, env = "PORT", default_value_t = 8080)]
    port: u16,
    /// Address to listen on. Anything but a loopback address lets other machines change the behaviour.
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// What the app calls its version, in its answers and in the header x-app-version.
    #[arg(long, default_value = "v1", value_parser = version)]
    version: String,
    /// Share of requests that are answered with an error.
    #[arg(long, value_name = "PERCENT", default_value = "0%", value_parser = values::percent)]
    error_rate: f64,
    /// The status code of those errors.
    #[arg(long, value_name = "CODE", default_value_t = 500, value_parser = clap::value_parser!(u16).range(400..=599))]
    error_code: u16,
    /// Only requests for this path have the error rate; all others are answered as they should be.
    #[arg(long, value_name = "PATH")]
    error_path: Option<String>,
    /// Share of requests that are never answered. Probes are, and connections stay open until the client goes.
    #[arg(long, value_name = "PERCENT", default_value = "0%", value_parser = values::percent)]
    hang_rate: f64,
    /// Share of requests that are answered as they should be although their order is lost: only the counter orders_total of /metrics shows it.
    #[arg(long, value_name = "PERCENT", default_value = "0%", value_parser = values::percent)]
    lost_rate: f64,
    /// How long each answer takes; the median if --latency-p99 is given.
    #[arg(long, value_name = "DURATION", default_value = "0ms", value_parser = values::duration)]
    latency: Duration,
    /// Up to this much more, evenly spread.
    #[arg(long, value_name = "DURATION", default_value = "0ms", value_parser = values::duration)]
    jitter: Duration,
    /// Makes the latency log-normal with this 99th percentile. Needs --latency.
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    latency_p99: Option<Duration>,
    /// Seed of the random errors and latencies, to repeat a run.
    #[arg(long)]
    seed: Option<u64>,
    /// Not ready before this has passed.
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    start_delay: Option<Duration>,
    /// Never becomes ready.
    #[arg(long, conflicts_with = "start_delay")]
    never_ready: bool,
    /// Ends the process abruptly, with exit code 70, after this long.
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    crash_after: Option<Duration>,
    /// After this long, accepts requests but never answers, health checks included.
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    hang_after: Option<Duration>,
    /// After this long, answers with bytes that are not HTTP.
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    garbage_after: Option<Duration>,
    /// After this long, resets the connection once a request has been read.
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    reset_after: Option<Duration>,
    /// After this long, --worse-error-rate and --worse-latency come into force.
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    worse_after: Option<Duration>,
    /// Error rate from --worse-after on.
    #[arg(long, value_name = "PERCENT", requires = "worse_after", value_parser = values::percent)]
    worse_error_rate: Option<f64>,
    /// Latency from --worse-after on; replaces --latency and --latency-p99.
    #[arg(long, value_name = "DURATION", requires = "worse_after", value_parser = values::duration)]
    worse_latency: Option<Duration>,
    /// Requests with this header are answered with --error-code.
    #[arg(long, value_name = "NAME=VALUE", value_parser = fail_header)]
    fail_header: Option<(http::HeaderName, http::HeaderValue)>,
    /// How long requests may take to finish after SIGTERM.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = values::duration)]
    drain_timeout: Duration,
}

/// Serves until SIGTERM or SIGINT. Exit code 0 if every request in flight was finished, 1 if some had to be cut off.
///
/// # Errors
/// If options contradict each other or the port cannot be bound.
pub(crate) fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    if args.worse_after.is_some() && args.worse_error_rate.is_none() && args.worse_latency.is_none() {
        anyhow::bail!("--worse-after needs --worse-error-rate or --worse-latency, otherwise nothing gets worse");
    }
    let config = Config {
        host: args.host,
        port: args.port,
        behaviour: Behaviour {
            error_rate: args.error_rate,
            error_code: args.error_code,
            error_path: args.error_path.clone(),
            hang_rate: args.hang_rate,
            lost_rate: args.lost_rate,
            latency_ms: values::ms(args.latency),
            jitter_ms: values::ms(args.jitter),
            latency_p99_ms: args.latency_p99.map(values::ms),
            mode: Mode::Ok,
            healthy: true,
            ready: !args.never_ready && args.start_delay.is_none(),
        },
        schedule: schedule(&args),
        version: args.version,
        seed: args.seed,
        fail_header: args.fail_header,
        drain_timeout: args.drain_timeout,
    };
    config.behaviour.check().map_err(anyhow::Error::msg)?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    let unfinished = runtime.block_on(sample_app::run(config, |listening| announce(listening, output)))?;
    // Requests that hang on purpose must not hold up the exit.
    runtime.shutdown_background();
    if unfinished > 0 {
        output::note(&format!("{unfinished} connections still had a request in flight after --drain-timeout and were cut off"));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn schedule(args: &Args) -> Vec<(Duration, Change)> {
    let modes = [
        (args.hang_after, Mode::Hang),
        (args.garbage_after, Mode::Garbage),
        (args.reset_after, Mode::Reset),
        (args.crash_after, Mode::Crash),
    ];
    let mut schedule: Vec<_> = modes.into_iter().filter_map(|(after, mode)| Some((after?, Change::Mode(mode)))).collect();
    schedule.extend(args.start_delay.map(|after| (after, Change::Ready)));
    schedule.extend(
        args.worse_after
            .map(|after| (after, Change::Worse { error_rate: args.worse_error_rate, latency_ms: args.worse_latency.map(values::ms) })),
    );
    schedule.sort_by_key(|(after, _)| *after);
    schedule
}

fn announce(listening: &sample_app::Listening, output: Output) -> std::io::Result<()> {
    match output {
        Output::Text => output::data(&format!("sample app {} listens on {} (pid {})", listening.version, listening.url, listening.pid)),
        Output::Json => output::data(&serde_json::to_string(listening)?),
    }
}

fn version(text: &str) -> Result<String, String> {
    let plain = !text.is_empty() && text.len() <= 100 && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
    if plain { Ok(text.to_owned()) } else { Err("expected 1 to 100 visible ASCII characters without quotes, such as v2".to_owned()) }
}

fn fail_header(text: &str) -> Result<(http::HeaderName, http::HeaderValue), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("expected NAME=VALUE, such as x-canary=true, not '{text}'"))?;
    let name = name.trim().parse().map_err(|_| format!("'{name}' is not a header name"))?;
    let value = value.trim().parse().map_err(|_| format!("'{value}' is not a header value"))?;
    Ok((name, value))
}
