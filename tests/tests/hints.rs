//! How often the hint on a nameless frame, the source file that its code refers to, is the right
//! one.

use anyhow::{Context as _, Result, ensure};
use blazesym::symbolize::{Input, Symbolized, Symbolizer, source};
use loopprobe::{
    code::near,
    elf::{Image, VirtAddr},
};
use loopprobe_tests::matrix::{self, Build, Profile};
use loopprobe_tests::privileges::place;
use object::{Object as _, ObjectSymbol as _, SymbolKind};

/// Functions with a hint, and how many hints name the function's own file.
#[derive(Debug, Default)]
struct Score {
    functions: usize,
    hinted: usize,
    right: usize,
}

/// The truth is in the line tables of the program before it was stripped.
#[test]
fn two_fifths_of_the_hints_at_least_name_the_functions_own_file() -> Result<()> {
    let _place = place()?;
    let mut score = Score::default();
    for program in ["causes", "zoo", "truth"] {
        judge(program, &mut score).with_context(|| program.to_owned())?;
    }
    println!("{score:?}");
    ensure!(score.hinted > 100, "too few: {score:?}");
    ensure!(score.right * 5 >= score.hinted * 2, "{score:?}");
    Ok(())
}

fn judge(program: &str, score: &mut Score) -> Result<()> {
    let build = Build {
        profile: Profile::DebugInfo,
        ..Build::DEFAULT
    };
    let with_lines = matrix::target(build, program)?;
    let stripped = Image::open(&matrix::target(build.stripped(), program)?)?;
    let data = std::fs::read(&with_lines)?;
    let elf = object::File::parse(&*data)?;
    let symbolizer = Symbolizer::new();
    let source = source::Source::Elf(source::Elf::new(&with_lines));
    let functions = elf
        .symbols()
        .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0);
    for function in functions {
        let address = function.address();
        let found = symbolizer.symbolize_single(&source, Input::VirtOffset(address))?;
        let Some(file) = file_of(&found) else {
            continue;
        };
        // Frames of the standard library are told by its file names and folded.
        if file.starts_with("/rustc/") {
            continue;
        }
        score.functions += 1;
        let range = VirtAddr(address)..VirtAddr(address + function.size());
        if let Some(hint) = near(&stripped, range) {
            score.hinted += 1;
            score.right += usize::from(file.ends_with(&hint.file) || hint.file.ends_with(&file));
        }
    }
    Ok(())
}

fn file_of(found: &Symbolized<'_>) -> Option<String> {
    let lines = found.as_sym()?.code_info.as_ref()?;
    let file = lines.file.to_string_lossy();
    Some(match &lines.dir {
        Some(dir) => dir.join(&*file).to_string_lossy().into_owned(),
        None => file.into_owned(),
    })
}
