//! The runtimes of one process.

use std::fmt;

use super::{Runtime, RuntimeInstance, Runtimes, TaskRef};
use crate::model::TaskType;

/// What each runtime can ask one process's memory.
#[derive(Default)]
pub struct Instances(Vec<(&'static str, Box<dyn RuntimeInstance>)>);

impl fmt::Debug for Instances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

impl Instances {
    /// Of a process. If it is gone, there is nothing to ask.
    pub fn of(runtimes: Runtimes, pid: u32) -> Self {
        let asked = runtimes.iter().filter_map(|runtime| {
            let instance = runtime.instance(pid).ok()??;
            Some((runtime.name(), instance))
        });
        Self(asked.collect())
    }

    /// The process has mapped other files.
    pub fn refresh(&mut self) {
        for (_, instance) in &mut self.0 {
            instance.refresh();
        }
    }

    /// The type that the memory tells of a task of `runtime`, if its own says too little.
    pub fn name(&mut self, runtime: &dyn Runtime, task: &TaskRef<'_>) -> Option<TaskType> {
        if !task.served.ask_memory && !task.served.is_wrapper {
            return None;
        }
        let known = self.0.iter_mut().find(|(name, _)| *name == runtime.name());
        known?.1.name(task)
    }
}
