//! The state that all connections share.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue};
use rand::{SeedableRng, rngs::StdRng};

use super::{Behaviour, Change, Mode, metrics::Metrics};
use crate::output;

/// The exit code of a crash on request: EX_SOFTWARE, "internal software error".
const CRASH_EXIT_CODE: i32 = 70;

/// What one request is in for.
#[derive(Debug)]
pub(crate) struct Lot {
    pub(crate) delay: Duration,
    /// The status code of its failure.
    pub(crate) fails: Option<u16>,
    pub(crate) hangs: bool,
    /// Its order is lost, whatever the answer says.
    pub(crate) is_lost: bool,
}

/// The app: who it is, how it behaves, what it has counted.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) version: String,
    pub(crate) metrics: Metrics,
    fail_header: Option<(HeaderName, HeaderValue)>,
    behaviour: Mutex<Behaviour>,
    was_ready: AtomicBool,
    rng: Mutex<StdRng>,
}

impl App {
    pub(crate) fn new(version: String, behaviour: Behaviour, fail_header: Option<(HeaderName, HeaderValue)>, seed: Option<u64>) -> Self {
        let seed = seed.unwrap_or_else(rand::random);
        Self {
            version,
            metrics: Metrics::default(),
            fail_header,
            was_ready: AtomicBool::new(behaviour.ready),
            behaviour: Mutex::new(behaviour),
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
        }
    }

    pub(crate) fn behaviour(&self) -> Behaviour {
        lock(&self.behaviour).clone()
    }

    /// Replaces the behaviour by what `next` makes of the current one, as one step.
    ///
    /// # Errors
    /// Those of `next`; nothing has changed then.
    pub(crate) fn update(&self, next: impl FnOnce(&Behaviour) -> Result<Behaviour, String>) -> Result<Behaviour, String> {
        let mut behaviour = lock(&self.behaviour);
        *behaviour = next(&behaviour)?;
        if behaviour.ready {
            self.was_ready.store(true, Ordering::Relaxed);
        }
        if behaviour.mode == Mode::Crash {
            output::note(&format!("sample app {}: crashing as asked", self.version));
            std::process::exit(CRASH_EXIT_CODE);
        }
        Ok(behaviour.clone())
    }

    /// Makes a scheduled change.
    pub(crate) fn apply(&self, change: &Change) {
        // A scheduled change cannot be refused: its values were checked as options.
        let _ = self.update(|current| Ok(current.changed(change)));
        output::note(&format!("sample app {}: {change:?}", self.version));
    }

    /// Whether it has ever been ready. Before, it is still starting, and its routes answer 503; later, `ready` is for probes alone.
    pub(crate) fn has_started(&self) -> bool {
        self.was_ready.load(Ordering::Relaxed)
    }

    /// Draws delay and failure of one request for this path.
    pub(crate) fn draw(&self, path: &str, headers: &HeaderMap) -> Lot {
        let behaviour = self.behaviour();
        let mut rng = lock(&self.rng);
        let delay = Duration::try_from_secs_f64(behaviour.draw_latency_seconds(&mut *rng)).unwrap_or_default();
        let drawn = behaviour.draw_failure(path, &mut *rng);
        let hangs = behaviour.draw_hang(&mut *rng);
        let is_lost = behaviour.draw_loss(&mut *rng);
        let marked = self.fail_header.as_ref().is_some_and(|(name, value)| headers.get_all(name).iter().any(|given| given == value));
        Lot { delay, fails: (drawn || marked).then_some(behaviour.error_code), hangs, is_lost }
    }
}

/// A panic elsewhere leaves the plain values in here intact.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
