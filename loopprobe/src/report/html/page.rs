//! Puts the parts together under a policy that lets the browser load nothing.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use crate::model::Lost;

use super::{
    super::{units, words as in_words},
    bars,
    escape::Escaped,
    flamegraph,
    gather::Gathered,
    lanes, polls, tables, words,
};

/// Nothing may be loaded, from anywhere, whatever a name in the page says.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; frame-src data:";

/// Writes the whole page.
pub(super) fn write(gathered: &Gathered, out: &mut impl Write) -> io::Result<()> {
    let name = gathered.session().map_or("?", |session| &session.name);
    write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>loopprobe: {name}</title><style>{style}</style></head><body><main>\n",
        name = Escaped(name),
        style = include_str!("style.css"),
    )?;
    writeln!(
        out,
        "<h1>What blocked {}</h1>{}",
        Escaped(name),
        about(gathered)
    )?;
    writeln!(
        out,
        "<section id=\"story\">{}</section>",
        words::paragraph(gathered)
    )?;
    writeln!(out, "{}", tables::ranked(gathered))?;
    writeln!(out, "{}", lanes::section(gathered))?;
    if gathered.fold.polls > 0 {
        writeln!(
            out,
            "<h2>How long they took</h2>{}",
            bars::svg(&gathered.histogram)
        )?;
        writeln!(out, "{}", flamegraph::section(&gathered.fold)?)?;
    }
    if let Some(summary) = gathered.summary() {
        writeln!(out, "{}", tables::tasks(summary))?;
    }
    writeln!(out, "{}", remarks(gathered))?;
    writeln!(
        out,
        "</main><script type=\"application/json\" id=\"polls\">{}</script><script>{}</script></body></html>",
        polls::json(gathered)?,
        include_str!("script.js"),
    )
}

fn about(gathered: &Gathered) -> String {
    let Some(session) = gathered.session() else {
        return String::new();
    };
    let mut html = format!(
        "<p class=\"about\">pid {}, {}; threshold {}; ",
        session.pid,
        utc(session.start_unix_ns),
        gathered.fold.thresholds,
    );
    if !session.tokio.is_empty() {
        let _ = write!(html, "tokio {}; ", Escaped(&session.tokio.join(", ")));
    }
    let _ = write!(
        html,
        "{}, {}; loopprobe {}</p>",
        in_words::count(session.task_types as u64, "task type"),
        in_words::watched(session.mode).map_or_else(
            || in_words::count(session.sites as u64, "poll site"),
            str::to_owned
        ),
        Escaped(&session.version)
    );
    html
}

/// `2026-11-21 13:05:00 UTC`.
fn utc(unix_ns: u64) -> String {
    let seconds = unix_ns / 1_000_000_000;
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
        time / 3600,
        time / 60 % 60,
        time % 60
    )
}

/// Days since 1970 as a date of the Gregorian calendar, counted in years that begin in March, so
/// that the leap day is last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

/// What was lost, what the session could not see, and what else happened.
fn remarks(gathered: &Gathered) -> String {
    let mut html = "<h2>Remarks</h2><ul id=\"remarks\">".to_owned();
    let mut remark = |text: &str| {
        let _ = write!(html, "<li>{}</li>", Escaped(text));
    };
    if let Some(session) = gathered.session() {
        session.limits.iter().for_each(|limit| remark(limit));
    }
    for notice in &gathered.notices {
        remark(&notice.message);
    }
    if gathered.notices_left_out > 0 {
        remark(&in_words::count(gathered.notices_left_out, "more remark"));
    }
    if let Some(summary) = gathered.summary() {
        remark(&format!("The session ended: {}.", summary.reason));
        remark(&lost(summary.lost.as_ref()));
        if let Some(cost) = &summary.cost {
            let parts = in_words::cost_parts(cost);
            let parts = if parts.is_empty() {
                String::new()
            } else {
                format!(" ({})", parts.join(", "))
            };
            remark(&format!(
                "Observing cost {:.0}ns for the probes of each poll, {} of CPU time in total{parts}.",
                cost.ns_per_poll,
                units::ns(cost.total_ns)
            ));
        }
    }
    html + "</ul>"
}

fn lost(lost: Option<&Lost>) -> String {
    let Some(lost) = lost else {
        return "What was lost is not known.".to_owned();
    };
    let parts = in_words::lost(lost);
    if parts.is_empty() {
        "Nothing was lost.".to_owned()
    } else {
        format!("Lost or cut short: {}.", parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_400_000_000_000), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_700_000_000_000_000_000), "2023-11-14 22:13:20 UTC");
    }
}
