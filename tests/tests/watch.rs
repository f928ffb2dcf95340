//! Where threads keep the task that they poll, told from code: against the symbol table, and
//! against the memory of a program that says where its threads stand.

use std::{fs, os::unix::fs::FileExt as _, path::Path};

use anyhow::{Context as _, Result, ensure};
use loopprobe::{
    elf::Image,
    runtime::{RUNTIMES, ThreadPlace, WatchWords, sketch},
};
use loopprobe_tests::{
    matrix::{self, Build, Tokio},
    privileges::place,
    target::Target,
};
use object::{
    Object as _, ObjectSymbol as _, elf, read::elf::ElfFile64, read::elf::ProgramHeader as _,
};

fn words_of(path: &Path) -> Result<WatchWords> {
    let image = Image::open(path)?;
    let found = sketch(RUNTIMES, &image, None)?;
    let runtime = found.first().context("no runtime")?;
    Ok(runtime.watch_words(&image)?)
}

/// Where the symbol table says that `CONTEXT` lies: bytes from the thread pointer, and its size.
fn context_by_symbol(path: &Path) -> Result<(i64, i64)> {
    let bytes = fs::read(path)?;
    let file: ElfFile64<'_> = ElfFile64::parse(&*bytes)?;
    let endian = file.endian();
    let mut headers = file.elf_program_headers().iter();
    let block = headers
        .find(|header| header.p_type(endian) == elf::PT_TLS)
        .context("no thread-local variables")?;
    // Before the thread pointer lies the program's block, whose size is rounded up to its
    // alignment.
    let size = block
        .p_memsz(endian)
        .next_multiple_of(block.p_align(endian).max(1));
    let is_context = |name: &str| {
        ["tokio", "runtime", "7context", "CONTEXT"]
            .iter()
            .all(|part| name.contains(part))
    };
    let symbol = file
        .symbols()
        .filter(|symbol| symbol.name().is_ok_and(is_context))
        .filter(|symbol| symbol.elf_symbol().st_type() == elf::STT_TLS)
        .max_by_key(object::ObjectSymbol::size)
        .context("no symbol of CONTEXT")?;
    Ok((symbol.address() as i64 - size as i64, symbol.size() as i64))
}

fn offset(place: ThreadPlace) -> Result<i64> {
    match place {
        ThreadPlace::Fixed(offset) => Ok(offset),
        ThreadPlace::InModule { .. } => anyhow::bail!("{place:?} in a program"),
    }
}

#[test]
fn both_words_lie_in_the_context_of_every_build_with_and_without_symbols() -> Result<()> {
    let _place = place()?;
    for build in matrix::cells() {
        let path = matrix::target(build, "zoo")?;
        let stripped = matrix::target(build.stripped(), "zoo")?;
        let (start, size) = context_by_symbol(&path).with_context(|| format!("{build:?}"))?;
        let words = words_of(&path).with_context(|| format!("{build:?}"))?;
        for place in [words.task_id, words.budget] {
            let within = offset(place)? - start;
            ensure!(
                (0..size).contains(&within),
                "{build:?}: {within} of {size} bytes"
            );
        }
        assert_eq!(words_of(&stripped)?, words, "{build:?}, stripped");
    }
    Ok(())
}

#[test]
fn a_shared_object_gives_the_word_that_holds_its_modules_number() -> Result<()> {
    let _place = place()?;
    let path = matrix::target(Build::DEFAULT, "libplugin.so")?;
    let words = words_of(&path)?;
    let image = Image::open(&path)?;
    let ThreadPlace::InModule { slot, .. } = words.task_id else {
        anyhow::bail!("{words:?}");
    };
    assert!(image.is_thread_local_module(slot));
    assert_eq!(
        words_of(&matrix::target(Build::DEFAULT.stripped(), "libplugin.so")?)?,
        words
    );
    Ok(())
}

/// What the words of one thread say: its task, and whether it has a budget.
fn read(memory: &fs::File, words: &WatchWords, thread_pointer: u64) -> Result<(Option<u64>, bool)> {
    let word = |at: i64| -> Result<u64> {
        let mut bytes = [0; 8];
        memory.read_exact_at(&mut bytes, thread_pointer.wrapping_add_signed(at))?;
        Ok(u64::from_le_bytes(bytes))
    };
    let at = offset(words.task_id)?;
    let id = word(at)?;
    let is_there = if words.has_tag {
        word(at - 8)? == 1
    } else {
        id != 0
    };
    let budget = word(offset(words.budget)?)? as u8;
    ensure!(budget <= 1, "a budget's tag is {budget}");
    Ok((is_there.then_some(id), budget == 1))
}

#[test]
fn the_words_say_where_each_thread_stands() -> Result<()> {
    let _place = place()?;
    for tokio in [Tokio::Newest, Tokio::Exactly("1.28.2")] {
        let build = Build {
            tokio,
            ..Build::DEFAULT.stripped()
        };
        let program = matrix::target(build, "words")?;
        let words = words_of(&program)?;
        let target = Target::start(&program, &["places"])?;
        let memory = fs::File::open(format!("/proc/{}/mem", target.pid()))?;
        let mut tasks = Vec::new();
        let mut places = 0;
        for line in target.head.iter().filter(|line| line["type"] == "place") {
            let thread_pointer = line["thread_pointer"].as_u64().context("an address")?;
            let (task, has_budget) = read(&memory, &words, thread_pointer)?;
            let place = line["place"].as_str().unwrap_or_default();
            let wanted = match place {
                "poll" => (true, true),
                "closure" => (true, false),
                "root" => (false, true),
                _ => (false, false),
            };
            assert_eq!((task.is_some(), has_budget), wanted, "{tokio}: {place}");
            tasks.extend(task);
            places += 1;
        }
        assert_eq!(places, 5, "{:?}", target.head);
        let all = tasks.len();
        tasks.sort_unstable();
        tasks.dedup();
        assert_eq!(
            (all, tasks.len()),
            (3, 3),
            "{tokio}: each has its own number"
        );
    }
    Ok(())
}
