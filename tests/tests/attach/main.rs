//! `loopprobe attach`, as a user sees it: one module for each behaviour. The truth is the target's
//! own.

mod accuracy;
mod block_in_place;
mod blocking_pool;
mod contract;
mod counts;
mod edges;
mod endings;
mod flood;
mod harmless;
mod lifecycle;
mod light;
mod messages;
mod moments;
mod namespaces;
mod no_polls;
mod other_stack;
mod outside_runtime;
mod own_machinery;
mod privileges;
mod root_future;
mod shared_object;
mod span;
mod stuck;
mod unguided;
mod verifier;
