//! Which file uses which, by their `use` items.

use std::path::Path;

use super::{Uses, circle, paths, sources};

/// A module's path from the crate's root.
type Module = Vec<String>;

/// The module that a source file is; `None` for the binary.
fn module(path: &Path) -> Option<Module> {
    let inside = path.strip_prefix(sources()).unwrap().with_extension("");
    let mut module: Module = inside
        .iter()
        .map(|part| part.to_str().unwrap().to_owned())
        .collect();
    let last = module.last().map(String::as_str);
    if last == Some("main") {
        return None;
    }
    if last == Some("mod") || last == Some("lib") {
        module.pop();
    }
    Some(module)
}

/// The paths that the `use` items of a file name, as they are written. Those of tests are inside a
/// module of their own.
fn named(text: &str) -> Vec<Module> {
    let mut found = Vec::new();
    for item in syn::parse_file(text).unwrap().items {
        if let syn::Item::Use(item) = item {
            leaves(&item.tree, &Vec::new(), &mut found);
        }
    }
    found
}

fn leaves(tree: &syn::UseTree, before: &Module, found: &mut Vec<Module>) {
    let with = |name: &syn::Ident| [before.as_slice(), &[name.to_string()]].concat();
    match tree {
        syn::UseTree::Path(path) => leaves(&path.tree, &with(&path.ident), found),
        syn::UseTree::Group(group) => {
            for tree in &group.items {
                leaves(tree, before, found);
            }
        }
        syn::UseTree::Name(name) => found.push(with(&name.ident)),
        syn::UseTree::Rename(name) => found.push(with(&name.ident)),
        syn::UseTree::Glob(_) => found.push(before.clone()),
    }
}

/// Where a path leads that a module uses, from the crate's root; `None` out of the crate.
fn absolute(module: &Module, path: &[String], modules: &[Module]) -> Option<Module> {
    let (first, rest) = path.split_first()?;
    match first.as_str() {
        "crate" => Some(rest.to_vec()),
        "self" => Some([module, rest].concat()),
        "super" => {
            let mut base = module.clone();
            let mut path = path;
            while path.first().is_some_and(|part| part == "super") {
                base.pop();
                path = &path[1..];
            }
            Some([&base, path].concat())
        }
        _ => {
            let child = [module.as_slice(), std::slice::from_ref(first)].concat();
            modules
                .contains(&child)
                .then(|| [module.as_slice(), path].concat())
        }
    }
}

/// The file that a path leads into.
fn file_of(path: &[String], modules: &[Module]) -> Module {
    let known = (0..=path.len()).rev().map(|len| path[..len].to_vec());
    let mut known = known.filter(|module| modules.contains(module));
    known.next().unwrap_or_default()
}

/// By file, the files that it uses. A module and those inside it count as one step of the stairs:
/// they may use each other.
fn used() -> Uses {
    let files: Vec<_> = paths(&sources())
        .into_iter()
        .filter_map(|path| Some((module(&path)?, path)))
        .collect();
    let modules: Vec<Module> = files.iter().map(|(module, _)| module.clone()).collect();
    let mut used = Uses::new();
    for (module, path) in &files {
        let uses = used.entry(module.join("::")).or_default();
        for path in named(&std::fs::read_to_string(path).unwrap()) {
            let Some(path) = absolute(module, &path, &modules) else {
                continue;
            };
            let other = file_of(&path, &modules);
            if !other.starts_with(module) && !module.starts_with(&other) {
                uses.insert(other.join("::"));
            }
        }
    }
    used
}

#[test]
fn files_have_no_circle() {
    let used = used();
    let of = &used["unwind::bounded"];
    assert!(of.contains("unwind::section"), "{of:?}");
    assert_eq!(circle(&used), None);
}

#[test]
fn a_use_is_followed_in_every_form() {
    let text = "use crate::{a::{b, c::D}, e};\nuse super::f::g as h;\npub use self::i::*;\n\
                #[cfg(test)]\nmod tests { use crate::z; }";
    let found: Vec<String> = named(text).iter().map(|path| path.join("::")).collect();
    assert_eq!(
        found,
        [
            "crate::a::b",
            "crate::a::c::D",
            "crate::e",
            "super::f::g",
            "self::i"
        ]
    );
    let path = |text: &str| -> Module { text.split("::").map(str::to_owned).collect() };
    let modules = [path("a"), path("a::c"), path("x"), path("x::y"), path("f")];
    let leads = |used: &str| {
        let path = absolute(&path("x::y"), &path(used), &modules)?;
        Some(file_of(&path, &modules).join("::"))
    };
    assert_eq!(leads("crate::a::c::D").as_deref(), Some("a::c"));
    assert_eq!(leads("super::super::f::g").as_deref(), Some("f"));
    assert_eq!(leads("std::fs"), None);
}
