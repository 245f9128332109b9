//! Figures of several controllers side by side.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::figures::Figures;

/// What is compared, the digits after the point, and where it stands.
type Row = (&'static str, usize, fn(&Figures) -> f64);

/// What is compared, with the digits after the point.
const ROWS: [Row; 5] = [
    ("memory (RSS), MiB", 0, |figures| figures.memory_mib),
    ("processor, % of a core", 1, |figures| figures.processor),
    ("API writes for idle releases, per minute", 1, |figures| figures.per_minute(figures.idle_writes)),
    ("API writes for active releases, per minute", 1, |figures| figures.per_minute(figures.active_writes)),
    ("API reads beside watches and the lease, per minute", 1, |figures| figures.per_minute(figures.reads)),
];

/// As a table in Markdown. The first one is what the others are divided by.
pub(crate) fn table(measured: &[(String, Figures)]) -> String {
    let mut text = String::from("| what |");
    // Writing into a String cannot fail.
    for (number, (name, _)) in measured.iter().enumerate() {
        let _ = write!(text, " {name} |{}", if number == 0 { "" } else { " ratio |" });
    }
    let _ = writeln!(text, "\n|---|{}", "---|".repeat(measured.len() * 2 - usize::from(!measured.is_empty())));
    for (what, digits, value) in ROWS {
        let _ = write!(text, "| {what} |");
        let first = measured.first().map_or(0.0, |(_, figures)| value(figures));
        for (number, (_, figures)) in measured.iter().enumerate() {
            let value = value(figures);
            let _ = write!(text, " {value:.digits$} |");
            if number > 0 {
                let _ = write!(text, " {} |", ratio(value, first));
            }
        }
        text.push('\n');
    }
    text
}

/// As data.
pub(crate) fn json(measured: &[(String, Figures)]) -> Value {
    measured.iter().map(|(name, figures)| json!({"name": name, "figures": figures.json()})).collect()
}

fn ratio(value: f64, first: f64) -> String {
    if value == first {
        "1.0".to_owned()
    } else if first == 0.0 {
        "-".to_owned()
    } else {
        format!("{:.1}", value / first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_column_is_divided_by_the_first() {
        let of = |memory_mib, reads| Figures { minutes: 1.0, memory_mib, reads, ..Figures::default() };
        let table = table(&[("A".to_owned(), of(50.0, 0)), ("B".to_owned(), of(125.0, 7))]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[..3], ["| what | A | B | ratio |", "|---|---|---|---|", "| memory (RSS), MiB | 50 | 125 | 2.5 |"]);
        assert_eq!(lines[4], "| API writes for idle releases, per minute | 0.0 | 0.0 | 1.0 |");
        assert_eq!(lines[6], "| API reads beside watches and the lease, per minute | 0.0 | 7.0 | - |");
    }
}
