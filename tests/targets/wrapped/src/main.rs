//! The tasks of [`tasks`] in a program.

mod futures;
mod tasks;
mod wrappers;

use targets::control;

fn main() {
    control::listen();
    let alive = tasks::spawn_all();
    control::ready();
    control::wait_go();
    drop(alive);
}
