//! Options from a TOML file. The options of a session, as clap knows them, are the only list: a
//! file's keys are their names, and its values go through the same parsers.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use clap::{Arg, ArgAction, ArgMatches, Args, Command, CommandFactory as _, parser::ValueSource};
use toml::de::{DeTable, DeValue};

use super::{Cli, ServeKeys, SessionArgs};

/// Where options come from beside the command line.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Configuration")]
pub struct ConfigArgs {
    /// Read options from this file, named as here; what is typed wins (docs/config.md)
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// Print, as such a file, what the options come to, and do nothing
    #[arg(long)]
    pub print_config: bool,
}

/// A file that is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It says something wrong.
    #[error("{}:{line}: {message}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The line, from 1 on.
        line: usize,
        /// What is wrong, with the key.
        message: String,
    },
}

/// Keys that are less alike than this are not taken for one another's typing errors.
const LIKENESS: f64 = 0.7;

/// Which options a file may hold: those of a session, or those of `serve`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    /// Of `attach`, `record` and `run`.
    Session,
    /// Of `serve`.
    Serve,
}

impl Keys {
    /// Of the subcommand `name`; `None` for one that takes no file. What was typed does not tell:
    /// in a release build clap takes each id for one of the command's.
    pub(super) fn of(name: &str) -> Option<Self> {
        let all = Cli::command();
        let command = all.find_subcommand(name)?;
        let has = |id: &str| command.get_arguments().any(|option| option.get_id() == id);
        match () {
            () if !has("config") => None,
            () if has("look_every") => Some(Self::Serve),
            () => Some(Self::Session),
        }
    }

    fn command(self) -> Command {
        let command = Command::new("keys").no_binary_name(true);
        match self {
            Self::Session => SessionArgs::augment_args(command),
            Self::Serve => ServeKeys::augment_args(command),
        }
    }
}

/// The options that a file may hold.
pub(super) fn options(keys: Keys) -> Vec<Arg> {
    let command = keys.command();
    let options = command.get_arguments();
    options
        .filter(|option| option.get_long().is_some())
        .cloned()
        .collect()
}

fn key(option: &Arg) -> &str {
    option.get_long().unwrap_or_default()
}

fn is_flag(option: &Arg) -> bool {
    matches!(option.get_action(), ArgAction::SetTrue)
}

fn is_list(option: &Arg) -> bool {
    matches!(option.get_action(), ArgAction::Append)
}

/// The command line that stands for a file: its options, but for those that were typed in `typed`.
///
/// # Errors
///
/// If it cannot be read, or a key or value is wrong.
pub(super) fn read(
    path: &Path,
    keys: Keys,
    typed: &ArgMatches,
) -> Result<Vec<OsString>, ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    let wrong = |at: usize, message: String| ConfigError::Wrong {
        path: path.to_owned(),
        line: 1 + text[..at.min(text.len())].matches('\n').count(),
        message,
    };
    let table = DeTable::parse(&text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        wrong(at, error.message().to_owned())
    })?;
    let options = options(keys);
    let command = keys.command();
    let mut arguments = Vec::new();
    for (name, value) in table.get_ref() {
        let at = name.span().start;
        let name = name.get_ref();
        let option = options.iter().find(|option| key(option) == name);
        let option = option.ok_or_else(|| wrong(at, unknown(name, &options)))?;
        let words = words(option, value.get_ref()).map_err(|message| wrong(at, message))?;
        check(keys, &words).map_err(|message| wrong(at, format!("`{name}`: {message}")))?;
        let gives_way = |other: &Arg| other == option || exclude(&command, option, other);
        if !options
            .iter()
            .any(|other| is_typed(other, typed) && gives_way(other))
        {
            arguments.extend(words);
        }
    }
    Ok(arguments)
}

fn is_typed(option: &Arg, typed: &ArgMatches) -> bool {
    typed.value_source(option.get_id().as_str()) == Some(ValueSource::CommandLine)
}

/// Whether only one of two options can be given.
fn exclude(command: &Command, one: &Arg, other: &Arg) -> bool {
    let names = |one: &Arg, other: &Arg| command.get_arg_conflicts_with(one).contains(&other);
    names(one, other) || names(other, one)
}

fn unknown(name: &str, options: &[Arg]) -> String {
    let name = name.to_lowercase();
    let alike = |option: &&Arg| strsim::jaro_winkler(&name.replace('_', "-"), key(option));
    let nearest = options.iter().max_by(|a, b| alike(a).total_cmp(&alike(b)));
    match nearest.filter(|option| alike(option) >= LIKENESS) {
        Some(option) => format!("there is no key `{name}`; `{}` is the nearest", key(option)),
        None => format!("there is no key `{name}`; --print-config shows all"),
    }
}

/// What would be typed for a value.
fn words(option: &Arg, value: &DeValue<'_>) -> Result<Vec<OsString>, String> {
    let key = key(option);
    let word = |value: &DeValue<'_>| match value {
        DeValue::String(text) => Ok(format!("--{key}={text}").into()),
        DeValue::Integer(number) => Ok(format!("--{key}={number}").into()),
        DeValue::Float(number) => Ok(format!("--{key}={number}").into()),
        DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => Err(
            format!("`{key}` wants a text or a number, as `--{key}` does"),
        ),
    };
    match value {
        DeValue::Boolean(on) if is_flag(option) => {
            Ok(on.then(|| format!("--{key}").into()).into_iter().collect())
        }
        _ if is_flag(option) => Err(format!("`{key}` is true or false")),
        DeValue::Array(values) if is_list(option) => {
            values.iter().map(|value| word(value.get_ref())).collect()
        }
        _ => Ok(vec![word(value)?]),
    }
}

/// Whether an option takes these words.
fn check(keys: Keys, words: &[OsString]) -> Result<(), String> {
    let checked = keys.command().try_get_matches_from(words);
    checked.map(drop).map_err(|error| {
        let said = error.to_string();
        let first = said.lines().next().unwrap_or_default();
        first.trim_start_matches("error: ").to_owned()
    })
}

/// What one option came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The option's name and the file's key.
    pub key: String,
    /// The heading that it stands under in the help.
    heading: Option<String>,
    kind: Kind,
    /// As they would be typed; none if it is not set.
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Flag,
    List,
    One,
}

impl Setting {
    fn of(option: &Arg, matches: &ArgMatches) -> Self {
        let raw = matches.get_raw(option.get_id().as_str());
        let values = raw.into_iter().flatten();
        Self {
            key: key(option).to_owned(),
            heading: option.get_help_heading().map(str::to_owned),
            kind: if is_flag(option) {
                Kind::Flag
            } else if is_list(option) {
                Kind::List
            } else {
                Kind::One
            },
            values: values
                .map(|value| value.to_string_lossy().into_owned())
                .collect(),
        }
    }

    /// A line of the file; a comment if it is not set.
    pub fn line(&self) -> String {
        let quoted = |value: &String| match value.parse::<u32>() {
            Ok(number) if number.to_string() == *value => value.clone(),
            _ => toml::Value::String(value.clone()).to_string(),
        };
        let value = match (self.kind, self.values.as_slice()) {
            (Kind::Flag, values) => values
                .first()
                .cloned()
                .unwrap_or_else(|| "false".to_owned()),
            (Kind::List, values) => {
                let values: Vec<_> = values.iter().map(quoted).collect();
                format!("[{}]", values.join(", "))
            }
            (Kind::One, [value, ..]) => quoted(value),
            (Kind::One, []) => return format!("# {} =", self.key),
        };
        format!("{} = {value}", self.key)
    }
}

/// What the options of a session came to, in the order of the help.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(pub Vec<Setting>);

impl Settings {
    /// Of the matches of the subcommand `name`; empty for one without a session.
    pub fn of(name: &str, matches: &ArgMatches) -> Self {
        let options = Keys::of(name).map_or_else(Vec::new, options);
        let settings = options.iter().map(|option| Setting::of(option, matches));
        Self(settings.collect())
    }

    /// Those that differ in `other`, as they are there.
    pub fn changed<'a>(&self, other: &'a Self) -> Vec<&'a Setting> {
        let both = self.0.iter().zip(&other.0);
        both.filter(|(old, new)| old != new)
            .map(|(_, new)| new)
            .collect()
    }

    /// Takes over some.
    pub fn take(&mut self, changed: &[Setting]) {
        for new in changed {
            let old = self.0.iter_mut().find(|old| old.key == new.key);
            if let Some(old) = old {
                *old = new.clone();
            }
        }
    }
}

impl std::fmt::Display for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut heading = &None;
        for setting in &self.0 {
            if &setting.heading != heading {
                heading = &setting.heading;
                writeln!(f, "\n# {}", heading.as_deref().unwrap_or("Options"))?;
            }
            writeln!(f, "{}", setting.line())?;
        }
        Ok(())
    }
}
