//! Finds what blocks a running Tokio program, from outside.
//!
//! `docs/architecture.md` is the map: every room, what it may use, and how a poll travels through
//! them.
//!
//! What is particular to one event loop lives in a folder of [`runtime`]; no other room names it.

pub mod model;

mod clock;
#[cfg(test)]
mod map;

pub mod cli;
pub mod commands;

pub mod attach;
pub mod cache;
pub mod code;
pub mod collect;
pub mod diagnose;
pub mod elf;
pub mod export;
pub mod inventory;
pub mod process;
pub mod recording;
pub mod report;
pub mod runtime;
pub mod symbolize;
pub mod top;
pub mod unwind;
