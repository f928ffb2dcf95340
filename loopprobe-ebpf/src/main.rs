//! The kernel side of loopprobe: times polls, follows threads off and on their CPUs, copies stacks.
//!
//! One file per concern: `programs` above, what they share below, and no circle. A program's entry
//! function does nothing but call its `try_` function and count what that could not do.
#![no_std]
#![no_main]

mod arch;
mod busy;
mod clock;
mod copy;
mod cost;
mod edge;
mod ending;
mod event;
mod health;
mod light;
mod maps;
mod own_stack;
mod programs;
mod root;
mod saved;
mod split;
mod stack;
mod task;
mod task_struct;
mod thread;
mod verifier;
mod wake;
mod watch;
mod why;

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

// Some helpers are offered to programs under a GPL-compatible license only; `Dual MIT/GPL` is the
// kernel's name for one.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
