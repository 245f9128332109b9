//! Places for connections or streams: so many in all, and so many for each.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Places that someone who is called `K` can hold.
#[derive(Debug, Clone)]
pub(crate) struct Places<K: Ord> {
    held: Arc<Mutex<BTreeMap<K, usize>>>,
    most: usize,
    most_each: usize,
}

/// A place; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Place<K: Ord> {
    places: Places<K>,
    key: Option<K>,
}

impl<K: Ord + Clone> Places<K> {
    pub(crate) fn new(most: usize, most_each: usize) -> Self {
        Self { held: Arc::default(), most: most.max(1), most_each: most_each.max(1) }
    }

    /// A place, if there is one left for this holder.
    pub(crate) fn take(&self, key: K) -> Option<Place<K>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = held.values().sum();
        let own = held.get(&key).copied().unwrap_or(0);
        if all >= self.most || own >= self.most_each {
            return None;
        }
        held.insert(key.clone(), own + 1);
        Some(Place { places: self.clone(), key: Some(key) })
    }
}

impl<K: Ord> Places<K> {
    /// Places that are held.
    pub(crate) fn held(&self) -> usize {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }
}

impl<K: Ord> Drop for Place<K> {
    fn drop(&mut self) {
        let Some(key) = self.key.take() else { return };
        let mut held = self.places.held.lock().unwrap_or_else(PoisonError::into_inner);
        match held.get_mut(&key) {
            Some(own) if *own > 1 => *own -= 1,
            _ => {
                held.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_in_all_and_for_each() {
        let places = Places::new(3, 2);
        let (a, b) = (places.take("a"), places.take("a"));
        assert!(a.is_some() && b.is_some() && places.take("a").is_none(), "two for each");
        let c = places.take("b");
        assert!(c.is_some() && places.take("c").is_none(), "three in all");
        drop(a);
        assert_eq!(places.held(), 2);
        assert!(places.take("c").is_some());
        drop((b, c));
        assert_eq!(places.held(), 0);
    }
}
