//! Into the kernel: loads the programs, fills their tables, places the probes.
//!
//! Nothing here writes to the target. Probes go away with the file descriptors that hold them, so a
//! killed loopprobe leaves no trace; `apart.rs` says what that takes.

mod apart;
mod breakpoint;
mod btf;
mod canary;
mod cost;
mod error;
mod kernel;
mod object;
mod own_file;
mod pages;
mod passed;
mod plan;
pub(crate) mod pod;
mod records;
mod registers;
mod schedule;
mod sys;
mod uprobe;

pub(crate) use apart::await_removal;
pub(crate) use breakpoint::Breakpoint;
pub(crate) use canary::{Block, block};
pub use cost::{DeadTime, Measurement, ProbeTiming, measure};
pub use error::AttachError;
pub use kernel::{Capacity, Kernel, Loads, Messages, Settings};
pub use plan::{Plan, PlanSize, PlannedImage, epoll, epoll_offset};
pub(crate) use records::{Drain, Record};
pub use uprobe::{Links, Method, Probe, Role};
