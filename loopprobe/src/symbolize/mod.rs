//! From addresses to names: functions, inlined ones too, with file and line.

mod name;
mod origin;
mod separate;
mod symbolizer;

pub use name::{FunctionName, NameKind};
pub use symbolizer::Symbolizer;
