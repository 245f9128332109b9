//! `serin serve`: many services, for good.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use serin_engine::{
    run::Document,
    serve::{Retention, Server, ServerConfig, ServiceState, Subscription},
    systemd::{self, Sockets},
};
use serin_spec::validated::{ApiRole, ApiTcp, ApiToken, Server as Config};
use serin_web::{Api, ApiConfig, Reread, Role, Socket, Tcp, TlsFiles, Token, TokenSource, token::NotAHash};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep},
};

use super::StateArg;
use crate::{
    document, exit,
    output::{self, Output},
    render,
    server::socket_of,
};

/// How long units that wait for the server are kept waiting for versions that do not come up.
const READY_WITHIN: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(50);

/// Fronts services for good: releases come with `serin apply` and go, what was proven last serves.
///
/// SIGTERM ends the control process only: proxies and versions go on serving, and the next `serin serve` takes them over, releases under way
/// included. That is what a restart or an upgrade wants. Ctrl-C (SIGINT) takes canaries' traffic back, lets requests end and stops everything.
/// SIGHUP reads the API's tokens anew from the configuration, which otherwise happens within seconds of a change.
///
/// Exit codes: 0 ended as asked, 1 internal error, 2 configuration, 3 the state folder or an address cannot be used.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The server's configuration. Without it: no services but those that were applied, and the API on a unix socket in the state folder.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder with journals, sockets and logs; wins over the configuration's.
    #[arg(long, value_name = "DIR", env = "SERIN_STATE")]
    state: Option<PathBuf>,
}

/// Serves until a signal comes.
///
/// # Errors
/// If the process cannot begin: no runtime, no signals, its own path unknown.
pub(crate) fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    // Before there are other threads: it takes the variables that tell of the sockets out of the environment.
    let passed = systemd::listeners().context("cannot take over the sockets that systemd opened")?;
    let Ok((config, dir)) = configuration(args.config.as_deref(), output) else { return Ok(exit::code(exit::USAGE)) };
    let Ok(services) = documents(&config, &dir, output) else { return Ok(exit::code(exit::USAGE)) };
    let state = args.state.or_else(|| config.state.as_ref().map(|state| dir.join(state))).unwrap_or_else(StateArg::standard);
    let serin_exe = std::env::current_exe().context("cannot find the running binary")?;
    let api = ApiConfig { token_source: args.config.and_then(|file| token_source(file, &config)), ..api(&config, &dir, &state)? };
    let retention = Retention { runs: config.retain_runs, keep_ms: config.retain_ms };
    let server = ServerConfig { state, serin_exe, services, sockets: Sockets::among(passed), retention };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("cannot start the async runtime")?;
    let code = runtime.block_on(serve(server, api, output))?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(code)
}

async fn serve(config: ServerConfig, api: ApiConfig, output: Output) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for signals")?;
    let mut hang_up = signal(SignalKind::hangup()).context("cannot watch for signals")?;
    let socket = api.socket.as_ref().map(|socket| socket.path.display().to_string()).unwrap_or_default();
    let server = match Server::start(config).await {
        Ok(server) => server,
        Err(error) => {
            output::error(&error.to_string());
            return Ok(exit::code(exit::PREFLIGHT));
        }
    };
    let telling = tokio::spawn(tell(server.events(None), server.clone(), output));
    let api = match Api::start(server.clone(), &api) {
        Ok(api) => api,
        Err(error) => {
            output::error(&error.to_string());
            // Nothing of what serves depends on the API; the next server takes it over.
            server.detach().await;
            return Ok(exit::code(exit::PREFLIGHT));
        }
    };
    let services = server.list().len();
    output::note(&format!("{services} {}; the API is at {socket}", if services == 1 { "service" } else { "services" }));
    let announcing = tokio::spawn(announce(server.clone()));
    let watching = systemd::watchdog_interval().map(|every| tokio::spawn(systemd::watchdog(every)));
    let stop = loop {
        tokio::select! {
            _ = terminate.recv() => break false,
            _ = interrupt.recv() => break true,
            // Also sent by a terminal that goes away, which is no reason to end what serves.
            _ = hang_up.recv() => api.reread_tokens(),
        }
    };
    announcing.abort();
    systemd::stopping();
    api.stop().await;
    if stop {
        output::note("stopping everything: canaries lose their traffic first, then requests end; once more stops at once");
        tokio::select! {
            () = server.stop() => {}
            _ = interrupt.recv() => output::note("stopped at once; what still runs is found by the next `serin serve`"),
        }
    } else {
        server.detach().await;
        output::note("proxies and versions go on serving; `serin serve` takes them over again, Ctrl-C there stops them");
    }
    telling.abort();
    if let Some(watching) = watching {
        watching.abort();
    }
    Ok(exit::code(exit::SUCCEEDED))
}

/// Tells systemd that everything serves that can. A version that does not come up holds nobody up for long: its service says so itself.
async fn announce(server: Server) {
    let deadline = Instant::now() + READY_WITHIN;
    while Instant::now() < deadline && server.list().iter().any(|service| service.state == ServiceState::Starting) {
        sleep(LOOK).await;
    }
    systemd::ready();
}

/// Says what happens, a line each.
async fn tell(mut subscription: Subscription, server: Server, output: Output) {
    loop {
        match subscription.live.recv().await {
            Ok(event) => {
                let shown = match output {
                    Output::Json => serde_json::to_string(&*event).ok(),
                    Output::Text if event.text.is_empty() && event.head.is_empty() => None,
                    Output::Text => Some(render::lines::server_event(&event)),
                };
                if let Some(line) = shown {
                    let _ = output::data(&line);
                }
            }
            Err(tokio::sync::broadcast::error::RecvError::Lagged(missed)) => {
                output::note(&format!("{missed} events are not shown; the journals have them"));
                subscription = server.events(None);
            }
            Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
        }
    }
}

/// The configuration and the folder that its paths start from.
fn configuration(file: Option<&Path>, output: Output) -> Result<(Config, PathBuf), document::Rejected> {
    let Some(file) = file else { return Ok((Config::default(), PathBuf::from("."))) };
    document::read_server(file, output)
}

fn documents(config: &Config, dir: &Path, output: Output) -> Result<Vec<Document>, document::Rejected> {
    config.services.iter().map(|path| document::read(&dir.join(path), output)).collect()
}

fn api(config: &Config, dir: &Path, state: &Path) -> anyhow::Result<ApiConfig> {
    let tcp = match &config.tcp {
        None => None,
        Some(tcp) => {
            let tls = tcp.tls.as_ref().map(|(cert, key)| TlsFiles { cert: dir.join(cert), key: dir.join(key) });
            Some(Tcp { listen: tcp.listen, tls, tokens: tokens(tcp)? })
        }
    };
    Ok(ApiConfig { socket: Some(Socket::own(&socket_of(state))), tcp, ..ApiConfig::default() })
}

/// The tokens of the configuration as the API takes them.
fn tokens(tcp: &ApiTcp) -> Result<Vec<Token>, NotAHash> {
    let token = |token: &ApiToken| {
        let role = match token.role {
            ApiRole::Viewer => Role::Viewer,
            ApiRole::Operator => Role::Operator,
            ApiRole::Admin => Role::Admin,
        };
        Ok(Token { name: token.name.clone(), role, hash: token.hash.parse()? })
    };
    tcp.tokens.iter().map(token).collect()
}

/// Reads tokens anew from a configuration; `None` if it has come from standard input.
fn token_source(file: PathBuf, started_with: &Config) -> Option<TokenSource> {
    if file == Path::new("-") {
        return None;
    }
    let (path, started_with) = (file.clone(), started_with.clone());
    let read = move || {
        let now = document::reread_server(&path)?;
        let tokens = now.tcp.as_ref().map_or(Ok(Vec::new()), tokens).map_err(|error| error.to_string())?;
        Ok(Reread { tokens, needs_restart: needs_restart(&started_with, &now) })
    };
    Some(TokenSource { file, read: Arc::new(read) })
}

/// The fields that differ and are read at the start only.
fn needs_restart(before: &Config, now: &Config) -> Vec<String> {
    let tcp = |config: &Config| config.tcp.as_ref().map(|tcp| (tcp.listen, tcp.tls.clone()));
    let differs = [
        ("spec.state", before.state != now.state),
        ("spec.services", before.services != now.services),
        ("spec.api.tcp", tcp(before) != tcp(now)),
        ("spec.retention", (before.retain_runs, before.retain_ms) != (now.retain_runs, now.retain_ms)),
    ];
    differs.into_iter().filter(|(_, differs)| *differs).map(|(field, _)| field.to_owned()).collect()
}
