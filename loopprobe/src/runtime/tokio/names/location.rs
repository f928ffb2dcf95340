//! Names from the panic locations that async functions and blocks embed: the only source that needs
//! no symbols.

use super::{Context, TaskName};
use crate::{
    code::{Definition, short_path},
    model::{NameSource, SourceLocation},
    runtime::tokio::vtable::RawVtable,
};

/// The definition of the outermost async function or block of each async task type. Adapters around
/// it, such as `Timeout<F>` or `Instrumented<F>`, do not show; a task that is none, or a
/// `Pin<Box<dyn Future>>`, has no name here.
pub(super) fn names(context: &Context<'_>) -> Vec<Option<TaskName>> {
    let mut machines = context.machines.borrow_mut();
    let mut name = |vtable: &RawVtable| {
        let is_async = vtable.scheduler_size().is_none_or(|size| size == 8);
        let definition = is_async
            .then(|| machines.outermost(context.image, vtable.poll))
            .flatten()?;
        Some(from_definition(definition))
    };
    context.vtables.iter().map(&mut name).collect()
}

/// What a definition says of a task's type.
pub(super) fn from_definition(definition: Definition) -> TaskName {
    TaskName {
        type_name: readable(&definition.location),
        others: Vec::new(),
        source: NameSource::Location,
        // Tokio spawns none of its own async functions: one that is reached is one that the task
        // awaits.
        certain: definition.certain
            && !short_path(&definition.location.file).starts_with("tokio-1."),
        scheduler: None,
        location: Some(definition.location),
    }
}

/// `src/upload.rs:42`, or `hyper-util-0.1.20/src/client/pool.rs:512` in a dependency.
fn readable(location: &SourceLocation) -> String {
    format!("{}:{}", short_path(&location.file), location.line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_names_its_task_by_file_and_line() {
        let location = SourceLocation {
            file: "/x/registry/src/i-1f/h2-0.4.1/src/server.rs".into(),
            line: 7,
            column: Some(3),
        };
        let name = from_definition(Definition {
            location,
            certain: true,
        });
        assert_eq!(
            (name.type_name.as_str(), name.source, name.certain),
            ("h2-0.4.1/src/server.rs:7", NameSource::Location, true)
        );
    }
}
