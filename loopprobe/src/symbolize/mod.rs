//! From addresses to names: functions, inlined ones too, with file and line.

mod caught;
mod definitions;
mod name;
mod origin;
mod separate;
mod steady;
mod symbolizer;
mod vetted;

pub use name::{FunctionName, NameKind};
pub use symbolizer::Symbolizer;
