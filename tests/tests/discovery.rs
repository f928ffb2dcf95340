//! Discovery against the symbol table's truth, on programs of several Tokio versions and profiles.
//!
//! The truth comes from the symbols and the debug information of the unstripped file, read here
//! with other code than loopprobe's. Stripping does not move code, so the stripped copy must give
//! the same sites.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use loopprobe::{
    elf::Image,
    model::{NameSource, TaskKind},
    runtime::{ImageFacts, RUNTIMES, ServedType, Site, sketch, tokio::discover},
};
use loopprobe_tests::matrix::{self, Build, PROFILES, Profile, Tokio, VERSIONS};
use loopprobe_tests::privileges::place;
use object::{Object as _, ObjectSymbol as _};

const RAW_POLL: &str = "tokio::runtime::task::raw::poll";

/// Every profile with the newest Tokio, and every version with the default profile.
fn cells() -> Vec<Build> {
    let cell = |tokio, profile| Build {
        tokio,
        profile,
        stripped: false,
    };
    let profiles = PROFILES.map(|profile| cell(Tokio::Newest, profile));
    let versions = VERSIONS
        .iter()
        .filter(|v| **v != Tokio::Newest)
        .map(|v| cell(*v, Profile::Release));
    profiles.into_iter().chain(versions).collect()
}

fn found_in(path: &Path) -> Result<ImageFacts> {
    let image = Image::open(path)?;
    Ok(discover(&image)?.facts)
}

fn vtables(image: &ImageFacts) -> impl Iterator<Item = &ServedType> {
    image.sites.iter().flat_map(|site| &site.types)
}

fn by_address(image: &ImageFacts) -> BTreeMap<u64, &ServedType> {
    vtables(image)
        .map(|vtable| (vtable.key.0, vtable))
        .collect()
}

/// Address and demangled names of every `raw::poll` in the symbol table.
fn polls_by_symbol(path: &Path) -> Result<BTreeMap<u64, BTreeSet<String>>> {
    let bytes = fs::read(path)?;
    let file = object::File::parse(&*bytes)?;
    let mut polls: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    for symbol in file.symbols().filter(object::ObjectSymbol::is_definition) {
        let name = format!("{:#}", rustc_demangle::demangle(symbol.name()?));
        if name == RAW_POLL || name.starts_with("tokio::runtime::task::raw::poll::<") {
            polls.entry(symbol.address()).or_default().insert(name);
        }
    }
    Ok(polls)
}

fn strip(path: &Path, option: &str, suffix: &str) -> Result<PathBuf> {
    let stripped = path.with_extension(suffix);
    let status = Command::new("strip")
        .args([option, "-o"])
        .arg(&stripped)
        .arg(path)
        .status()?;
    ensure!(
        status.success(),
        "strip {option} {}: {status}",
        path.display()
    );
    Ok(stripped)
}

/// What is probed before the names are read must be what has them afterwards.
fn check_sketch(path: &Path, whole: &ImageFacts) -> Result<()> {
    let sketches = sketch(RUNTIMES, &Image::open(path)?, None)?;
    ensure!(sketches.len() == 1, "{path:?}: {sketches:?}");
    let places = |facts: &ImageFacts| -> Vec<_> {
        let sites = facts.sites.iter();
        let types = sites.flat_map(|site| site.types.iter().map(move |served| (site, served)));
        let place = |(site, served): (&Site, &ServedType)| {
            (site.offset, site.role, served.key, served.task.kind)
        };
        types.map(place).collect()
    };
    let sketch = sketches[0].facts();
    assert_eq!(places(sketch), places(whole), "{}", path.display());
    // That a scheduler is one thread's own may not be known yet, and is never wrong.
    let pairs = vtables(sketch).zip(vtables(whole));
    ensure!(pairs.into_iter().all(|(a, b)| b.is_local || !a.is_local));
    // Before Tokio 1.23 a name may decide what is probed.
    let is_old = whole
        .versions
        .iter()
        .any(|v| v.starts_with("1.21.") || v.starts_with("1.22."));
    ensure!(sketch.is_named == is_old, "{path:?} {:?}", whole.versions);
    Ok(())
}

fn check_recall(build: Build, file: &str) -> Result<()> {
    let path = matrix::target(build, file)?;
    let truth: BTreeSet<u64> = polls_by_symbol(&path)?.into_keys().collect();
    ensure!(
        !truth.is_empty(),
        "{build:?}: no raw::poll symbol in {}",
        path.display()
    );
    let stripped = strip(&path, "--strip-all", "discovery-recall")?;
    for path in [&path, &stripped] {
        let image = found_in(path)?;
        let found: BTreeSet<u64> = vtables(&image).map(|vtable| vtable.function.0).collect();
        assert_eq!(found, truth, "{build:?} {}", path.display());
        check_sketch(path, &image)?;
        for site in &image.sites {
            assert!(
                site.entry.emulated,
                "{build:?} {:#x} {}",
                site.address, site.entry.mnemonic
            );
        }
    }
    Ok(())
}

#[test]
fn all_poll_functions_and_no_others_are_found() -> Result<()> {
    let _place = place()?;
    cells()
        .into_iter()
        .try_for_each(|build| check_recall(build, "zoo"))
}

#[test]
fn a_shared_object_is_searched_like_a_program() -> Result<()> {
    let _place = place()?;
    check_recall(Build::DEFAULT, "libplugin.so")
}

#[test]
fn the_version_is_read_from_stripped_files() -> Result<()> {
    let _place = place()?;
    let build = Build {
        tokio: Tokio::Exactly("1.28.2"),
        ..Build::DEFAULT
    };
    let path = strip(
        &matrix::target(build, "zoo")?,
        "--strip-all",
        "discovery-version",
    )?;
    assert_eq!(found_in(&path)?.versions, ["1.28.2"]);
    Ok(())
}

/// The types `F, S` that a v0 symbol spells.
fn types_of(symbol: &str) -> Option<&str> {
    symbol
        .strip_prefix("tokio::runtime::task::raw::poll::<")?
        .strip_suffix('>')
}

#[test]
fn v0_symbols_give_exact_types_and_classes() -> Result<()> {
    let _place = place()?;
    for tokio in [Tokio::Newest, Tokio::Exactly("1.28.2")] {
        let path = matrix::target(
            Build {
                tokio,
                profile: Profile::V0,
                stripped: false,
            },
            "zoo",
        )?;
        let stripped = strip(&path, "--strip-all", "discovery-classes")?;
        let truth = polls_by_symbol(&path)?;
        let (image, bare) = (found_in(&path)?, found_in(&stripped)?);
        let bare = by_address(&bare);
        for vtable in vtables(&image) {
            let symbols = &truth[&vtable.function.0];
            let is_blocking = symbols
                .iter()
                .all(|symbol| symbol.contains("BlockingSchedule>"));
            let kind = if is_blocking {
                TaskKind::Blocking
            } else {
                TaskKind::Async
            };
            assert_eq!(vtable.task.kind, kind, "{symbols:?}");
            assert_eq!(bare[&vtable.key.0].task.kind, kind, "stripped: {symbols:?}");
            let name = vtable.task.full_name.as_ref().unwrap_or(&vtable.task.name);
            assert_eq!(vtable.task.name_source, NameSource::V0, "{name}");
            let spelt = |symbol: &String| {
                types_of(symbol).is_some_and(|types| types.starts_with(&format!("{name}, ")))
            };
            assert!(symbols.iter().any(spelt), "{name} is not in {symbols:?}");
        }
    }
    Ok(())
}

/// The source line at a definition in the targets' own code.
fn source_line(file: &str, line: u32) -> Option<String> {
    let tail = file.rsplit_once("src/")?.1;
    let text = fs::read_to_string(matrix::root().join("tests/targets/src").join(tail)).ok()?;
    text.lines()
        .nth(line.checked_sub(1)? as usize)
        .map(str::to_owned)
}

#[test]
fn debug_information_names_functions_as_the_source_does() -> Result<()> {
    let _place = place()?;
    let image = found_in(&matrix::target(
        Build {
            profile: Profile::DebugInfo,
            ..Build::DEFAULT
        },
        "zoo",
    )?)?;
    let mut checked = 0;
    for task in vtables(&image)
        .map(|vtable| &vtable.task)
        .filter(|task| task.kind == TaskKind::Async)
    {
        assert_eq!(task.name_source, NameSource::Dwarf, "{}", task.name);
        let Some(location) = task.location.as_ref() else {
            continue;
        };
        let Some(line) = source_line(&location.file, location.line) else {
            continue;
        };
        let last = task
            .name
            .rsplit("::")
            .next()
            .context("a name has segments")?;
        let expected = if task.name.ends_with("{async block}") {
            "async".into()
        } else {
            format!("async fn {last}")
        };
        assert!(
            line.contains(&expected),
            "{} at {location}: {line}",
            task.name
        );
        checked += 1;
    }
    assert!(
        checked >= 10,
        "only {checked} definitions lie in the target's source"
    );
    Ok(())
}

#[test]
fn legacy_symbols_name_nine_tenths_exactly_and_never_lie_for_certain() -> Result<()> {
    let _place = place()?;
    let path = matrix::target(
        Build {
            profile: Profile::DebugInfo,
            ..Build::DEFAULT
        },
        "zoo",
    )?;
    let truth = found_in(&path)?;
    let without_dwarf = found_in(&strip(&path, "--strip-debug", "discovery-symbols")?)?;
    let truth = by_address(&truth);
    let (mut exact, mut types) = (0, 0);
    for vtable in vtables(&without_dwarf) {
        let expected = &truth[&vtable.key.0].task;
        if expected.name.starts_with("fn(") || expected.kind == TaskKind::Blocking {
            continue;
        }
        let same_definition = vtable.task.location.as_ref().map(|l| l.line)
            == expected.location.as_ref().map(|l| l.line);
        let is_right = match vtable.task.name_source {
            NameSource::Location => same_definition,
            // Legacy symbols write `{{closure}}` for the body of an async fn and for an async block
            // in a plain function alike, so the name claims the function only; the definition's
            // line tells which of its blocks it is.
            _ => {
                let function = expected.name.trim_end_matches("::{async block}");
                vtable.task.name == expected.name
                    || (vtable.task.name == function && same_definition)
            }
        };
        assert!(
            is_right || !vtable.task.certain,
            "{:?} is certain, but is {:?}",
            vtable.task,
            expected
        );
        types += 1;
        if is_right {
            exact += 1;
        } else {
            println!("not exact: {:?}, is {}", vtable.task, expected.name);
        }
    }
    assert!(exact * 10 >= types * 9, "{exact} of {types} exact");
    Ok(())
}

#[test]
fn stripped_async_types_have_their_definition() -> Result<()> {
    let _place = place()?;
    let path = matrix::target(
        Build {
            profile: Profile::DebugInfo,
            ..Build::DEFAULT
        },
        "zoo",
    )?;
    let truth = found_in(&path)?;
    let stripped = found_in(&strip(&path, "--strip-all", "discovery-definitions")?)?;
    let truth = by_address(&truth);
    for vtable in vtables(&stripped) {
        let expected = &truth[&vtable.key.0].task;
        let is_body = expected
            .full_name
            .as_deref()
            .unwrap_or(&expected.name)
            .contains("{async_");
        let Some(location) = expected
            .location
            .as_ref()
            .filter(|_| is_body && expected.kind == TaskKind::Async)
        else {
            continue;
        };
        let found = vtable
            .task
            .location
            .as_ref()
            .with_context(|| format!("no definition of {}", expected.name))?;
        assert_eq!(found.line, location.line, "{}", expected.name);
    }
    Ok(())
}
