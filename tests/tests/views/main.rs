//! Every view adds up to the truth that the session was made with.

mod diff;
mod flamegraph;
mod folded;
mod formats;
mod pictures;
mod pprof;
mod speedscope;
mod timeline;
mod words;

use std::{
    cell::RefCell,
    io::{self, Write},
    rc::Rc,
};

use loopprobe::{
    model::{Event, LongPoll, Sink},
    report::{AtEnd, Drawing},
};

/// A writer whose content can be read afterwards.
#[derive(Clone, Default)]
struct Page(Rc<RefCell<Vec<u8>>>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn draw(drawing: impl Drawing + 'static, events: &[Event]) -> Vec<u8> {
    let page = Page::default();
    let mut views = AtEnd::default();
    views.add(drawing, page.clone());
    for event in events {
        views.event(event).unwrap();
    }
    page.0.take()
}

fn write_sink(mut sink: impl Sink, events: &[Event]) {
    for event in events {
        sink.event(event).unwrap();
    }
}

fn draw_text(drawing: impl Drawing + 'static, events: &[Event]) -> String {
    String::from_utf8(draw(drawing, events)).unwrap()
}

fn total(polls: &[LongPoll]) -> u64 {
    polls.iter().map(|poll| poll.duration_ns).sum()
}
