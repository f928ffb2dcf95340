//! Finds what blocks a running Tokio program, from outside.
//!
//! The modules are the stages of the data flow, in order; a stage uses the ones before it and [`model`], never those after:
//!
//! ```text
//! elf, process -> runtime -> attach -> collect -> unwind -> symbolize -> diagnose -> report
//! ```
//!
//! What is particular to Tokio lives in [`runtime::tokio`]; the model does not name it.

pub mod model;

mod clock;

pub mod cli;
pub mod commands;

pub mod attach;
pub mod code;
pub mod collect;
pub mod diagnose;
pub mod elf;
pub mod process;
pub mod recording;
pub mod report;
pub mod runtime;
pub mod symbolize;
pub mod top;
pub mod unwind;
