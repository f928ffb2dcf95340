//! What a plan holds for the programs.

use super::*;
use crate::{
    elf::Sections,
    runtime::{DiscoverError, ImageFacts},
};

#[derive(Debug)]
struct Toy(ImageFacts);

#[derive(Debug)]
struct ToyRuntime;

impl Runtime for ToyRuntime {
    fn name(&self) -> &'static str {
        "toy"
    }

    fn detect(
        &self,
        _: &Image,
        _: Option<&Sections>,
    ) -> Result<Option<Arc<dyn RuntimeImage>>, DiscoverError> {
        Ok(None)
    }
}

impl RuntimeImage for Toy {
    fn runtime(&self) -> &'static dyn Runtime {
        &ToyRuntime
    }

    fn facts(&self) -> &ImageFacts {
        &self.0
    }
}

fn with(sites: usize) -> Plan {
    let mut plan = Plan::default();
    for index in 0..sites {
        plan.sites.push(SiteEntry::default());
        plan.types.push(TaskType::unknown(index as u64));
        plan.shared.push((index as u64, TaskLayout::default()));
    }
    plan
}

#[test]
fn what_was_added_since_can_be_taken_back() {
    let mut plan = with(2);
    let before = plan.size();
    let more = with(3);
    plan.sites.extend(more.sites);
    plan.types.extend(more.types);
    plan.shared.extend(more.shared);
    assert_ne!(plan.size(), before);
    plan.shrink(before);
    assert_eq!(plan.size(), before);
}

/// Two sites, the second of which serves two types, by these names.
fn image(names: [&str; 3]) -> Arc<dyn RuntimeImage> {
    let exe = Image::open(std::path::Path::new("/proc/self/exe")).unwrap();
    let types = names.map(|name| {
        let task = TaskType {
            name: name.into(),
            ..TaskType::unknown(0)
        };
        ServedType {
            // A name tells whether the memory is asked.
            ask_memory: name.is_empty(),
            is_wrapper: false,
            ..ServedType::without_header(VirtAddr(0x1000), task)
        }
    });
    let site = |types: &[ServedType]| Site {
        offset: FileOffset(0x1000),
        address: VirtAddr(0x1000),
        entry: probe_point(&exe, exe.executable_ranges().next().unwrap().start)
            .unwrap()
            .instruction,
        role: SiteRole::Turn,
        has_header: true,
        types: types.to_vec(),
    };
    let sites = vec![site(&types[..1]), site(&types[1..])];
    Arc::new(Toy(ImageFacts::of(&exe, sites)))
}

#[test]
fn names_come_later_and_move_nothing() {
    let file = || {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let metadata = file.metadata().unwrap();
        ImageFile { file, metadata }
    };
    let mut plan = Plan::default();
    let mut added_at = Vec::new();
    for names in [["x"; 3], [""; 3], ["y"; 3]] {
        added_at.push(plan.size());
        plan.add(file(), image(names), None);
    }
    let before = plan.size();
    let keys: Vec<u64> = plan.shared.iter().map(|(key, _)| *key).collect();
    plan.name(added_at[1], image(["a", "b", "c"]).as_ref());
    assert_eq!(plan.size(), before);
    let names: Vec<_> = plan.types.iter().map(|task| task.name.as_str()).collect();
    assert_eq!(names, ["x", "x", "x", "a", "b", "c", "y", "y", "y"]);
    let served: Vec<_> = plan
        .served
        .iter()
        .map(|(_, s)| s.task.name.as_str())
        .collect();
    assert_eq!(served, names);
    let indices: Vec<u32> = plan.sites.iter().map(|site| site.task.index).collect();
    assert_eq!(indices, [0, 1, 3, 4, 6, 7]);
    let asks = |layout: &TaskLayout| layout.flags & TaskLayout::FLAG_BOXED != 0;
    assert!(plan.sites.iter().all(|site| !asks(&site.task)));
    assert!(plan.shared.iter().all(|(_, layout)| !asks(layout)));
    assert_eq!(
        plan.shared.iter().map(|(key, _)| *key).collect::<Vec<_>>(),
        keys
    );
}

#[test]
fn only_the_sites_of_the_types_that_are_wanted_are_added() {
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let metadata = file.metadata().unwrap();
    let mut plan = Plan::default();
    let wanted = |task: &TaskType| task.name == "c";
    let file = ImageFile { file, metadata };
    let planned = plan.add_of(file, image(["a", "b", "c"]), &wanted);
    let names: Vec<_> = plan.types.iter().map(|task| task.name.as_str()).collect();
    // Its site serves another one too.
    assert_eq!(names, ["b", "c"]);
    let cookies = |role| -> Vec<u64> { planned.probes[&role].iter().map(|p| p.cookie).collect() };
    assert_eq!(cookies(Role::PollEnter), [0]);
    assert_eq!(cookies(Role::PollExit), [0]);
    assert_eq!(planned.probes.len(), 2);
    let is_local = |layout: &TaskLayout| layout.flags & TaskLayout::FLAG_LOCAL != 0;
    assert!(!plan.sites.iter().any(|site| is_local(&site.task)));
}
