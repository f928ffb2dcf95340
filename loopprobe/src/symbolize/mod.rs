//! From addresses to names: functions, inlined ones too, with file and line.

mod aliases;
mod bodies;
mod c_names;
mod caught;
mod definitions;
mod module_source;
mod name;
mod perf_map;
mod role;
mod separate;
mod steady;
mod symbolizer;
mod vetted;

pub(crate) use c_names::is_c_name;
pub use name::{FunctionName, NameKind};
pub use perf_map::PerfMap;
pub use symbolizer::Symbolizer;
