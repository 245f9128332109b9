//! Sticky assignment: which clients stay on which arm.
//!
//! A client's key (cookie or header value) falls into one of 10,000 buckets; the canary has the buckets below its weight
//! in basis points. So raising the weight only adds clients, and none moves back and forth.
//!
//! The bucket is fixed for all time and versions:
//! `k0 = SipHash-2-4(key = (0, 0), salt)`, `k1 = SipHash-2-4(key = (0, 1), salt)`,
//! `h = SipHash-2-4(key = (k0, k1), client key)`, `bucket = floor(h * 10,000 / 2^64)`.
//! The salt decides which clients come first, so that not the same ones try every release.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher24;

/// Number of buckets: one per basis point.
const BUCKETS: u128 = 10_000;

/// The bucket of a client's key in a release, 0 to 9,999. The canary serves it iff it is below the weight in basis points.
#[must_use]
pub fn bucket_of(salt: &str, key: &[u8]) -> u16 {
    bucket_of_hash(StickyKey::new(salt).hash(key))
}

/// The keyed hash of one salt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StickyKey {
    k0: u64,
    k1: u64,
}

impl StickyKey {
    pub(crate) fn new(salt: &str) -> Self {
        Self { k0: sip(0, 0, salt.as_bytes()), k1: sip(0, 1, salt.as_bytes()) }
    }

    /// Who a client is in this release: `h` above.
    pub(crate) fn hash(self, key: &[u8]) -> u64 {
        sip(self.k0, self.k1, key)
    }
}

/// The bucket of a client's hash.
pub(crate) fn bucket_of_hash(hash: u64) -> u16 {
    let scaled = (u128::from(hash) * BUCKETS) >> 64;
    u16::try_from(scaled).unwrap_or(u16::MAX)
}

fn sip(k0: u64, k1: u64, data: &[u8]) -> u64 {
    let mut hasher = SipHasher24::new_with_keys(k0, k1);
    hasher.write(data);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_never_change_between_versions() {
        let got: Vec<u16> = ["", "alice", "bob", "0123456789abcdef"].iter().map(|key| bucket_of("shop", key.as_bytes())).collect();
        assert_eq!(got, GOLDEN);
    }

    /// Computed apart from this code, by an implementation of SipHash-2-4 from its paper.
    const GOLDEN: [u16; 4] = [7428, 6500, 9466, 3670];

    #[test]
    fn buckets_are_even() {
        let key = StickyKey::new("shop");
        let below = (0..20_000).filter(|client| bucket_of_hash(key.hash(format!("client-{client}").as_bytes())) < 500).count();
        assert!((850..1150).contains(&below), "{below} of 20,000 in 5 %");
    }

    proptest! {
        #[test]
        fn raising_the_weight_only_adds_clients(salt in ".{0,20}", client in ".{0,40}", low in 0_u16..=10_000, more in 0_u16..=10_000) {
            let bucket = bucket_of(&salt, client.as_bytes());
            prop_assert!(bucket < 10_000);
            let high = low.max(more);
            prop_assert!(bucket >= low || bucket < high);
        }
    }
}
