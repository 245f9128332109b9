//! What was worked out of a Deployment in memory: once for each version of the object, and not at every look. A run looks at its Deployments each
//! second and at every change of any of them, and to hash a template is most of the work of that.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::Kept;

/// See the module. `K`: what the result depends on beside the object.
#[derive(Debug)]
pub(super) struct Once<K, V>(Arc<Mutex<HashMap<String, Known<K, V>>>>);

#[derive(Debug)]
struct Known<K, V> {
    /// Kept, so that no other object can come to be where it is.
    object: Arc<Kept>,
    key: K,
    value: V,
}

impl<K: PartialEq, V: Clone> Once<K, V> {
    /// What was worked out of this object before, with the same key; else `work` does.
    pub(super) fn of(&self, name: &str, object: &Arc<Kept>, key: K, work: impl FnOnce(&K) -> V) -> V {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(name).filter(|known| Arc::ptr_eq(&known.object, object) && known.key == key) {
            return known.value.clone();
        }
        let value = work(&key);
        all.insert(name.to_owned(), Known { object: Arc::clone(object), key, value: value.clone() });
        value
    }
}

impl<K, V> Default for Once<K, V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, V> Clone for Once<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn work_is_done_once_for_each_version_and_key() {
        let object = || Arc::new(serde_json::from_value::<Kept>(json!({"metadata": {"name": "a"}})).unwrap());
        let (once, [first, second]) = (Once::default(), [object(), object()]);
        let mut done = 0;
        let mut of = |name: &str, object: &Arc<Kept>, key: u8| {
            once.clone().of(name, object, key, |key| {
                done += 1;
                (done, *key)
            })
        };
        assert_eq!([of("a", &first, 1), of("a", &first, 1)], [(1, 1), (1, 1)]);
        assert_eq!(of("b", &first, 1), (2, 1), "of another name");
        assert_eq!(of("a", &first, 2), (3, 2), "of another key");
        assert_eq!([of("a", &second, 2), of("a", &second, 2)], [(4, 2), (4, 2)], "equal, but read anew");
    }
}
