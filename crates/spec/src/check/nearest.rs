//! The name that was probably meant.

/// The nearest of some names, if one is near enough to be meant.
///
/// Names that differ only in case and separators (`min_requests`, `minRequests`) are always near. Others may differ in one place, and in one
/// more for every three characters after the third; transposed letters count as one.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const MAX_CHARS: usize = 64;
    if name.chars().count() > MAX_CHARS {
        return None;
    }
    let plain = simplified(name);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&plain, &simplified(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= allowed(plain.chars().count().min(candidate.chars().count())))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn allowed(length: usize) -> usize {
    if length <= 2 { 0 } else { (length / 3).min(4) }
}

fn simplified(name: &str) -> String {
    name.chars().filter(|character| !matches!(character, '_' | '-' | ' ')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_is_suggested_and_far_is_not() {
        let names = ["weight", "hold", "minHold", "minRequests", "for"];
        for (name, expected) in [
            ("weigth", Some("weight")),
            ("Weight", Some("weight")),
            ("holds", Some("hold")),
            ("min_requests", Some("minRequests")),
            ("minRequest", Some("minRequests")),
            ("min-hold", Some("minHold")),
            ("duration", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, names), expected, "{name}");
        }
        assert_eq!(nearest(&"weight".repeat(100_000), names), None);
    }
}
