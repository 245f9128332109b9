//! How often someone may ask: token buckets by identity, and by address for those who fail to say who they are.
//!
//! - Whoever has a valid token is never refused because of others, also not because someone at the same address fails: only failures take
//!   from the bucket of failures. With 256 random bits in a token that bucket is no defence against guessing; it keeps the log short.
//! - Requests that take traffic back have a bucket of their own, so that no flood of other requests of the same identity holds them up.
//! - Buckets that are full again are forgotten. If too many are not, new addresses share one bucket.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use crate::config::{Limits, Rate};

/// Buckets that are kept at most.
const MOST_BUCKETS: usize = 4_096;

/// What is counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// Requests.
    Calls,
    /// Requests that take traffic back.
    Aborts,
    /// Requests with a wrong token or none.
    Failures,
}

/// Who is counted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    /// Someone who is known.
    Identity(String),
    /// An address, or the 64 bits of an IPv6 network: nobody has fewer of those.
    Address(IpAddr),
    /// All who come when there is no room for one more.
    Others,
}

#[derive(Debug)]
pub(crate) struct Limiter {
    rates: [Rate; 3],
    buckets: Mutex<BTreeMap<(Class, Key), Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    level: f64,
    at: Instant,
}

impl Limiter {
    pub(crate) fn new(limits: &Limits) -> Self {
        let sane = |rate: Rate| Rate { per_s: rate.per_s.max(0.001), burst: rate.burst.max(1.0) };
        Self { rates: [limits.calls, limits.aborts, limits.failures].map(sane), buckets: Mutex::default() }
    }

    /// Takes one from a bucket.
    ///
    /// # Errors
    /// If it is empty: the seconds until it is not, at least 1.
    pub(crate) fn take(&self, class: Class, key: Key, now: Instant) -> Result<(), u64> {
        let rate = self.rate(class);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let mut entry = (class, key);
        if buckets.len() >= MOST_BUCKETS && !buckets.contains_key(&entry) {
            buckets.retain(|(class, _), bucket| bucket.filled(self.rate(*class), now) < self.rate(*class).burst);
            if buckets.len() >= MOST_BUCKETS && !matches!(entry.1, Key::Identity(_)) {
                entry.1 = Key::Others;
            }
        }
        let bucket = buckets.entry(entry).or_insert(Bucket { level: rate.burst, at: now });
        let level = bucket.filled(rate, now);
        bucket.at = bucket.at.max(now);
        if level < 1.0 {
            bucket.level = level;
            // At least 1 and far below 2^53: rates are at least a thousandth per second.
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
            let seconds = ((1.0 - level) / rate.per_s).ceil().max(1.0) as u64;
            return Err(seconds);
        }
        bucket.level = level - 1.0;
        Ok(())
    }

    fn rate(&self, class: Class) -> Rate {
        let [calls, aborts, failures] = self.rates;
        match class {
            Class::Calls => calls,
            Class::Aborts => aborts,
            Class::Failures => failures,
        }
    }
}

impl Bucket {
    fn filled(&self, rate: Rate, now: Instant) -> f64 {
        (self.level + now.saturating_duration_since(self.at).as_secs_f64() * rate.per_s).min(rate.burst)
    }
}

impl Key {
    pub(crate) fn address(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                Self::Address(IpAddr::from([a, b, c, d, 0, 0, 0, 0]))
            }
            v4 @ IpAddr::V4(_) => Self::Address(v4),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn limiter(per_s: f64, burst: f64) -> Limiter {
        let rate = Rate { per_s, burst };
        Limiter::new(&Limits { calls: rate, aborts: rate, failures: rate, ..Limits::default() })
    }

    fn name(name: &str) -> Key {
        Key::Identity(name.to_owned())
    }

    #[test]
    fn a_burst_then_the_rate() {
        let (limiter, start) = (limiter(2.0, 3.0), Instant::now());
        let take = |ms| limiter.take(Class::Calls, name("a"), start + Duration::from_millis(ms));
        assert_eq!([take(0), take(0), take(0), take(0)], [Ok(()), Ok(()), Ok(()), Err(1)]);
        assert_eq!([take(500), take(500)], [Ok(()), Err(1)]);
        assert_eq!(
            [take(60_000), take(60_000), take(60_000), take(60_000)],
            [Ok(()), Ok(()), Ok(()), Err(1)],
            "no more than the burst is saved up"
        );
    }

    #[test]
    fn it_is_said_when_to_come_back() {
        let (limiter, now) = (limiter(0.1, 1.0), Instant::now());
        assert_eq!(limiter.take(Class::Failures, name("a"), now), Ok(()));
        assert_eq!(limiter.take(Class::Failures, name("a"), now), Err(10));
    }

    #[test]
    fn nobody_is_held_up_by_others_and_aborts_by_nothing_else() {
        let (limiter, now) = (limiter(1.0, 1.0), Instant::now());
        assert_eq!(limiter.take(Class::Calls, name("a"), now), Ok(()));
        assert_eq!(limiter.take(Class::Calls, name("a"), now), Err(1));
        assert_eq!(limiter.take(Class::Calls, name("b"), now), Ok(()));
        assert_eq!(limiter.take(Class::Aborts, name("a"), now), Ok(()));
    }

    #[test]
    fn a_flood_of_addresses_neither_fills_the_memory_nor_locks_anyone_out() {
        let (limiter, start) = (limiter(1.0, 2.0), Instant::now());
        let address = |n: u32| Key::address(IpAddr::from(n.to_be_bytes()));
        for n in 0..10_000 {
            let _ = limiter.take(Class::Failures, address(n), start);
        }
        assert!(limiter.buckets.lock().unwrap().len() <= MOST_BUCKETS + 1);
        assert_eq!(limiter.take(Class::Failures, address(20_000), start), Err(1), "newcomers share one bucket");
        assert_eq!(limiter.take(Class::Calls, name("a"), start), Ok(()), "who is known has a bucket always");
        let later = start + Duration::from_secs(10);
        assert_eq!(limiter.take(Class::Failures, address(20_000), later), Ok(()));
        assert!(limiter.buckets.lock().unwrap().len() <= 2, "full buckets are forgotten");
    }

    #[test]
    fn networks_of_ipv6_count_as_one() {
        let key = |text: &str| Key::address(text.parse().unwrap());
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
    }
}
