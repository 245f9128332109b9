//! Numbers that survive a checkpoint to the last bit.
//!
//! A process that is restored must go on exactly as if it had never stopped. Text formats are free to read a float back one
//! unit in the last place off, and JSON has no infinities. State is therefore stored as the shortest decimal text that names
//! one float and no other, and read with the correctly rounded parser of the standard library.

use serde::{Deserialize, Deserializer, Serializer, de::Error as _, ser::SerializeSeq as _};

/// What can be stored this way: a float or an array of them.
pub(crate) trait Exact: Sized {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

pub(crate) fn serialize<T: Exact, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    value.write(serializer)
}

pub(crate) fn deserialize<'de, T: Exact, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::read(deserializer)
}

fn parse<E: serde::de::Error>(text: &str) -> Result<f64, E> {
    match text.parse::<f64>() {
        Ok(value) if !value.is_nan() => Ok(value),
        _ => Err(E::custom(format!("`{text}` is not a number: the checkpoint is damaged, start the test anew"))),
    }
}

impl Exact for f64 {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{self:?}"))
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parse(&String::deserialize(deserializer)?)
    }
}

impl<const N: usize> Exact for [f64; N] {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut sequence = serializer.serialize_seq(Some(N))?;
        for value in self {
            sequence.serialize_element(&format!("{value:?}"))?;
        }
        sequence.end()
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        if texts.len() != N {
            return Err(D::Error::custom(format!("expected {N} numbers, got {}", texts.len())));
        }
        let mut values = [0.0; N];
        for (value, text) in values.iter_mut().zip(&texts) {
            *value = parse(text)?;
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Stored {
        #[serde(with = "super")]
        one: f64,
        #[serde(with = "super")]
        many: [f64; 3],
    }

    proptest! {
        #[test]
        fn every_float_comes_back_bit_by_bit(bits in any::<[u64; 4]>()) {
            let [one, a, b, c] = bits.map(f64::from_bits);
            prop_assume!(![one, a, b, c].iter().any(|x| x.is_nan()));
            let text = serde_json::to_string(&Stored { one, many: [a, b, c] }).unwrap();
            let back: Stored = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(back.one.to_bits(), one.to_bits());
            prop_assert_eq!(back.many.map(f64::to_bits), [a, b, c].map(f64::to_bits));
        }
    }

    #[test]
    fn infinities_are_kept_and_damage_is_refused() {
        let stored = Stored { one: f64::NEG_INFINITY, many: [0.0, -0.0, f64::INFINITY] };
        assert_eq!(serde_json::from_str::<Stored>(&serde_json::to_string(&stored).unwrap()).unwrap(), stored);
        for damaged in [r#"{"one":"NaN","many":["1","2","3"]}"#, r#"{"one":"1","many":["1","2"]}"#, r#"{"one":"x","many":["1","2","3"]}"#] {
            assert!(serde_json::from_str::<Stored>(damaged).is_err());
        }
    }
}
