//! A program of 100 MB, nearly all of it code that is never run: its tasks block for 60 ms in each
//! poll.

use std::time::Duration;

use targets::control;
use targets::runtime::multi_thread;

std::arch::global_asm!(
    r#".pushsection .text.filler,"ax",@progbits"#,
    ".globl large_filler",
    "large_filler:",
    ".zero 100 << 20",
    ".popsection",
);

extern "C" {
    static large_filler: u8;
}

async fn block() {
    loop {
        targets::work::block_ms(60);
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
}

fn main() {
    // Or the linker would leave it out.
    std::hint::black_box(std::ptr::addr_of!(large_filler));
    control::listen();
    let runtime = multi_thread(2);
    runtime.spawn(block());
    runtime.block_on(async {
        control::ready();
        std::future::pending::<()>().await;
    });
}
