use anstyle::{AnsiColor, Style};

use super::{invoking_user::InvokingUser, session_output::SessionOutput};
use crate::{
    cli::{AlertArgs, GlobalArgs},
    collect::Options,
    export::alert::{Alerts, Counts},
    report::clean,
};

const WARNING: Style = AnsiColor::Yellow.on_default().bold();

/// What becomes of a session's alerts. To be told at its end.
#[derive(Debug, Default)]
pub struct Told(Option<Counts>);

/// Alerts as was asked for, of a session with these options.
pub fn add(args: &AlertArgs, options: &Options, output: &mut SessionOutput) -> Told {
    let environment = InvokingUser::from_sudo().map_or_else(Vec::new, |user| user.environment());
    let Some(wanted) = args.options(options.threshold, &environment) else {
        return Told::default();
    };
    let alerts = Alerts::new(wanted);
    let counts = alerts.counts();
    output.add(vec![Box::new(alerts)]);
    Told(Some(counts))
}

impl Told {
    /// Says on standard error what was delivered, and always what was not.
    pub fn say(&self, global: &GlobalArgs) {
        let Some(counts) = &self.0 else { return };
        let tally = counts.tally();
        if tally.is_incomplete() {
            anstream::eprintln!(
                "{WARNING}warning:{WARNING:#} alerts: {}",
                clean(&tally.to_string())
            );
        } else if !global.quiet {
            anstream::eprintln!("alerts: {tally}");
        }
    }
}
