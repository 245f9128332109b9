//! `{{name}}` in commands.

/// Replaces each `{{name}}` whose name is known. Everything else stays as written, also other double braces: validation
/// has checked the names, and what it lets through (a Go template for the program, say) is meant for the program.
pub(super) fn fill(text: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        filled.push_str(before);
        let known = after.split_once("}}").and_then(|(name, tail)| {
            let (_, value) = values.iter().find(|(known, _)| *known == name.trim())?;
            Some((value, tail))
        });
        match known {
            Some((value, tail)) => {
                filled.push_str(value);
                rest = tail;
            }
            None => {
                filled.push_str("{{");
                rest = after;
            }
        }
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_are_replaced_once_and_the_rest_stays() {
        let values = [("port", "8081"), ("serin", "/bin/{{port}}")];
        for (text, expected) in [
            ("--port={{port}}", "--port=8081"),
            ("{{ port }}:{{port}}", "8081:8081"),
            ("{{serin}}", "/bin/{{port}}"),
            ("{{.Name}} {{port", "{{.Name}} {{port"),
            ("{{{{port}}}}", "{{8081}}"),
            ("", ""),
        ] {
            assert_eq!(fill(text, &values), expected, "{text}");
        }
    }
}
