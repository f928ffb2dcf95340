//! Lines of a program's own source, found by the comments that mark them.

/// The line after the comment `// @label`, 1-based.
pub fn line_of(source: &str, label: &str) -> Option<usize> {
    let mark = format!("// @{label}");
    source
        .lines()
        .position(|line| line.trim() == mark)
        .map(|index| index + 2)
}
