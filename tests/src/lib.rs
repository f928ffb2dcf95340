//! What the integration tests share: building the targets, running them, running loopprobe, and
//! comparing the two.

pub mod accuracy;
pub mod browser;
pub mod causes;
pub mod confined;
pub mod counted;
pub mod daemon;
pub mod folder;
pub mod hogs;
pub mod leftovers;
pub mod lines;
pub mod matrix;
pub mod otlp;
pub mod perf;
pub mod planned;
pub mod privileges;
pub mod programs;
pub mod receiver;
pub mod scenario;
pub mod session;
pub mod synthetic;
pub mod target;
pub mod terminal;
pub mod text;
pub mod told;
mod toolchain;
pub mod toy;
pub mod truth;
pub mod unprivileged;
