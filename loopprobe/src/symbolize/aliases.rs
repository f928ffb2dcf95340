//! Functions of the standard library that share one piece of code, and so have several names.
//!
//! The compiler makes one of functions that do the same: `UdpSocket::recv` and the `read` of
//! `TcpStream` are. Whoever looks up the address gets one of the names.

use std::collections::HashMap;

use super::FunctionName;
use crate::elf::{Image, SymbolTable, VirtAddr};

/// In the mangled names of the standard library's functions.
const STD: &str = "3std";

/// The names of each function that has several.
#[derive(Debug, Default)]
pub(super) struct Aliases(HashMap<VirtAddr, Vec<String>>);

impl Aliases {
    /// Reads a file's symbols; empty if it has none.
    pub(super) fn of(image: &Image) -> Self {
        let table = image
            .sections()
            .and_then(|sections| SymbolTable::read(&sections));
        table.map_or_else(|_| Self::default(), |table| Self::in_table(&table))
    }

    fn in_table(table: &SymbolTable) -> Self {
        let mut all: HashMap<VirtAddr, Vec<String>> = HashMap::new();
        let (mut before, mut many) = (None, Vec::new());
        for symbol in table.iter() {
            if before == Some(symbol.address) && symbol.name.contains(STD) {
                many.push(symbol.address);
            }
            before = Some(symbol.address);
        }
        many.dedup();
        for address in many {
            let names = table.at(address).map(|symbol| symbol.name);
            let mut names: Vec<String> = names.map(|n| FunctionName::of_symbol(n).short).collect();
            names.sort_unstable();
            names.dedup();
            all.insert(address, names);
        }
        Self(all)
    }

    /// Another name of the function that begins at an address.
    pub(super) fn other(&self, start: VirtAddr, name: &str) -> Option<&str> {
        let names = self.0.get(&start)?.iter().map(String::as_str);
        let mut others = names.filter(|other| *other != name);
        others.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_names_of_one_piece_of_code_are_both_known() {
        let names = ["std::net::udp::UdpSocket::recv", "std::x"].map(str::to_owned);
        let aliases = Aliases(HashMap::from([(VirtAddr(16), names.to_vec())]));
        let other = |name| aliases.other(VirtAddr(16), name);
        assert_eq!(other("std::x"), Some("std::net::udp::UdpSocket::recv"));
        assert_eq!(other("std::net::udp::UdpSocket::recv"), Some("std::x"));
        assert_eq!(aliases.other(VirtAddr(17), "std::x"), None);
    }
}
