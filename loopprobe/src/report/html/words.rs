//! The opening paragraph: how long the workers were kept, what blocked most, and what to do.

use super::{
    super::{ranking::Row, units, words},
    escape::Escaped,
    gather::Gathered,
};

/// What happened, in a paragraph of HTML.
pub(super) fn paragraph(gathered: &Gathered) -> String {
    let (Some(session), Some(summary)) = (gathered.session(), gathered.summary()) else {
        return "<p>The session did not begin.</p>".to_owned();
    };
    let name = Escaped(&session.name);
    let threshold = gathered.fold.thresholds;
    let observed = units::ns(summary.duration_ns);
    let polls = gathered.fold.polls;
    if polls == 0 && summary.polls == Some(0) {
        return format!("<p>In {observed}, no task of <b>{name}</b> was polled.</p>");
    }
    if polls == 0 {
        return format!(
            "<p>In {observed}, no poll of <b>{name}</b> took {threshold} or longer.</p>"
        );
    }
    let total = gathered.fold.total_ns();
    let kept = summary.worker_ns.unwrap_or(total);
    let mut text = format!(
        "<p>In {observed}, <b>{}</b> of <b>{name}</b> took {threshold} or longer. They kept its workers from other \
         tasks for <b>{}</b> in total{}.",
        words::count(polls, "poll"),
        units::ns(kept),
        worker_share(kept, summary.workers, summary.duration_ns),
    );
    if let Some(worst) = gathered.ranking.rows().first() {
        text += &largest_part(worst, total);
    }
    text + "</p>"
}

/// What blocked most, and what to do about it.
fn largest_part(worst: &Row, total_ns: u64) -> String {
    let share = percent(worst.total_ns, total_ns);
    let part = if share > 50.0 {
        "Most of it"
    } else {
        "The largest part"
    };
    let mut text = format!(
        " {part}, {share:.0}%, was <b>{}</b>: {}",
        Escaped(&worst.task),
        words::cause(worst.cause),
    );
    if let Some(call) = &worst.call {
        text += &format!(" in <b>{}</b>", Escaped(&call.function));
    }
    text += &format!(
        ", {}, {} at the longest.",
        words::count(worst.count, "time"),
        units::ns(worst.max_ns)
    );
    if !worst.advice.is_empty() {
        text += &format!(
            " <span class=\"fix\">Fix: {}</span>",
            Escaped(&worst.advice)
        );
    }
    text
}

fn worker_share(total_ns: u64, workers: Option<u64>, duration_ns: u64) -> String {
    let Some(workers) = workers else {
        return String::new();
    };
    let time = workers.saturating_mul(duration_ns);
    if time == 0 {
        return String::new();
    }
    format!(
        ", {:.1}% of the time of {}",
        percent(total_ns, time),
        words::count(workers, "worker")
    )
}

/// `part` of `whole`, in percent.
pub(super) fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    part as f64 / whole as f64 * 100.0
}
