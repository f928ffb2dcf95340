//! Functions of the standard library that share one piece of code, and so have several names.
//!
//! The compiler makes one of functions that do the same: `UdpSocket::recv` and the `read` of
//! `TcpStream` are. Whoever looks up the address gets one of the names.

use std::collections::HashMap;

use super::FunctionName;
use crate::elf::{SymbolTable, VirtAddr};

/// In the mangled names of the standard library's functions.
const STD: &str = "3std";

/// The names of each function that has several.
#[derive(Debug, Default)]
pub(super) struct Aliases(HashMap<VirtAddr, Vec<String>>);

impl Aliases {
    /// Of the functions in a symbol table.
    pub(super) fn of(table: &SymbolTable) -> Self {
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

    /// The other names of the function that begins at an address.
    pub(super) fn others(&self, start: VirtAddr, name: &str) -> Vec<String> {
        let names = self.0.get(&start).into_iter().flatten();
        names.filter(|other| *other != name).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_names_of_one_piece_of_code_are_known() {
        let names = ["std::net::udp::UdpSocket::recv", "std::x"].map(str::to_owned);
        let aliases = Aliases(HashMap::from([(VirtAddr(16), names.to_vec())]));
        let others = |name| aliases.others(VirtAddr(16), name);
        assert_eq!(others("std::x"), ["std::net::udp::UdpSocket::recv"]);
        assert_eq!(others("std::net::udp::UdpSocket::recv"), ["std::x"]);
        assert!(aliases.others(VirtAddr(17), "std::x").is_empty());
    }
}
