//! Options for hooks and webhooks: which long polls alert, how loudly and how often a minute.

use std::time::Duration;

use clap::Args;

use super::{parse_duration, parse_url};
use crate::{
    collect::{self, Threshold},
    export::alert::{Filter, Levels, OnAlert, Options, TypeThreshold, Webhook},
    model::Cause,
};

/// Whom to tell of long polls at once, and of which.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Alerts")]
pub struct AlertArgs {
    /// Run this with `sh -c` when a poll is long: while it is still open where that is seen. The
    /// event's JSON is on its standard input, and LOOPPROBE_TASK, _CAUSE, _CALL, _DURATION_NS,
    /// _LEVEL, _PID, _TID in its environment
    #[arg(long, value_name = "CMD")]
    pub on_alert: Option<String>,
    /// Run this when such a poll is over
    #[arg(long, value_name = "CMD")]
    pub on_alert_end: Option<String>,
    /// Post the same JSON to this http or https URL; where its path is /api/v2/alerts, as
    /// Alertmanager takes it
    #[arg(long, value_name = "URL", value_parser = parse_url)]
    pub alert_url: Option<String>,
    /// Alert from this duration on [default: the threshold]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub warn: Option<Duration>,
    /// From this duration on an alert is critical [default: ten times --warn]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub critical: Option<Duration>,
    /// Alert for tasks of this name from another duration on, as in 'api::upload*=200ms'; may be
    /// repeated, the first that fits counts
    #[arg(long, value_name = "PATTERN=TIME", value_parser = type_threshold)]
    pub threshold_for: Vec<TypeThreshold>,
    /// Never alert for tasks of this name, as in 'metrics::*'; may be repeated
    #[arg(long, value_name = "PATTERN")]
    pub ignore: Vec<String>,
    /// Alert only for these causes, as in 'sleep,file_io' (docs/causes.md)
    #[arg(long, value_name = "CAUSE", value_delimiter = ',', value_parser = cause)]
    pub cause: Vec<Cause>,
    /// So many polls may alert at once, and as many a minute from then on; the others are counted
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=6_000))]
    pub alert_rate: u32,
    /// How long a command or a request may take
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "10s")]
    pub alert_timeout: Duration,
}

impl AlertArgs {
    /// Whether anybody is to be told.
    pub fn is_wanted(&self) -> bool {
        self.on_alert.is_some() || self.on_alert_end.is_some() || self.alert_url.is_some()
    }

    /// The levels, as far as they were chosen.
    pub fn levels(&self) -> Levels {
        Levels {
            warn: self.warn,
            critical: self.critical,
        }
    }

    /// The least duration that may alert, if any is given.
    pub fn least(&self) -> Option<Duration> {
        let own = self.threshold_for.iter().map(|own| own.at);
        own.chain(self.warn).chain(self.critical).min()
    }

    /// A session that sees what is to alert, and open polls as soon as they are critical.
    pub fn widen(&self, options: collect::Options) -> collect::Options {
        if !self.is_wanted() {
            return options;
        }
        let critical = self.levels().critical(options.threshold);
        let threshold = match self.least() {
            Some(least) => options.threshold().at_most(least),
            None => options.threshold(),
        };
        collect::Options {
            report_open_after: critical.min(options.report_open_after),
            ..options.with_threshold(threshold)
        }
    }

    /// Which polls alert; `threshold` is what is reported at all.
    pub fn filter(&self, threshold: Threshold) -> Filter {
        Filter::new(
            self.levels(),
            (threshold.first(), matches!(threshold, Threshold::Auto(_))),
            &self.threshold_for,
            &self.ignore,
            &self.cause,
        )
    }

    /// What this means; `environment` is for commands. `None` if nobody is to be told.
    pub fn options(
        &self,
        threshold: Threshold,
        environment: &[(String, String)],
    ) -> Option<Options> {
        let command = |command: &String| OnAlert {
            command: command.clone(),
            timeout: self.alert_timeout,
            environment: environment.to_vec(),
        };
        self.is_wanted().then(|| Options {
            filter: self.filter(threshold),
            on_alert: self.on_alert.as_ref().map(command),
            on_alert_end: self.on_alert_end.as_ref().map(command),
            webhook: self
                .alert_url
                .as_ref()
                .map(|url| Webhook::new(url, self.alert_timeout)),
            a_minute: self.alert_rate,
        })
    }
}

fn type_threshold(text: &str) -> Result<TypeThreshold, String> {
    let (pattern, at) = text
        .rsplit_once('=')
        .ok_or("write PATTERN=TIME, as in 'api::upload*=200ms'")?;
    if pattern.is_empty() {
        return Err("the pattern before `=` is missing".to_owned());
    }
    Ok(TypeThreshold {
        pattern: pattern.to_owned(),
        at: parse_duration(at)?,
    })
}

fn cause(text: &str) -> Result<Cause, String> {
    Cause::from_name(text).ok_or_else(|| {
        let names: Vec<_> = crate::diagnose::RULES
            .iter()
            .map(|rule| rule.cause.name())
            .collect();
        format!("the causes are {}", names.join(", "))
    })
}
