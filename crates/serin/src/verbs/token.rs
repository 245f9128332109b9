//! `serin token`: a new token for the API.

use std::process::ExitCode;

use crate::{
    exit,
    output::{self, Output},
};

/// Makes a token for the API over TCP. The token is shown once and kept nowhere; its hash goes into the server's configuration.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Whose it is: the name that stands in journals. 1 to 64 letters, digits and `. _ - @`.
    #[arg(value_parser = serin_spec::token_name)]
    name: String,
    /// What it may do.
    #[arg(long, value_parser = ["viewer", "operator", "admin"], default_value = "viewer")]
    role: String,
}

/// Makes a token.
///
/// # Errors
/// If the system gives no randomness, or stdout cannot be written.
pub(crate) fn run(args: &Args, output: Output) -> anyhow::Result<ExitCode> {
    let new = serin_web::token::new()?;
    match output {
        Output::Json => {
            let line = serde_json::json!({"token": new.text, "name": args.name, "role": args.role, "hash": new.hash.to_string()});
            output::data(&line.to_string())?;
        }
        Output::Text => {
            output::note("the token, shown only now:");
            output::data(&new.text)?;
            output::note(&format!(
                "for the server's configuration, below spec.api.tcp.tokens:\n  - {{name: \"{}\", role: {}, hash: \"{}\"}}",
                args.name, args.role, new.hash
            ));
        }
    }
    Ok(exit::code(exit::SUCCEEDED))
}
