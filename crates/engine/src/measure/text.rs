//! Prometheus' text format, version 0.0.4.

use std::fmt::Write as _;

use super::Histogram;

/// What Prometheus asks for.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a metric is.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only goes up.
    Counter,
    /// Times, by upper bounds.
    Histogram,
}

/// A page of metrics. Families are written whole, one after the other, as the format demands.
#[derive(Debug, Default)]
pub struct Page(String);

/// A family of series with one name.
#[derive(Debug)]
pub struct Family<'a> {
    page: &'a mut Page,
    name: &'static str,
}

impl Page {
    /// Begins a family; its series follow, before the next one begins.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {}\n# TYPE {name} {kind}", help.replace('\\', "\\\\").replace('\n', "\\n"));
        Family { page: self, name }
    }

    /// The page.
    #[must_use]
    pub fn into_text(self) -> String {
        self.0
    }
}

impl Family<'_> {
    /// One series. A value that is not known is left out.
    pub fn series(&mut self, labels: &[(&str, &str)], value: impl Into<Option<f64>>) -> &mut Self {
        self.suffixed("", labels, value)
    }

    /// A series of a histogram: `_bucket`, `_sum` or `_count`.
    fn suffixed(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Into<Option<f64>>) -> &mut Self {
        let Some(value) = value.into() else { return self };
        let out = &mut self.page.0;
        out.push_str(self.name);
        out.push_str(suffix);
        for (index, (name, text)) in labels.iter().enumerate() {
            let _ = write!(out, "{}{name}=\"", if index == 0 { '{' } else { ',' });
            escape(text, out);
            out.push('"');
        }
        if !labels.is_empty() {
            out.push('}');
        }
        let _ = if value.is_nan() {
            writeln!(out, " NaN")
        } else if value.is_infinite() {
            writeln!(out, " {}Inf", if value > 0.0 { '+' } else { '-' })
        } else {
            writeln!(out, " {value}")
        };
        self
    }

    /// All series of a histogram.
    pub fn histogram(&mut self, labels: &[(&str, &str)], histogram: &Histogram) -> &mut Self {
        let (buckets, all, sum) = histogram.cumulative();
        let mut with_bound = |bound: &str, number: u64| {
            let labels: Vec<(&str, &str)> = labels.iter().copied().chain([("le", bound)]).collect();
            self.suffixed("_bucket", &labels, count(number));
        };
        for (bound, number) in buckets {
            with_bound(&bound.to_string(), number);
        }
        with_bound("+Inf", all);
        self.suffixed("_sum", labels, sum).suffixed("_count", labels, count(all))
    }
}

/// A label's value may be any text: only these three characters mean something within quotes.
fn escape(text: &str, out: &mut String) {
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

/// 1 for what is so, 0 for what is not.
#[must_use]
pub fn truth(is: bool) -> f64 {
    if is { 1.0 } else { 0.0 }
}

/// A count as the number that the format knows.
#[expect(clippy::cast_precision_loss, reason = "counters are floating-point numbers in Prometheus")]
#[must_use]
pub fn count(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_labels_are_written_as_the_format_says() {
        let mut page = Page::default();
        page.family("a", Kind::Gauge, "one\ntwo \\").series(&[], 1.5).series(&[("x", "1"), ("y", "")], 2.0).series(&[], None);
        page.family("b", Kind::Counter, "more")
            .series(&[("n", "nan")], f64::NAN)
            .series(&[("n", "inf")], f64::INFINITY)
            .series(&[("n", "minus")], f64::NEG_INFINITY);
        let expected = "# HELP a one\\ntwo \\\\\n# TYPE a gauge\na 1.5\na{x=\"1\",y=\"\"} 2\n\
            # HELP b more\n# TYPE b counter\nb{n=\"nan\"} NaN\nb{n=\"inf\"} +Inf\nb{n=\"minus\"} -Inf\n";
        assert_eq!(page.into_text(), expected);
    }

    #[test]
    fn no_label_breaks_out_of_its_quotes() {
        let mut page = Page::default();
        page.family("a", Kind::Gauge, "h").series(&[("x", "\"} 1\nb 2\\")], 1.0);
        let text = page.into_text();
        assert_eq!(text.lines().last().unwrap(), "a{x=\"\\\"} 1\\nb 2\\\\\"} 1");
    }
}
