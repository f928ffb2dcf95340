//! Numbers the types of tasks, each once, asking the task's memory where the file says too little.

use std::{collections::HashMap, sync::Arc};

use crate::{
    elf::ProcAddr,
    model::TaskType,
    runtime::{Instances, Runtime, ServedType, TaskRef},
};

/// The types of tasks, each once.
#[derive(Debug, Default)]
pub(super) struct Types {
    types: Vec<TaskType>,
    by_name: HashMap<TaskType, usize>,
    /// By the type as the file tells it, where that is all.
    known: HashMap<*const ServedType, usize>,
    /// Keeps the addresses in `known` from being used again.
    kept: Vec<Arc<ServedType>>,
}

impl Types {
    /// The index of a task's type. Where the type as the file tells it says too little, the task's
    /// memory is asked.
    pub(super) fn index(
        &mut self,
        served: &Arc<ServedType>,
        runtime: &dyn Runtime,
        instances: &mut Instances,
        header: ProcAddr,
    ) -> usize {
        if served.ask_memory {
            let task = TaskRef {
                served,
                header,
                id: 0,
                beginning: Default::default(),
            };
            if let Some(told) = instances.name(runtime, &task) {
                return self.add(told);
            }
        }
        if let Some(known) = self.known.get(&Arc::as_ptr(served)) {
            return *known;
        }
        let index = self.add(served.task.clone());
        self.known.insert(Arc::as_ptr(served), index);
        self.kept.push(Arc::clone(served));
        index
    }

    /// All of them, by their indices.
    pub(super) fn into_types(self) -> Vec<TaskType> {
        self.types
    }

    fn add(&mut self, task: TaskType) -> usize {
        if let Some(known) = self.by_name.get(&task) {
            return *known;
        }
        self.types.push(task.clone());
        self.by_name.insert(task, self.types.len() - 1);
        self.types.len() - 1
    }
}
