//! Which arm a request goes to, and why.
//!
//! In this order: a declared match → canary; weight 0 or no canary → stable and weight 100 % → canary, both forced;
//! the sticky key's bucket; else at random, stratified.
//!
//! Stratified: each worker deals requests in blocks. A block holds the exact number of canary slots that the weight asks
//! for, in uniformly random order, so that the split is exact at every block's end and cannot be guessed within. Its
//! length is the smallest multiple of `10,000 / gcd(weight, 10,000)` that is at least 100. A new weight starts a new block.

use http::{HeaderMap, HeaderName, header};
use rand::RngExt as _;
use serin_core::{
    WeightBps,
    traffic::{Arm, Assignment},
};

use crate::{
    sticky::{StickyKey, bucket_of_hash},
    table::{MatchRule, RouteTable, Sticky},
};

/// Longer cookie values are not ours and are treated as absent.
const MAX_KEY_BYTES: usize = 128;

/// The arm of a request, and how it came to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) arm: Arm,
    pub(crate) assignment: Assignment,
    /// Who the client is, if that decided: the hash that its bucket comes from.
    pub(crate) client: Option<u64>,
    /// The `Set-Cookie` value for a client that has no sticky cookie yet.
    pub(crate) set_cookie: Option<String>,
}

impl Decision {
    /// Of a request through the preview address.
    pub(crate) const PREVIEW: Self = Self { arm: Arm::Canary, assignment: Assignment::Preview, client: None, set_cookie: None };
}

/// The parts of a table that decide about arms, ready for use.
#[derive(Debug)]
pub(crate) struct Assigner {
    has_canary: bool,
    weight: WeightBps,
    rules: Vec<Rule>,
    sticky: Option<(Sticky, StickyKey)>,
}

#[derive(Debug)]
struct Rule {
    headers: Vec<(HeaderName, String)>,
    cookies: Vec<(String, String)>,
}

impl Assigner {
    /// For a validated table: names that do not parse match nothing.
    pub(crate) fn new(table: &RouteTable) -> Self {
        Self {
            has_canary: table.canary.is_some(),
            weight: table.weight,
            rules: table.matches.iter().filter_map(Rule::new).collect(),
            sticky: table.sticky.clone().map(|sticky| (sticky, StickyKey::new(&table.salt))),
        }
    }

    pub(crate) fn assign(&self, headers: &HeaderMap, dice: &mut Dice) -> Decision {
        let decide = |arm, assignment| Decision { arm, assignment, client: None, set_cookie: None };
        let stick = |client, set_cookie| {
            let decision = decide(self.arm_of(client), Assignment::Sticky);
            Decision { client: Some(client), set_cookie, ..decision }
        };
        if self.has_canary && self.rules.iter().any(|rule| rule.matches(headers)) {
            return decide(Arm::Canary, Assignment::Matched);
        }
        if !self.has_canary || self.weight.is_zero() {
            return decide(Arm::Stable, Assignment::Forced);
        }
        if self.weight == WeightBps::FULL {
            return decide(Arm::Canary, Assignment::Forced);
        }
        match &self.sticky {
            Some((Sticky::Cookie { name, max_age_s }, key)) => {
                if let Some(value) = cookie(headers, name).filter(|value| is_key(value)) {
                    return stick(key.hash(value.as_bytes()), None);
                }
                let id = format!("{:032x}", dice.rng.random::<u128>());
                let issued = format!("{name}={id}; Path=/; HttpOnly; SameSite=Lax; Max-Age={max_age_s}");
                stick(key.hash(id.as_bytes()), Some(issued))
            }
            Some((Sticky::Header { name }, key)) if headers.contains_key(name) => {
                let value = headers.get(name).map_or(&[][..], |value| value.as_bytes());
                stick(key.hash(value), None)
            }
            _ => decide(dice.deal(self.weight), Assignment::Random),
        }
    }

    fn arm_of(&self, client: u64) -> Arm {
        if bucket_of_hash(client) < self.weight.canary_bps() { Arm::Canary } else { Arm::Stable }
    }
}

fn is_key(value: &str) -> bool {
    (1..=MAX_KEY_BYTES).contains(&value.len())
}

impl Rule {
    fn new(rule: &MatchRule) -> Option<Self> {
        let header = |(name, value): &(String, String)| HeaderName::from_bytes(name.as_bytes()).ok().map(|name| (name, value.clone()));
        let headers = rule.headers.iter().map(header).collect::<Option<Vec<_>>>()?;
        Some(Self { headers, cookies: rule.cookies.clone() })
    }

    fn matches(&self, headers: &HeaderMap) -> bool {
        let header = |(name, value): &(HeaderName, String)| headers.get_all(name).iter().any(|found| found.as_bytes() == value.as_bytes());
        let named = |(name, value): &(String, String)| cookies(headers).any(|found| found == (name, value));
        self.headers.iter().all(header) && self.cookies.iter().all(named)
    }
}

fn cookie<'a>(headers: &'a HeaderMap, wanted: &str) -> Option<&'a str> {
    cookies(headers).find(|(name, _)| *name == wanted).map(|(_, value)| value)
}

/// Name and value of every cookie of the request.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.trim(), value.trim()))
}

/// A worker's randomness: its generator and what is left of its current block.
#[derive(Debug)]
pub(crate) struct Dice {
    pub(crate) rng: rand::rngs::SmallRng,
    weight: WeightBps,
    slots_left: u32,
    canary_left: u32,
}

impl Dice {
    pub(crate) fn new() -> Self {
        Self { rng: rand::make_rng(), weight: WeightBps::ZERO, slots_left: 0, canary_left: 0 }
    }

    /// The arm of the next slot: sequential sampling, so that every order of the block is equally likely.
    fn deal(&mut self, weight: WeightBps) -> Arm {
        if self.slots_left == 0 || weight != self.weight {
            self.weight = weight;
            self.slots_left = block_len(weight);
            self.canary_left = self.slots_left * u32::from(weight.canary_bps()) / 10_000;
        }
        let canary = self.rng.random_range(0..self.slots_left) < self.canary_left;
        self.slots_left -= 1;
        if canary {
            self.canary_left -= 1;
            Arm::Canary
        } else {
            Arm::Stable
        }
    }
}

fn block_len(weight: WeightBps) -> u32 {
    let unit = 10_000 / gcd(u32::from(weight.canary_bps()), 10_000);
    unit * 100_u32.div_ceil(unit)
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Endpoint, Pool, Timeouts};
    use http::HeaderValue;
    use proptest::prelude::*;

    fn table(weight: u16) -> RouteTable {
        let pool = Pool { endpoints: vec![Endpoint { id: "e".to_owned(), address: "a:1".to_owned() }], health: None };
        RouteTable {
            epoch: 1,
            version: 1,
            release: "r".to_owned(),
            salt: "salt".to_owned(),
            stable: pool.clone(),
            canary: Some(pool),
            weight: WeightBps::new(weight).unwrap(),
            matches: vec![],
            sticky: None,
            timeouts: Timeouts { connect_ms: 1, response_ms: 1, idle_ms: 1 },
            access_log: None,
            preview: None,
        }
    }

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in list {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        map
    }

    #[test]
    fn block_lengths() {
        for (bps, expected) in [(500, 100), (5000, 100), (1, 10_000), (50, 200), (3333, 10_000), (9999, 10_000), (1250, 104)] {
            assert_eq!(block_len(WeightBps::new(bps).unwrap()), expected, "{bps}");
        }
    }

    proptest! {
        #[test]
        fn every_block_holds_exactly_its_share(bps in 1_u16..10_000) {
            let weight = WeightBps::new(bps).unwrap();
            let mut dice = Dice::new();
            let len = block_len(weight);
            for _ in 0..2 {
                let canary = (0..len).map(|_| u32::from(dice.deal(weight) == Arm::Canary)).sum::<u32>();
                prop_assert_eq!(canary * 10_000, len * u32::from(bps));
            }
        }

        #[test]
        fn a_sticky_client_never_leaves_the_canary_while_the_weight_rises(user in "[a-z0-9]{1,40}", a in 1_u16..10_000, b in 1_u16..10_000) {
            let arm = |bps| {
                let mut table = table(bps);
                table.sticky = Some(Sticky::Header { name: "x-user".to_owned() });
                Assigner::new(&table).assign(&headers(&[("x-user", &user)]), &mut Dice::new()).arm
            };
            if arm(a.min(b)) == Arm::Canary {
                prop_assert_eq!(arm(a.max(b)), Arm::Canary);
            }
        }
    }

    #[test]
    fn the_order_within_a_block_is_random() {
        let weight = WeightBps::new(5000).unwrap();
        let mut dice = Dice::new();
        let mut block = || (0..100).map(|_| dice.deal(weight)).collect::<Vec<_>>();
        let blocks: Vec<_> = (0..20).map(|_| block()).collect();
        assert!(blocks.windows(2).any(|pair| pair[0] != pair[1]));
        let first_canary = (0..2000).filter(|_| Dice::new().deal(weight) == Arm::Canary).count();
        assert!((850..1150).contains(&first_canary), "{first_canary}");
    }

    #[test]
    fn matches_come_before_weights_and_need_all_conditions() {
        let mut table = table(0);
        table.matches = vec![
            MatchRule { headers: vec![("X-Canary".to_owned(), "true".to_owned())], cookies: vec![] },
            MatchRule { headers: vec![("x-tier".to_owned(), "vip".to_owned())], cookies: vec![("beta".to_owned(), "1".to_owned())] },
        ];
        let assigner = Assigner::new(&table);
        for (list, expected) in [
            (vec![("x-canary", "true")], Arm::Canary),
            (vec![("x-canary", "false"), ("x-canary", "true")], Arm::Canary),
            (vec![("x-canary", "truely")], Arm::Stable),
            (vec![("x-tier", "vip")], Arm::Stable),
            (vec![("x-tier", "vip"), ("cookie", "a=b; beta=1")], Arm::Canary),
            (vec![("x-tier", "vip"), ("cookie", "beta=2")], Arm::Stable),
        ] {
            let decision = assigner.assign(&headers(&list), &mut Dice::new());
            let assignment = if expected == Arm::Canary { Assignment::Matched } else { Assignment::Forced };
            assert_eq!((decision.arm, decision.assignment), (expected, assignment), "{list:?}");
        }
    }

    #[test]
    fn all_or_nothing_is_forced() {
        for (bps, arm) in [(0, Arm::Stable), (10_000, Arm::Canary)] {
            let decision = Assigner::new(&table(bps)).assign(&HeaderMap::new(), &mut Dice::new());
            assert_eq!((decision.arm, decision.assignment), (arm, Assignment::Forced));
        }
    }

    #[test]
    fn a_cookie_is_issued_once_and_then_obeyed() {
        let mut table = table(5000);
        table.sticky = Some(Sticky::Cookie { name: "serin".to_owned(), max_age_s: 60 });
        let assigner = Assigner::new(&table);
        let first = assigner.assign(&HeaderMap::new(), &mut Dice::new());
        let issued = first.set_cookie.unwrap();
        assert!(issued.ends_with("; Path=/; HttpOnly; SameSite=Lax; Max-Age=60"), "{issued}");
        let pair = issued.split(';').next().unwrap().to_owned();
        assert_eq!(pair.len(), "serin=".len() + 32);
        let again = assigner.assign(&headers(&[("cookie", &format!("a=1; {pair}"))]), &mut Dice::new());
        assert_eq!(again, Decision { arm: first.arm, assignment: Assignment::Sticky, client: first.client, set_cookie: None });
        assert!(first.client.is_some());
        let long = format!("serin={}", "x".repeat(129));
        assert!(assigner.assign(&headers(&[("cookie", &long)]), &mut Dice::new()).set_cookie.is_some());
    }

    #[test]
    fn without_the_sticky_header_the_block_decides() {
        let mut table = table(5000);
        table.sticky = Some(Sticky::Header { name: "x-user".to_owned() });
        let assigner = Assigner::new(&table);
        let with = assigner.assign(&headers(&[("x-user", "7")]), &mut Dice::new());
        let without = assigner.assign(&HeaderMap::new(), &mut Dice::new());
        assert_eq!((with.assignment, without.assignment), (Assignment::Sticky, Assignment::Random));
    }
}
