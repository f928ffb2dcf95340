//! Which functions on a stack are async bodies: symbols name them like closures.

use super::role;
use crate::{
    model::{Frame, Role},
    runtime::Runtimes,
};

/// How a name ends that stands for a closure or, as far as symbols tell, for an async body.
pub(super) const CLOSURE: &str = "::{closure}";

/// Marks the async bodies that were inlined into an async body, going inwards from it: only debug
/// information shows them, and it names them like closures. A closure of the body itself is named
/// below the body (`f::{closure}::{closure}`), so another function's closure that the body enters
/// without that function is the body of what it awaits.
pub(super) fn mark_inlined_children(frames: &mut [Frame]) {
    let Some((outermost, inlined)) = frames.split_last_mut() else {
        return;
    };
    let mut parent = outermost.function.clone().filter(|_| outermost.async_body);
    for frame in inlined.iter_mut().rev() {
        let Some(around) = &parent else {
            return;
        };
        if frame.runtime {
            continue;
        }
        let child = frame
            .function
            .as_deref()
            .and_then(|name| name.strip_suffix(CLOSURE))
            .filter(|owner| !owner.ends_with(CLOSURE) && owner != around)
            .map(str::to_owned);
        if let Some(owner) = &child {
            frame
                .full_name
                .get_or_insert_with(|| format!("{owner}{CLOSURE}"));
            frame.function = Some(owner.clone());
            frame.async_body = true;
        }
        parent = child;
    }
}

/// A library's `poll` with the program's own body inside is the program's.
pub(super) fn inlined_body(frame: &mut Frame, runtimes: Runtimes) {
    if let Some(definition) = &frame.definition {
        let role = role::located(definition, runtimes);
        if role == Role::Own {
            frame.role = role;
            frame.runtime = false;
        }
    }
}

/// A closure that proves to be an async body reads as its function; inside another one it is a
/// block.
pub(super) fn mark_async(frame: &mut Frame) {
    let (Some(name), Some(_)) = (&frame.function, &frame.definition) else {
        return;
    };
    let owner = name.trim_end_matches(CLOSURE);
    let nested = name.len() - owner.len() > CLOSURE.len();
    let readable = if nested {
        format!("{owner}::{{async block}}")
    } else {
        owner.to_owned()
    };
    frame.full_name.get_or_insert_with(|| name.clone());
    frame.function = Some(readable);
    frame.async_body = true;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, async_body: bool) -> Frame {
        Frame {
            function: Some(function.to_owned()),
            async_body,
            runtime: function.starts_with("core::"),
            ..Frame::default()
        }
    }

    fn bodies(names: &[&str], outermost: Frame) -> Vec<(String, bool)> {
        let mut frames: Vec<Frame> = names.iter().map(|name| frame(name, false)).collect();
        frames.push(outermost);
        mark_inlined_children(&mut frames);
        frames
            .into_iter()
            .map(|frame| (frame.function.unwrap_or_default(), frame.async_body))
            .collect()
    }

    #[test]
    fn what_an_async_body_awaits_reads_as_its_function() {
        let found = bodies(
            &[
                "a::helper::{closure}",
                "a::helper",
                "a::grandchild::{closure}",
                "core::future::Future::poll",
                "a::child::{closure}",
            ],
            frame("a::task", true),
        );
        let names: Vec<&str> = found
            .iter()
            .filter(|(_, body)| *body)
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(names, ["a::grandchild", "a::child", "a::task"]);
        assert_eq!(found[0].0, "a::helper::{closure}");
    }

    #[test]
    fn closures_of_a_body_and_of_plain_functions_stay_closures() {
        let own = bodies(&["a::task::{closure}::{closure}"], frame("a::task", true));
        assert!(!own[0].1);
        let plain = bodies(&["a::child::{closure}"], frame("a::task", false));
        assert!(!plain[0].1);
    }
}
