//! Options of every command: quiet, colour and log level, applied to the whole process.

use std::{
    env,
    io::{self, Write as _},
};

use clap::{Args, ValueEnum};

use crate::{
    cache::Cache,
    export::systemd::{Priority, is_journal},
};

/// Options of every command.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Options of every command")]
pub struct GlobalArgs {
    /// Print only what was asked for: no progress, no remarks
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// When to use colour
    #[arg(
        long,
        global = true,
        value_enum,
        hide_possible_values = true,
        value_name = "auto|always|never",
        default_value = "auto"
    )]
    pub color: ColorArg,
    /// How much to log on stderr: off, error, warn, info, debug (with the kernel side), trace
    #[arg(
        long,
        global = true,
        value_enum,
        hide_possible_values = true,
        value_name = "LEVEL",
        default_value = "warn"
    )]
    pub log_level: LogLevel,
    /// Neither use nor change what is remembered of files (~/.cache/loopprobe; docs/cache.md);
    /// the same with `LOOPPROBE_NO_CACHE` in the environment
    #[arg(long, global = true)]
    pub no_cache: bool,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ColorArg {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl From<ColorArg> for anstream::ColorChoice {
    fn from(arg: ColorArg) -> Self {
        match arg {
            ColorArg::Auto => Self::Auto,
            ColorArg::Always => Self::Always,
            ColorArg::Never => Self::Never,
        }
    }
}

/// How much to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What failed.
    Error,
    /// What looks wrong.
    Warn,
    /// What is done.
    Info,
    /// Details, and the kernel side's own log.
    Debug,
    /// Everything.
    Trace,
}

impl From<LogLevel> for log::LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Off => Self::Off,
            LogLevel::Error => Self::Error,
            LogLevel::Warn => Self::Warn,
            LogLevel::Info => Self::Info,
            LogLevel::Debug => Self::Debug,
            LogLevel::Trace => Self::Trace,
        }
    }
}

impl GlobalArgs {
    /// Whether the kernel side logs too.
    pub fn kernel_log(&self) -> bool {
        matches!(self.log_level, LogLevel::Debug | LogLevel::Trace)
    }

    /// Whether files are remembered.
    pub fn cache(&self) -> Cache {
        let is_unwanted = || env::var_os("LOOPPROBE_NO_CACHE").is_some_and(|set| !set.is_empty());
        if self.no_cache || is_unwanted() {
            Cache::Off
        } else {
            Cache::On
        }
    }

    /// Makes colour and logging follow these options, for the whole process.
    pub fn apply(&self) {
        anstream::ColorChoice::from(self.color).write_global();
        let style = match self.color {
            ColorArg::Auto => env_logger::WriteStyle::Auto,
            ColorArg::Always => env_logger::WriteStyle::Always,
            ColorArg::Never => env_logger::WriteStyle::Never,
        };
        // A second initialisation, as in tests, keeps the first logger.
        let mut logger = env_logger::Builder::new();
        logger
            .filter_level(self.log_level.into())
            .write_style(style)
            .format_timestamp_millis();
        if is_journal(&io::stderr()) {
            // It has the time and the priority in fields of its own.
            logger.format(|out, record| {
                let priority = Priority::from(record.level());
                writeln!(out, "{priority}{}: {}", record.target(), record.args())
            });
        }
        let _ = logger.try_init();
    }
}
