//! Invented stacks and splits, each with the cause, call and advice that it must have.

mod blame;
mod fitting;
mod own_time;
mod situations;
mod stripped;
mod table;
mod waits;

use super::*;
use crate::model::{Cause, Frame, Outcome, Role, SourceLocation, Split, Stack, StackKind};

fn frame(name: &str, runtime: bool) -> Frame {
    Frame {
        function: Some(name.to_owned()),
        runtime,
        role: if runtime { Role::Std } else { Role::Own },
        ..Frame::default()
    }
}

/// A stack of a task: the given runtime frames, then the user's function in an async function, then
/// the poll's glue.
fn frames(inner: &[&str]) -> Vec<Frame> {
    let mut frames: Vec<Frame> = inner.iter().map(|name| frame(name, true)).collect();
    frames.push(frame("app::helper", false));
    frames.push(Frame {
        async_body: true,
        ..frame("app::handle", false)
    });
    frames.push(frame("tokio::runtime::task::raw::poll", true));
    frames
}

fn blocked(inner: &[&str], number: i64, object: Option<Object>, ns: u64) -> StackEvidence {
    StackEvidence {
        stack: Stack {
            ns,
            start_ns: 0,
            kind: StackKind::Blocked,
            outcome: Outcome::Complete,
            syscall: None,
            frames: frames(inner),
        },
        syscall: Some(RawSyscall {
            number: u32::try_from(number).expect("a number"),
            args: [1; 6],
        }),
        object,
        page_fault: false,
        halt: None,
        waker: None,
        spins: false,
        may_be_javascript: false,
        ready_loop: None,
    }
}

fn on_cpu(inner: &[&str], ns: u64) -> StackEvidence {
    let mut found = blocked(inner, 0, None, ns);
    found.stack.kind = StackKind::OnCpu;
    found.syscall = None;
    found
}

fn diagnosis(stack: StackEvidence) -> crate::model::Diagnosis {
    diagnose(&PollEvidence {
        split: Some(Split {
            blocked_ns: stack.stack.ns,
            ..Split::default()
        }),
        stacks: vec![stack],
        ..PollEvidence::default()
    })
}

fn socket(peer: &str) -> Option<Object> {
    Some(Object::Socket(Socket {
        protocol: "tcp".to_owned(),
        peer: Some(peer.to_owned()),
        ..Socket::default()
    }))
}

fn pipe(fd: u32, child: bool) -> Option<Object> {
    Some(Object::Pipe(Pipe {
        fd: Some(fd),
        inode: 1,
        reads: fd == 0,
        peers: vec!["reader (7)".to_owned()],
        child,
    }))
}

fn file(path: &str) -> Option<Object> {
    Some(Object::File {
        path: path.to_owned(),
        opened_to_read: None,
    })
}

/// A sample in a stripped file: nameless functions by their offsets, innermost first, then an async
/// body.
fn nameless(offsets: &[u64], ns: u64) -> StackEvidence {
    let mut found = on_cpu(&[], ns);
    let functions = offsets.iter().map(|offset| Frame {
        module: Some("/opt/app".to_owned()),
        function_offset: Some(*offset),
        ..Frame::default()
    });
    let body = Frame {
        module: Some("/opt/app".to_owned()),
        function_offset: Some(1),
        definition: Some(SourceLocation {
            file: "src/main.rs".to_owned(),
            line: 7,
            column: None,
        }),
        async_body: true,
        role: Role::Own,
        ..Frame::default()
    };
    found.stack.frames = functions.chain([body]).collect();
    found
}

fn called(stacks: Vec<StackEvidence>) -> Option<String> {
    let on_cpu_ns = stacks.iter().map(|found| found.stack.ns).sum();
    let found = diagnose(&PollEvidence {
        split: Some(Split {
            on_cpu_ns,
            ..Split::default()
        }),
        stacks,
        ..PollEvidence::default()
    });
    found.call.map(|call| call.function)
}
