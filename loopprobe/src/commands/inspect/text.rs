//! What was discovered, for people: facts of the file, a table of its sites, and totals.

use std::io::{self, Write};

use super::report::{FileReport, Report, ScheduleReport, SiteReport};
use crate::{
    model::{NameSource, TaskKind},
    report::clean,
    runtime::{DebugInfoLevel, Mangling},
};

const HEADINGS: [&str; 7] = [
    "ADDRESS", "OFFSET", "ENTRY", "KIND", "TYPES", "KNOWN BY", "TASK",
];

pub(super) fn write(report: &Report, out: &mut impl Write) -> io::Result<()> {
    for (index, file) in report.files.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        write_file(file, out)?;
    }
    Ok(())
}

fn write_file(file: &FileReport, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}", clean(&file.path.to_string_lossy()))?;
    for (key, value) in facts(file) {
        writeln!(out, "  {key:<11} {}", clean(&value))?;
    }
    writeln!(out)?;
    write_table(&file.sites, out)?;
    writeln!(out, "\n  {}", totals(file))
}

fn facts(file: &FileReport) -> Vec<(String, String)> {
    let symbols = match file.mangling {
        Mangling::None => "none (stripped)",
        Mangling::Legacy => "legacy mangling",
        Mangling::V0 => "v0 mangling",
        Mangling::Mixed => "legacy and v0 mangling",
    };
    let debug_info = match file.debug_info {
        DebugInfoLevel::None => "none",
        DebugInfoLevel::LineTables => "line tables only",
        DebugInfoLevel::Limited => "functions (debug=1)",
        DebugInfoLevel::Full => "full (debug=2)",
    };
    let (versions, source) = (file.versions.join(", "), file.versions_source);
    let mut facts = vec![(
        file.runtime.to_lowercase(),
        format!("{versions} (from {source})"),
    )];
    let own = file.words.iter();
    facts.extend(own.map(|(key, value)| ((*key).to_owned(), value.clone())));
    facts.push(("watch".to_owned(), file.watch.words()));
    let wakes: Vec<String> = file.schedule.iter().map(ScheduleReport::words).collect();
    let wakes = match wakes.is_empty() {
        true => "where tasks are scheduled was not found: no --lag".to_owned(),
        false => wakes.join("; "),
    };
    facts.push(("wakes".to_owned(), wakes));
    let common = [
        ("symbols", symbols.to_owned()),
        ("debug info", debug_info.to_owned()),
        (
            ".eh_frame",
            format!("{:.1}% of the code", 100.0 * file.eh_frame_coverage),
        ),
        (
            "build id",
            file.build_id.clone().unwrap_or_else(|| "none".to_owned()),
        ),
    ];
    let debug_file = file.debug_file.iter();
    let debug_file = debug_file.map(|path| ("debug file", path.display().to_string()));
    let common = common.into_iter().chain(debug_file);
    facts.extend(common.map(|(key, value)| (key.to_owned(), value)));
    facts
}

fn write_table(sites: &[SiteReport], out: &mut impl Write) -> io::Result<()> {
    let rows: Vec<_> = sites.iter().map(row).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([HEADINGS[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..HEADINGS.len() - 1).map(width).collect();
    let headings = HEADINGS.map(str::to_owned);
    for row in [&headings].into_iter().chain(&rows) {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        writeln!(
            out,
            "  {}  {}",
            cells.collect::<Vec<_>>().join("  "),
            row[HEADINGS.len() - 1]
        )?;
    }
    Ok(())
}

fn row(site: &SiteReport) -> [String; 7] {
    let entry = if site.emulated {
        site.entry.clone()
    } else {
        format!("{} (slow)", site.entry)
    };
    let kind = if site.kind == TaskKind::Blocking {
        "blocking"
    } else {
        "async"
    };
    let source = match site.name_source {
        NameSource::V0 => "symbol",
        NameSource::Dwarf => "debug info",
        NameSource::Calls => "calls",
        NameSource::Location => "location",
        NameSource::None => "-",
    };
    let doubt = if site.certain || site.name_source == NameSource::None {
        ""
    } else {
        "?"
    };
    let place = match (&site.file, site.line) {
        (Some(file), Some(line)) if site.name_source != NameSource::Location => {
            format!("  {file}:{line}")
        }
        _ => String::new(),
    };
    [
        format!("{:#x}", site.address),
        format!("{:#x}", site.offset),
        entry,
        kind.to_owned(),
        site.vtables.len().to_string(),
        format!("{source}{doubt}"),
        clean(&format!("{}{place}", site.name)).into_owned(),
    ]
}

fn totals(file: &FileReport) -> String {
    let count =
        |test: &dyn Fn(&SiteReport) -> bool| file.sites.iter().filter(|site| test(site)).count();
    let types: usize = file.sites.iter().map(|site| site.vtables.len()).sum();
    let slow = count(&|site| !site.emulated);
    let slow = if slow == 0 {
        String::new()
    } else {
        format!(", {slow} slow to probe (single-stepped)")
    };
    format!(
        "{} poll sites, {types} task types: {} async, {} blocking; {} named, {} of them for certain{slow}",
        file.sites.len(),
        count(&|site| site.kind == TaskKind::Async),
        count(&|site| site.kind == TaskKind::Blocking),
        count(&|site| site.name_source != NameSource::None),
        count(&|site| site.name_source != NameSource::None && site.certain),
    )
}
