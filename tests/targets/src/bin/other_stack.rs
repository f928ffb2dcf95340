//! Blocks inside polls on a stack that is not the thread's, as stackful coroutines do: `above` the
//! thread's own, or `below`.

use std::arch::asm;
use std::time::Duration;

use targets::control::{self, Options};
use targets::runtime::multi_thread;
use targets::truth;
use targets::work::block_ms;

const PAGE: usize = 4096;
const STACK: usize = 256 << 10;
/// How many stacks are tried until one lies where it is wanted: more than fit into the gaps that
/// the arenas of malloc leave.
const TRIES: usize = 600;

/// A stack between two pages that nobody can use, as an address: where it begins at the top.
fn stack() -> usize {
    // SAFETY: fresh memory; nothing else uses it.
    unsafe {
        let start = libc::mmap(
            std::ptr::null_mut(),
            STACK + 2 * PAGE,
            libc::PROT_NONE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        assert_ne!(start, libc::MAP_FAILED);
        let usable = start.byte_add(PAGE);
        assert_eq!(
            libc::mprotect(usable, STACK, libc::PROT_READ | libc::PROT_WRITE),
            0
        );
        usable as usize + STACK
    }
}

/// Calls a function on another stack.
#[inline(never)]
fn call_on(top: usize, function: extern "C" fn()) {
    // SAFETY: `top` is the end of a stack that nobody uses, and a multiple of 16; the old stack
    // pointer is kept in a register that a function must restore.
    unsafe {
        asm!(
            "mov r12, rsp",
            "mov rsp, {top}",
            "call {function}",
            "mov rsp, r12",
            top = in(reg) top,
            function = in(reg) function,
            out("r12") _,
            clobber_abi("C"),
        );
    }
}

#[inline(never)]
extern "C" fn guest() {
    block_ms(30);
}

async fn task(stacks: Vec<usize>, above: bool, rounds: u32) {
    for _ in 0..rounds {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let local = 0_u8;
        let own = std::hint::black_box(&raw const local) as usize;
        let top = stacks
            .iter()
            .copied()
            .find(|top| (*top > own) == above)
            .expect("a stack that lies where it is wanted");
        call_on(top, guest);
    }
}

fn main() {
    let options = Options::parse(&["above", "below"]);
    control::listen();
    let above = options.scenario == "above";
    // What is mapped first lies above.
    let mut stacks: Vec<usize> = Vec::new();
    if above {
        stacks.extend((0..TRIES).map(|_| stack()));
    }
    let runtime = multi_thread(2);
    runtime.block_on(async {
        if !above {
            stacks.extend((0..TRIES).map(|_| stack()));
        }
        control::ready();
        if options.gate != control::Gate::None {
            control::go().await;
        }
        truth::spawn("task", task(stacks, above, options.rounds))
            .await
            .expect("no panic");
    });
    control::finish(&options);
}
