//! A header of every request, for who the sender is.

use std::str::FromStr;

use ureq::http::{HeaderName, HeaderValue};

/// A header of every request: `name=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// In small letters.
    pub(in crate::export) name: HeaderName,
    /// Not shown by whatever prints headers.
    pub(in crate::export) value: HeaderValue,
}

impl Header {
    /// Its name, in small letters.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }
}

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text
            .split_once('=')
            .ok_or("write NAME=VALUE, as in 'authorization=Bearer 123'")?;
        let name = HeaderName::from_bytes(name.trim().as_bytes())
            .map_err(|_| "what stands before `=` is no header's name")?;
        let mut value = HeaderValue::from_str(value.trim())
            .map_err(|_| "what stands behind `=` is no header's value")?;
        value.set_sensitive(true);
        Ok(Self { name, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_a_name_and_a_value() {
        let header: Header = "X-Api-Key = a=b".parse().unwrap();
        assert_eq!(
            (header.name(), header.value.as_bytes()),
            ("x-api-key", &b"a=b"[..])
        );
        assert!("x-api-key".parse::<Header>().is_err());
        assert!("a b=c".parse::<Header>().is_err());
        assert!("a=b\nc".parse::<Header>().is_err());
    }
}
