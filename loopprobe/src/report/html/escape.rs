use std::fmt;

/// Text in HTML, between tags or in a quoted attribute.
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c if c.is_control() => f.write_str("\u{fffd}")?,
                c => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

/// JSON that stands in a `<script>`: nothing in it can end the element.
pub fn json(text: &str) -> String {
    text.replace('<', "\\u003c")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

/// A document as a `data:` address, for a quoted attribute.
pub fn data_url(kind: &str, document: &[u8]) -> String {
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
            "&lt;a href=&#39;x&#39; b=&quot;y&quot;&gt;&amp;\u{fffd}"
        );
        assert_eq!(json("\"</script>\""), "\"\\u003c/script>\"");
        assert_eq!(
            data_url("a/b", b"<\"# \xff"),
            "data:a/b;charset=utf-8,%3C%22%23 %FF"
        );
    }
}
