//! Which sticky clients have been seen in this release, in memory of fixed size.
//!
//! Two Bloom filters of 1 MiB: clients that sent a request, and clients that met an error. All bits of a client are in one
//! word, so that one atomic instruction sets them and says whether they were new: of two workers with the same client only
//! one is told so. A client whose bits others have set is taken for known and left out: about 0.01 % of the clients with
//! 100,000 seen before, 3 % with a million, nearly all with ten million. Whom it strikes has nothing to do with the bucket
//! that decides about the arm, so both arms lose the same share. Clients are remembered for one salt in one proxy process:
//! a process that is started anew counts every client once more.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Words of 64 bits: 1 MiB.
const WORDS: usize = 1 << WORD_BITS;
const WORD_BITS: u32 = 17;
/// Bits of a client, if no two coincide.
const PROBES: u32 = 4;

/// The clients of one release.
#[derive(Debug)]
pub(crate) struct SeenClients {
    salt: String,
    requested: Filter,
    failed: Filter,
}

impl SeenClients {
    /// Goes on with `before` if that is of the same release.
    pub(crate) fn of_release(salt: &str, before: Option<&Arc<Self>>) -> Arc<Self> {
        let same = before.filter(|before| before.salt == salt);
        same.cloned().unwrap_or_else(|| Arc::new(Self { salt: salt.to_owned(), requested: Filter::new(), failed: Filter::new() }))
    }
}

/// What a request is to its client.
#[derive(Debug)]
pub(crate) struct Session {
    clients: Arc<SeenClients>,
    client: u64,
    first: bool,
}

impl Session {
    /// The client, known by its hash, sends a request.
    pub(crate) fn begin(clients: &Arc<SeenClients>, client: u64) -> Self {
        Self { clients: clients.clone(), client, first: clients.requested.is_new(client) }
    }

    /// Whether this is the client's first request.
    pub(crate) fn is_first(&self) -> bool {
        self.first
    }

    /// The request failed. Whether that is the client's first error: asked once.
    pub(crate) fn fails_first(&self) -> bool {
        self.clients.failed.is_new(self.client)
    }
}

struct Filter(Box<[AtomicU64]>);

impl Filter {
    fn new() -> Self {
        Self((0..WORDS).map(|_| AtomicU64::new(0)).collect())
    }

    fn is_new(&self, client: u64) -> bool {
        let mixed = mix(client);
        let word = &self.0[usize::try_from(mixed >> (64 - WORD_BITS)).unwrap_or(0)];
        let bits = (0..PROBES).fold(0, |bits, probe| bits | 1 << ((mixed >> (6 * probe)) & 63));
        // Clients come again and again: reading keeps the word in the caches of all workers.
        word.load(Relaxed) & bits != bits && word.fetch_or(bits, Relaxed) & bits != bits
    }
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filter").finish_non_exhaustive()
    }
}

/// The hash's upper bits are the bucket. Mixed (by the last steps of `SplitMix64`), they do not decide about the word.
fn mix(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sticky::StickyKey;

    fn clients(count: usize) -> Vec<u64> {
        let key = StickyKey::new("shop");
        (0..count).map(|client| key.hash(format!("client-{client}").as_bytes())).collect()
    }

    #[test]
    fn of_workers_with_the_same_clients_one_is_told_about_each() {
        let (filter, clients) = (Filter::new(), clients(50_000));
        let new: usize = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(|| clients.iter().filter(|client| filter.is_new(**client)).count())).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        assert!((49_950..=50_000).contains(&new), "{new}");
    }

    #[test]
    fn those_that_are_left_out_are_few_and_alike_on_both_arms() {
        let (filter, clients) = (Filter::new(), clients(400_000));
        // By bucket: the lower half would be the canary's at 50 %.
        let mut left_out = [0_usize; 2];
        for client in &clients {
            left_out[usize::from(*client >= 1 << 63)] += usize::from(!filter.is_new(*client));
        }
        let [low, high] = left_out;
        assert!((200..2_000).contains(&(low + high)), "{left_out:?}");
        assert!(low.abs_diff(high) < 6 * (low + high).isqrt(), "{left_out:?}");
    }

    #[test]
    fn a_release_goes_on_and_the_next_one_begins_anew() {
        let first = SeenClients::of_release("a", None);
        assert!(Session::begin(&first, 7).is_first());
        let again = SeenClients::of_release("a", Some(&first));
        assert!(!Session::begin(&again, 7).is_first());
        assert!(Session::begin(&again, 7).fails_first() && !Session::begin(&again, 7).fails_first());
        let next = SeenClients::of_release("b", Some(&again));
        assert!(Session::begin(&next, 7).is_first() && Session::begin(&next, 7).fails_first());
    }
}
