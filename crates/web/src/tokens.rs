//! Tokens that change while the API runs: whoever takes one away wants it to open nothing any more, and not only from the next start on.
//!
//! The file that they come from is looked at once a second, and at once when somebody asks for it. Only tokens are taken over; whoever reads
//! the file says what else in it needs a restart. A file that cannot be used leaves the tokens before in force, which is said in the log
//! and in the metrics for as long as it is so: who mistypes must not lock everybody out, but has to hear of it.
//!
//! A file that changed within the last seconds is read again until it rests: two changes may carry the same time.

use std::{
    fmt, fs,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{sync::watch, task::spawn_blocking, time::timeout};

use crate::{
    config::{Rights, check_tokens},
    shared::Shared,
    token::Token,
};

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A file that was changed longer ago rests.
const RESTS_AFTER_S: i64 = 3;

/// Where tokens are read anew.
#[derive(Clone)]
pub struct TokenSource {
    /// The file that is looked at.
    pub file: PathBuf,
    /// Reads it.
    pub read: Arc<dyn Fn() -> Result<Reread, String> + Send + Sync>,
}

/// What the file says now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reread {
    /// Who may ask over TCP; none: nobody.
    pub tokens: Vec<Token>,
    /// What else is different from what the server was started with, and takes effect with its next start: names of fields.
    pub needs_restart: Vec<String>,
}

/// What changes when a file does: its device, inode, size, and times of change.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

/// Keeps the tokens as new as their file, until the API stops. `asked` changes when somebody wants a look at once.
pub(crate) async fn follow(source: TokenSource, shared: Arc<Shared>, mut asked: watch::Receiver<u64>) {
    // What the API was started with was read a moment ago: reading it once more finds what changed since.
    let mut seen = None;
    let mut told: Result<Vec<String>, String> = Ok(Vec::new());
    loop {
        let is_asked = match timeout(LOOK_EVERY, asked.changed()).await {
            Ok(Ok(())) => true,
            // The API is being stopped.
            Ok(Err(_)) => return,
            Err(_) => false,
        };
        let stamp = stamp(&source);
        if stamp == seen && stamp.is_some() && !is_asked {
            continue;
        }
        let read = Arc::clone(&source.read);
        let outcome = match spawn_blocking(move || read()).await {
            Ok(read) => read.and_then(|reread| check_tokens(&reread.tokens).map(|()| reread).map_err(|error| error.to_string())),
            Err(error) => Err(error.to_string()),
        };
        // As it was before it was read: a change in between is found at the next look.
        seen = stamp.filter(rests);
        shared.measured.config_reloaded(outcome.is_ok());
        let file = source.file.display();
        match outcome {
            Ok(Reread { tokens, needs_restart }) => {
                if told.is_err() {
                    tracing::info!(%file, "the configuration can be used again");
                }
                take_over(&shared.rights, tokens, &file);
                if !needs_restart.is_empty() && told.as_ref() != Ok(&needs_restart) {
                    tracing::warn!(%file, fields = needs_restart.join(", "), "these fields of the configuration changed; they take effect when the server is started again");
                }
                told = Ok(needs_restart);
            }
            Err(why) => {
                if is_asked || told.as_ref() != Err(&why) {
                    tracing::error!(%file, why, "the configuration cannot be used: the tokens before stay in force, also those that it was to take away");
                }
                told = Err(why);
            }
        }
    }
}

fn take_over(rights: &watch::Sender<Arc<Rights>>, tokens: Vec<Token>, file: &dyn fmt::Display) {
    let before = Arc::clone(&rights.borrow());
    if before.tokens == tokens {
        return;
    }
    let names = |these: &[Token], others: &[Token]| -> String {
        let only: Vec<&str> = these.iter().filter(|token| !others.contains(token)).map(|token| token.name.as_str()).collect();
        if only.is_empty() { "none".to_owned() } else { only.join(", ") }
    };
    tracing::warn!(%file, gone = names(&before.tokens, &tokens), new = names(&tokens, &before.tokens), "tokens were read anew");
    rights.send_replace(Arc::new(Rights { tokens, ..*before }));
}

/// `None` if it is not there.
fn stamp(source: &TokenSource) -> Option<Stamp> {
    let data = fs::metadata(&source.file).ok()?;
    Some((data.dev(), data.ino(), data.size(), (data.mtime(), data.mtime_nsec()), (data.ctime(), data.ctime_nsec())))
}

fn rests(stamp: &Stamp) -> bool {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()).cast_signed();
    // A time in the future says nothing.
    let changed_s = stamp.3.0.max(stamp.4.0);
    changed_s > now_s + RESTS_AFTER_S || now_s - changed_s > RESTS_AFTER_S
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSource").field("file", &self.file).finish_non_exhaustive()
    }
}
