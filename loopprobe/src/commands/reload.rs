//! Reads the configuration again while a session runs.

use std::ffi::OsString;

use super::{monitor::Told, say};
use crate::{
    cli::{Cli, Command, ConfigArgs, GlobalArgs, SessionArgs, Setting, Settings},
    collect::{Options, ThresholdDial},
    export::{alert::Rules, systemd},
    report::clean,
};

/// What can be changed in a session that runs; the keys of alerts take effect only where alerts
/// were wanted from the beginning.
const CHANGEABLE: [&str; 6] = [
    "threshold",
    "warn",
    "critical",
    "threshold-for",
    "ignore",
    "cause",
];

/// A session's options, and what changes them.
#[derive(Debug)]
pub(super) struct Reload {
    typed: Vec<OsString>,
    global: GlobalArgs,
    session: SessionArgs,
    settings: Settings,
    dial: ThresholdDial,
    rules: Option<Rules>,
}

/// Options whose threshold can be changed.
pub(super) fn adjustable(options: Options) -> (Options, ThresholdDial) {
    let dial = ThresholdDial::default();
    let options = Options {
        threshold_dial: Some(dial.clone()),
        ..options
    };
    (options, dial)
}

/// What was typed, with the file as it is now; says what is wrong with that, and that nothing is
/// changed.
pub(super) fn read_again(typed: &[OsString]) -> Option<Cli> {
    let read = Cli::read(typed.to_vec());
    if let Err(error) = &read {
        let error = error.to_string();
        say::warning(&format!("nothing is changed: {}", clean(error.trim_end())));
    }
    read.ok()
}

/// Says which settings hold from some time on.
pub(super) fn say_changed(when: &str, settings: &[&Setting]) {
    let lines: Vec<_> = settings
        .iter()
        .map(|setting| clean(&setting.line()).into_owned())
        .collect();
    say::remark(&format!("{when}: {}", lines.join("; ")));
}

impl Reload {
    /// `None` without a file.
    pub(super) fn new(
        cli: &Cli,
        session: &SessionArgs,
        config: &ConfigArgs,
        dial: ThresholdDial,
        told: &Told,
    ) -> Option<Self> {
        config.config.as_ref()?;
        Some(Self {
            typed: cli.typed.clone(),
            global: cli.global.clone(),
            session: session.clone(),
            settings: cli.settings.clone(),
            dial,
            rules: told.rules.clone(),
        })
    }

    /// Reads the file again, takes over what can be changed, and says what came of it. A file that
    /// is wrong changes nothing.
    pub(super) fn reload(&mut self) {
        systemd::reloading();
        if let Some(cli) = read_again(&self.typed) {
            self.follow(cli);
        }
        systemd::reloaded();
    }

    fn follow(&mut self, cli: Cli) {
        let session = match cli.command {
            Command::Attach(args) => args.session,
            Command::Record(args) => args.session,
            _ => return,
        };
        let changed = self.settings.changed(&cli.settings);
        let (now, never): (Vec<&Setting>, Vec<&Setting>) = changed
            .into_iter()
            .partition(|setting| CHANGEABLE.contains(&setting.key.as_str()));
        for setting in &never {
            say::warning(&format!(
                "`{}` cannot be changed while a session runs; start loopprobe again for that",
                setting.key
            ));
        }
        if now.is_empty() {
            return say::remark(
                "the configuration was read again: nothing has changed that can be",
            );
        }
        say_changed("from now on", &now);
        self.apply(session);
        let changed: Vec<_> = now.into_iter().cloned().collect();
        self.settings.take(&changed);
    }

    fn apply(&mut self, new: SessionArgs) {
        let session = &mut self.session;
        session.observe.threshold = new.observe.threshold;
        let (alert, new) = (&mut session.monitor.alert, new.monitor.alert);
        alert.warn = new.warn;
        alert.critical = new.critical;
        alert.threshold_for = new.threshold_for;
        alert.ignore = new.ignore;
        alert.cause = new.cause;
        // The process id matters to neither.
        let options = self.session.options(0, &self.global);
        self.dial.turn(options.threshold());
        if let Some(rules) = &self.rules {
            rules.set(self.session.monitor.alert.filter(options.threshold()));
        }
    }
}
