//! Parses bytes as `/proc` text and looks addresses up at each mapping's edges.

use loopprobe::{
    elf::ProcAddr,
    process::{Maps, Status},
};

/// The text of a `maps` or a `status` file in `/proc/PID`.
pub fn maps(bytes: &[u8]) {
    let _ = Status::parse(&String::from_utf8_lossy(bytes));
    let Ok(maps) = Maps::parse(bytes) else {
        return;
    };
    for mapping in maps.images() {
        let last = ProcAddr(mapping.end.0.saturating_sub(1));
        for address in [mapping.start, last, mapping.end] {
            let _ = maps.at(address);
            let _ = mapping.to_file(address);
        }
    }
}
