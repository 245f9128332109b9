//! Which sticky clients have been seen in this release, in memory of fixed size.
//!
//! Two Bloom filters of 1 MiB: clients that sent a request since the weight in force came into force, and clients that met an
//! error in this release. The first one begins anew with every other weight, because a stage can only pass on what it sees
//! itself, and a closed circle of clients would show it nothing; an error is not new because the weight is. Each weight's filter
//! goes with its tables: a request that was assigned by the table before is looked up among the clients of that one, however
//! late it comes, so no client has two first requests at one weight unless the weight left and came back.
//!
//! All bits of a client are in one word, so that one atomic instruction sets them and says whether they were new: of two workers
//! with the same client only one is told so. A client whose bits others have set is taken for known and left out: about 0.01 %
//! of the clients with 100,000 seen before, 3 % with a million, nearly all with ten million. Whom it strikes has nothing to do
//! with the bucket that decides about the arm, so both arms lose the same share. Clients are remembered for one salt in one
//! proxy process: a process that is started anew counts every client once more.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use serin_core::WeightBps;

/// Words of 64 bits: 1 MiB.
const WORDS: usize = 1 << WORD_BITS;
const WORD_BITS: u32 = 17;
/// Bits of a client, if no two coincide.
const PROBES: u32 = 4;

/// The clients of one release at the weight in force.
#[derive(Debug)]
pub(crate) struct SeenClients {
    salt: String,
    weight: WeightBps,
    requested: Filter,
    /// Of the whole release.
    failed: Arc<Filter>,
}

impl SeenClients {
    /// Goes on with what `before`, of the table that is replaced, has in common with a table of this release and weight.
    pub(crate) fn at_weight(salt: &str, weight: WeightBps, before: Option<&Arc<Self>>) -> Arc<Self> {
        let before = before.filter(|before| before.salt == salt);
        if let Some(before) = before.filter(|before| before.weight == weight) {
            return before.clone();
        }
        let failed = before.map_or_else(|| Arc::new(Filter::new()), |before| before.failed.clone());
        Arc::new(Self { salt: salt.to_owned(), weight, requested: Filter::new(), failed })
    }
}

/// What a request is to its client. Keeps no weight's filter alive, however long the request takes.
#[derive(Debug)]
pub(crate) struct Session {
    failed: Arc<Filter>,
    client: u64,
    first: bool,
}

impl Session {
    /// The client, known by its hash, sends a request. `clients`: of the table that assigned it.
    pub(crate) fn begin(clients: &SeenClients, client: u64) -> Self {
        Self { failed: clients.failed.clone(), client, first: clients.requested.is_new(client) }
    }

    /// Whether this is the client's first request at this weight.
    pub(crate) fn is_first(&self) -> bool {
        self.first
    }

    /// The request failed. Whether that is the client's first error in this release: asked once.
    pub(crate) fn fails_first(&self) -> bool {
        self.failed.is_new(self.client)
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

    fn bps(weight: u16) -> WeightBps {
        WeightBps::new(weight).unwrap()
    }

    #[test]
    fn a_release_goes_on_and_the_next_one_begins_anew() {
        let first = SeenClients::at_weight("a", bps(10), None);
        assert!(Session::begin(&first, 7).is_first());
        let again = SeenClients::at_weight("a", bps(10), Some(&first));
        assert!(!Session::begin(&again, 7).is_first());
        assert!(Session::begin(&again, 7).fails_first() && !Session::begin(&again, 7).fails_first());
        let next = SeenClients::at_weight("b", bps(10), Some(&again));
        assert!(Session::begin(&next, 7).is_first() && Session::begin(&next, 7).fails_first());
    }

    #[test]
    fn another_weight_has_first_requests_again_and_no_first_errors() {
        let low = SeenClients::at_weight("a", bps(10), None);
        assert!(Session::begin(&low, 7).is_first() && Session::begin(&low, 7).fails_first());
        let high = SeenClients::at_weight("a", bps(25), Some(&low));
        assert!(Session::begin(&high, 7).is_first() && !Session::begin(&high, 7).is_first());
        assert!(!Session::begin(&high, 7).fails_first());

        // Assigned by the table before, but only now: known there, and new to the other weight.
        assert!(!Session::begin(&low, 7).is_first());
        let late = Session::begin(&low, 8);
        assert!(late.is_first() && Session::begin(&high, 8).is_first());
        assert!(late.fails_first() && !Session::begin(&high, 8).fails_first());

        let back = SeenClients::at_weight("a", bps(10), Some(&high));
        assert!(Session::begin(&back, 7).is_first(), "a weight that comes back belongs to a stage that begins again");
    }
}
