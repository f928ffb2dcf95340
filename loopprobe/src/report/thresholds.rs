//! The thresholds that held one after the other in a session.

use std::fmt;

use super::Chosen;
use crate::model::Event;

/// From which duration on polls were long in a session; it may have changed meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thresholds(Option<(u64, u64)>);

impl Thresholds {
    /// Takes the session's next event.
    pub fn event(&mut self, event: &Event) {
        let new = match event {
            Event::Session(session) => Some(session.threshold_ns),
            Event::Notice(notice) => notice.threshold_ns,
            _ => None,
        };
        if let Some(new) = new {
            let (least, most) = self.0.unwrap_or((new, new));
            self.0 = Some((least.min(new), most.max(new)));
        }
    }

    /// From here on polls were long at any time, in nanoseconds.
    pub fn most_ns(self) -> u64 {
        self.0.map_or(0, |(_, most)| most)
    }
}

/// `10ms`, or `1ms to 10ms`.
impl fmt::Display for Thresholds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (least, most) = self.0.unwrap_or_default();
        if least < most {
            write!(f, "{} to {}", Chosen(least), Chosen(most))
        } else {
            Chosen(least).fmt(f)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Notice;

    #[test]
    fn a_change_shows() {
        let mut thresholds = Thresholds::default();
        let changed = |threshold_ns| {
            Event::Notice(Notice {
                threshold_ns,
                ..Notice::default()
            })
        };
        thresholds.event(&changed(Some(10_000_000)));
        thresholds.event(&changed(None));
        let same = Chosen(10_000_000).to_string();
        assert_eq!(thresholds.to_string(), same);
        thresholds.event(&changed(Some(1_000_000)));
        assert_eq!(
            thresholds.to_string(),
            format!("{} to {same}", Chosen(1_000_000))
        );
        assert_eq!(thresholds.most_ns(), 10_000_000);
    }
}
