//! Holds the code against the map in `docs/architecture.md`: which room uses which.

mod files;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// By room, the rooms that it uses.
type Uses = BTreeMap<String, BTreeSet<String>>;

/// Every room may use these.
const EVERYWHERE: [&str; 2] = ["model", "clock"];
/// What is no room: the crate's root, the binary, and this file.
const NO_ROOMS: [&str; 3] = ["lib", "main", "map"];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The table under "Rooms".
fn allowed() -> Uses {
    let text = fs::read_to_string(workspace().join("docs/architecture.md")).unwrap();
    let (_, rest) = text.split_once("## Rooms").unwrap();
    let (section, _) = rest.split_once("\n## ").unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        (cells[1].trim_matches('`').to_owned(), quoted(cells[3]))
    })
    .collect()
}

/// The words in backticks.
fn quoted(text: &str) -> BTreeSet<String> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// What the sources say.
fn used() -> Uses {
    used_in(&sources())
}

fn used_in(folder: &Path) -> Uses {
    let mut used = Uses::new();
    for (room, text) in files(folder) {
        let uses = used.entry(room.clone()).or_default();
        uses.extend(rooms_named(&text));
        uses.remove(&room);
    }
    used
}

/// Every source file's text, with its room.
fn files(folder: &Path) -> Vec<(String, String)> {
    let room = |path: &Path| {
        let inside = path.strip_prefix(folder).unwrap();
        let first = inside.components().next().unwrap().as_os_str();
        let room = first.to_str().unwrap().trim_end_matches(".rs");
        (!NO_ROOMS.contains(&room)).then(|| room.to_owned())
    };
    let text = |path: &PathBuf| fs::read_to_string(path).unwrap();
    let paths = paths(folder);
    paths
        .iter()
        .filter_map(|path| Some((room(path)?, text(path))))
        .collect()
}

/// Every source file below a folder.
fn paths(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(paths(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The rooms behind each `crate::`, in a path or at the head of a group.
fn rooms_named(text: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => rooms.extend(heads(group)),
            None => rooms.extend(identifier(rest)),
        }
    }
    rooms
}

/// The first word of each path of a group, `a` and `c` of `a::{b}, c::d}`.
fn heads(group: &str) -> Vec<String> {
    let mut heads = Vec::new();
    let (mut depth, mut at_head) = (0, true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => at_head = true,
            _ if at_head && !c.is_whitespace() => {
                heads.extend(identifier(&group[at..]));
                at_head = false;
            }
            _ => {}
        }
    }
    heads
}

fn identifier(text: &str) -> Option<String> {
    let end = text
        .find(|c: char| !(c.is_ascii_lowercase() || c == '_'))
        .unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

/// A circle among the rooms, if there is one.
fn circle(uses: &Uses) -> Option<Vec<String>> {
    fn visit(room: &str, uses: &Uses, path: &mut Vec<String>, done: &mut BTreeSet<String>) -> bool {
        path.push(room.to_owned());
        for next in uses.get(room).into_iter().flatten() {
            if let Some(begin) = path.iter().position(|room| room == next) {
                path.drain(..begin);
                return true;
            }
            if !done.contains(next) && visit(next, uses, path, done) {
                return true;
            }
        }
        done.insert(path.pop().unwrap());
        false
    }
    let mut done = BTreeSet::new();
    uses.keys().find_map(|room| {
        let mut path = Vec::new();
        visit(room, uses, &mut path, &mut done).then_some(path)
    })
}

#[test]
fn rooms_use_only_what_the_map_allows() {
    let allowed = allowed();
    let used = used();
    let rooms = |uses: &Uses| uses.keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        rooms(&allowed),
        rooms(&used),
        "the rooms of the map and of the code"
    );
    let mut wrong = Vec::new();
    for (room, uses) in &used {
        let free = |other: &&String| !EVERYWHERE.contains(&other.as_str());
        let more = uses.difference(&allowed[room]).filter(free);
        wrong.extend(more.map(|other| format!("`{room}` uses `{other}`, which is not allowed")));
        let less = allowed[room].difference(uses);
        wrong.extend(less.map(|other| format!("`{room}` may use `{other}`, and does not")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn rooms_have_no_circle() {
    assert_eq!(circle(&used()), None);
}

/// On the kernel side each file is a room, and the programs are one.
#[test]
fn the_kernel_side_has_no_circle() {
    let uses = used_in(&workspace().join("loopprobe-ebpf/src"));
    assert!(uses["programs"].contains("split"), "{uses:?}");
    assert_eq!(circle(&uses), None);
}

#[test]
fn files_fit_a_mind_and_say_what_they_are() {
    const LINES: usize = 400;
    const COLUMNS: usize = 100;
    // A word cannot be broken.
    let is_link = |line: &str| line.split_whitespace().count() <= 2;
    let crates = ["loopprobe", "loopprobe-common", "loopprobe-ebpf", "xtask"];
    let paths = crates.map(|name| paths(&workspace().join(name).join("src")));
    let is_test = |path: &Path| {
        path.components().any(|part| {
            let part = part.as_os_str();
            part == "tests" || part == "tests.rs"
        })
    };
    let mut wrong = Vec::new();
    for path in paths.iter().flatten() {
        let text = fs::read_to_string(path).unwrap();
        let (lines, name) = (text.lines().count(), path.display());
        if lines > LINES && !is_test(path) {
            wrong.push(format!("{name} has {lines} lines, more than {LINES}"));
        }
        let wide = text
            .lines()
            .filter(|line| line.trim_start().starts_with("//"));
        let wide = wide.filter(|line| line.chars().count() > COLUMNS && !is_link(line));
        wrong.extend(
            wide.map(|line| format!("{name} has a comment of more than {COLUMNS} columns: {line}")),
        );
        if !text.starts_with("//! ") {
            wrong.push(format!("{name} does not say what it is"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// No room but `runtime` knows which runtimes there are: the rest would need a second look with
/// each new one.
#[test]
fn no_room_but_runtime_names_one() {
    let runtimes: Vec<String> = fs::read_dir(sources().join("runtime"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert!(runtimes.contains(&"tokio".to_owned()), "{runtimes:?}");
    let others = files(&sources()).into_iter();
    let named: Vec<String> = others
        .filter(|(room, _)| room != "runtime")
        .flat_map(|(room, text)| {
            let found = runtimes.iter().filter(move |name| names(&text, name));
            found.map(move |name| format!("`{room}` names `runtime::{name}`"))
        })
        .collect();
    assert!(named.is_empty(), "{named:#?}");
}

/// Whether a `use`, or a path in the code, leads into the folder of a runtime.
fn names(text: &str, runtime: &str) -> bool {
    let text: String = text.split_whitespace().collect();
    let in_group = |rest: &str| {
        let group = rest.strip_prefix('{').unwrap_or_default();
        heads(group).iter().any(|head| head == runtime)
    };
    text.match_indices("runtime::").any(|(at, found)| {
        let is_path = !text[..at].ends_with("tokio::") && !text[..at].ends_with('_');
        let rest = &text[at + found.len()..];
        is_path && (identifier(rest).as_deref() == Some(runtime) || in_group(rest))
    })
}

#[test]
fn a_runtime_is_found_in_every_form() {
    for text in [
        "use crate::runtime::tokio::Tokio;",
        "use crate::{\n    model::Frame,\n    runtime::{\n        Site, tokio::discover,\n    },\n};",
        "let image = crate::runtime::tokio::discover();",
        "use crate::runtime::{tokio};",
    ] {
        assert!(names(text, "tokio"), "{text}");
    }
    for text in [
        "use crate::runtime::{Runtime, Site};",
        "use tokio::runtime::Handle;",
        "frame(\"tokio::runtime::tokio_like\")",
    ] {
        assert!(!names(text, "tokio"), "{text}");
    }
}

#[test]
fn a_use_is_found_in_every_form() {
    let text =
        "use crate::{\n    a::{b, c::d},\n    e,\n};\nuse crate::f::g;\nlet x = crate::h::i();";
    let found: Vec<String> = rooms_named(text).into_iter().collect();
    assert_eq!(found, ["a", "e", "f", "h"]);
}

#[test]
fn a_circle_is_found() {
    let uses = |edges: &[(&str, &[&str])]| -> Uses {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        edges
            .iter()
            .map(|(room, uses)| ((*room).to_owned(), owned(uses)))
            .collect()
    };
    assert_eq!(
        circle(&uses(&[("a", &["b"]), ("b", &["c"]), ("c", &[])])),
        None
    );
    let found = circle(&uses(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"])])).unwrap();
    assert_eq!(found, ["b", "c"]);
}
