//! Names from the target made safe for HTML, for JSON in a script, and for `data:` addresses.

use std::fmt;

use crate::report::{clean, escape::is_dangerous};

/// Text in HTML, between tags or in a quoted attribute.
pub(super) struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in clean(self.0).chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

/// JSON that stands in a `<script>`: nothing in it can end the element, nor change the direction of
/// the text that is made from it.
pub(super) fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            // Control characters in strings are escaped already; outside of them there are none but
            // white space.
            c if is_dangerous(c) && !c.is_control() => {
                out.push_str(&format!("\\\\u{{{:x}}}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out
}

/// A document as a `data:` address, for a quoted attribute.
pub(super) fn data_url(kind: &str, document: &[u8]) -> String {
    let mut url = format!("data:{kind};charset=utf-8,");
    for &byte in document {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => url.push(byte as char),
            b' ' | b'-' | b'_' | b'.' | b'!' | b'~' | b'*' | b'(' | b')' | b'/' | b':' | b';'
            | b'=' | b',' | b'@' | b'$' => url.push(byte as char),
            _ => url.push_str(&format!("%{byte:02X}")),
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_text() {
        let text = Escaped("<a href='x' b=\"y\">&\u{1b}").to_string();
        assert_eq!(
            text,
            "&lt;a href=&#39;x&#39; b=&quot;y&quot;&gt;&amp;\\u{1b}"
        );
        assert_eq!(json("\"</script>\""), "\"\\u003c/script>\"");
        assert_eq!(json("\"a\u{202e}b\""), "\"a\\\\u{202e}b\"");
        assert_eq!(
            data_url("a/b", b"<\"# \xff"),
            "data:a/b;charset=utf-8,%3C%22%23 %FF"
        );
    }
}
