//! Marked lines, as GitHub's runners read them from the output of a step ("Workflow commands for
//! GitHub Actions").

use super::place::in_repository;
use crate::{model::SourceLocation, report::clean};

/// A line that marks a place as an error.
pub(super) fn error(place: Option<&SourceLocation>, title: &str, message: &str) -> String {
    let mut properties = Vec::new();
    if let Some(place) = place {
        properties.push(format!("file={}", property(&in_repository(&place.file))));
        properties.push(format!("line={}", place.line));
        properties.extend(place.column.map(|column| format!("col={column}")));
    }
    properties.push(format!("title={}", property(&format!("loopprobe {title}"))));
    format!("::error {}::{}", properties.join(","), data(message))
}

fn data(text: &str) -> String {
    clean(text)
        .replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_ends_a_command_or_begins_another() {
        let place = SourceLocation {
            file: "src/a,b:c.rs".into(),
            line: 7,
            column: None,
        };
        assert_eq!(
            error(Some(&place), "--fail-over 5ms", "100%\n::error::x"),
            "::error file=src/a%2Cb%3Ac.rs,line=7,title=loopprobe --fail-over 5ms::100%25\\n::error::x"
        );
        assert_eq!(error(None, "x", "y"), "::error title=loopprobe x::y");
    }
}
