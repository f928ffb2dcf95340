//! The command line and the file that it names, together.

use std::{ffi::OsString, path::PathBuf};

use clap::{CommandFactory as _, FromArgMatches as _};

use super::{Cli, ConfigError, Settings, config};

/// Why nothing can be done.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// What was typed makes no sense, or asks for help.
    #[error(transparent)]
    Typed(#[from] clap::Error),
    /// The file is no configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl Cli {
    /// What was typed, and what `--config` adds.
    ///
    /// # Errors
    ///
    /// [`CliError`].
    pub fn read(typed: Vec<OsString>) -> Result<Self, CliError> {
        let mut matches = Self::command().try_get_matches_from(&typed)?;
        if let Some((name, sub)) = matches.subcommand()
            && let Some(keys) = config::Keys::of(name)
            && let Ok(Some(path)) = sub.try_get_one::<PathBuf>("config")
        {
            let from_file = config::read(path, keys, sub)?;
            let whole = insert(&typed, name, from_file);
            matches = Self::command().try_get_matches_from(whole)?;
        }
        let mut cli = Self::from_arg_matches(&matches)?;
        if let Some((name, sub)) = matches.subcommand() {
            cli.settings = Settings::of(name, sub);
        }
        cli.typed = typed;
        Ok(cli)
    }
}

/// Puts options behind the subcommand's name: what follows it may be another program's.
fn insert(typed: &[OsString], name: &str, options: Vec<OsString>) -> Vec<OsString> {
    let at = typed.iter().position(|word| word == name);
    let (before, after) = typed.split_at(at.map_or(typed.len(), |at| at + 1));
    [before, &options, after].concat()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::{Arg, ArgAction, Args as _};

    use super::*;
    use crate::cli::{
        Command, GlobalArgs, OutputArgs, RecordArg, SessionArgs, TargetArgs, ViewArgs,
    };
    use crate::model::Mode;

    fn read(file: &str, typed: &[&str]) -> Result<Cli, String> {
        read_for(&["attach", "--pid", "1"], file, typed)
    }

    fn read_for(command: &[&str], file: &str, typed: &[&str]) -> Result<Cli, String> {
        let folder = std::env::temp_dir();
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("main").replace("::", "-");
        let path = folder.join(format!("loopprobe-{}-{name}.toml", std::process::id()));
        fs::write(&path, file).unwrap();
        let shown = path.display().to_string();
        let words = [
            &["loopprobe", "--quiet"],
            command,
            &["--config", &shown],
            typed,
        ]
        .concat();
        let words = words.iter().map(OsString::from).collect();
        let result = Cli::read(words).map_err(|error| error.to_string().replace(&shown, "FILE"));
        fs::remove_file(path).unwrap();
        result
    }

    fn session(cli: &Cli) -> &SessionArgs {
        match &cli.command {
            Command::Attach(args) => &args.session,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_file_holds_options_and_what_is_typed_wins() {
        let file = "threshold = '7ms'\nlight = true\nignore = ['a::*', 'b']\nalert-rate = 7\ncause = 'sleep,cpu'\n";
        let cli = read(file, &[]).unwrap();
        let of_file = session(&cli);
        assert_eq!(of_file.observe.threshold.first().as_millis(), 7);
        assert!(of_file.observe.light);
        assert_eq!(of_file.monitor.alert.ignore, ["a::*", "b"]);
        assert_eq!(of_file.monitor.alert.alert_rate, 7);
        assert_eq!(of_file.monitor.alert.cause.len(), 2);
        let cli = read(file, &["--threshold", "3ms", "--ignore", "c"]).unwrap();
        let typed = session(&cli);
        assert_eq!(typed.observe.threshold.first().as_millis(), 3);
        assert_eq!(typed.monitor.alert.ignore, ["c"]);
        assert!(typed.observe.light, "not typed");
    }

    #[test]
    fn what_is_typed_wins_over_what_cannot_stand_beside_it() {
        let mode = |file, typed: &[&str]| session(&read(file, typed).unwrap()).observe.mode();
        assert_eq!(mode("light = true", &["--mode", "exact"]), Mode::Exact);
        assert_eq!(mode("mode = 'exact'", &["--light"]), Mode::Light);
        assert!(read("light = true\nmode = 'exact'", &[]).is_err());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (file, said) in [
            (
                "\ntreshold = '1ms'\n",
                "FILE:2: there is no key `treshold`; `threshold` is the nearest",
            ),
            (
                "on_alert = 'x'",
                "FILE:1: there is no key `on_alert`; `on-alert` is the nearest",
            ),
            (
                "xyzzy = 1",
                "FILE:1: there is no key `xyzzy`; --print-config shows all",
            ),
            ("light = 'yes'", "FILE:1: `light` is true or false"),
            ("\n\nthreshold = []", "FILE:3: `threshold` wants a text"),
            ("[alerts]\nwarn = '1ms'", "FILE:1: there is no key `alerts`"),
        ] {
            let error = read(file, &[]).unwrap_err();
            assert!(error.starts_with(said), "{error}");
        }
        let error = read("# x\nwarn = 10", &[]).unwrap_err();
        assert!(
            error.starts_with("FILE:2: `warn`: invalid value '10'") && error.contains("500us"),
            "{error}"
        );
        assert!(read("warn = ", &[]).unwrap_err().starts_with("FILE:1: "));
        assert!(
            read("pid = 1", &[]).is_err(),
            "the process is no matter of a file"
        );
    }

    /// A value that the option takes and that is not its default.
    fn example(option: &Arg) -> String {
        let name = option.get_value_names().and_then(|names| names.first());
        let text = match (
            option.get_long().unwrap(),
            name.map(clap::builder::Str::as_str),
        ) {
            ("cause", _) => "sleep",
            ("mode", _) => "light",
            ("otlp-only", _) => "traces",
            ("annotations", _) => "github",
            (_, Some("URL")) => "http://localhost/x",
            (_, Some("NAME=VALUE")) => "x-a=some \"text\"",
            (_, Some("TIME")) => "1234ms",
            (_, Some("PATTERN=TIME")) => "a*=3ms",
            (_, Some("HZ" | "N")) => "77",
            (_, Some("SHARE")) => "2%",
            (_, Some("ADDRESS")) => "127.0.0.1:0",
            _ => "some \"text\"",
        };
        text.to_owned()
    }

    #[test]
    fn every_option_of_a_session_can_stand_in_a_file_and_is_printed_as_one() {
        let plain = read("", &[]).unwrap().settings;
        for option in config::options(config::Keys::Session) {
            let key = option.get_long().unwrap();
            let value = match option.get_action() {
                ArgAction::SetTrue => "true".to_owned(),
                _ => toml::Value::String(example(&option)).to_string(),
            };
            let cli = read(&format!("{key} = {value}"), &[]).unwrap();
            let changed = plain.changed(&cli.settings);
            assert_eq!(changed.len(), 1, "{key} = {value}");
            assert_eq!(changed[0].key, key);
            let again = read(&cli.settings.to_string(), &[]).unwrap();
            assert_eq!(again.settings, cli.settings, "{}", cli.settings);
        }
        assert_eq!(read(&plain.to_string(), &[]).unwrap().settings, plain);
    }

    /// An option that is added elsewhere than in [`SessionArgs`] could not stand in a file.
    #[test]
    fn no_option_of_a_session_is_without_a_key() {
        let mut others = clap::Command::new("others");
        others = TargetArgs::augment_args(others);
        others = OutputArgs::augment_args(others);
        others = ViewArgs::augment_args(others);
        others = RecordArg::augment_args(others);
        others = GlobalArgs::augment_args(others);
        others = crate::cli::ConfigArgs::augment_args(others);
        let longs = |options: Vec<&Arg>| -> Vec<String> {
            let longs = options.into_iter().filter_map(Arg::get_long);
            longs.map(str::to_owned).collect()
        };
        let mut known = longs(others.get_arguments().collect());
        known.extend(longs(
            config::options(config::Keys::Session).iter().collect(),
        ));
        let command = Cli::command();
        for name in ["attach", "run", "record"] {
            let sub = command.find_subcommand(name).unwrap();
            for option in longs(sub.get_arguments().collect()) {
                assert!(
                    known.contains(&option) || option == "help",
                    "--{option} of {name}"
                );
            }
        }
    }

    #[test]
    fn serve_has_keys_of_its_own() {
        let serve = |file: &str, typed: &[&str]| match read_for(&["serve"], file, typed)?.command {
            Command::Serve(args) => Ok(args.keys),
            other => Err(format!("{other:?}")),
        };
        let keys = serve(
            "unit = ['a.service', 'b']\nmax-targets = 3\nwarn = '7ms'\n",
            &[],
        )
        .unwrap();
        assert_eq!(keys.select.unit, ["a.service", "b"]);
        assert_eq!((keys.select.max_targets, keys.select.all), (3, false));
        assert_eq!(keys.monitor.alert.warn.unwrap().as_millis(), 7);
        let quiet = read("", &[]).unwrap();
        let options = keys.options(7, &quiet.global);
        assert!(
            options.is_light() && options.sample_hz == 250,
            "{options:?}"
        );
        let keys = serve(
            "unit = 'a'\nexact = true\n",
            &["--unit", "b", "--sample-hz", "99"],
        )
        .unwrap();
        assert_eq!(keys.select.unit, ["b"]);
        let options = keys.options(7, &quiet.global);
        assert!(
            !options.is_light() && options.sample_hz == 99,
            "{options:?}"
        );
        let error = serve("fail-over = '1ms'\n", &[]).unwrap_err();
        assert!(
            error.starts_with("FILE:1: there is no key `fail-over`"),
            "{error}"
        );
        let error = read("unit = 'a'\n", &[]).unwrap_err();
        assert!(
            error.starts_with("FILE:1: there is no key `unit`"),
            "{error}"
        );
        let plain = read_for(&["serve"], "", &[]).unwrap().settings;
        let again = read_for(&["serve"], &plain.to_string(), &[])
            .unwrap()
            .settings;
        assert_eq!(again, plain);
        assert!(plain.to_string().contains("look-every"), "{plain}");
    }

    #[test]
    fn the_program_of_run_keeps_its_arguments() {
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        let typed = words(&["loopprobe", "run", "--config", "x", "--", "run", "--light"]);
        let whole = insert(&typed, "run", words(&["--warn=1ms"]));
        assert_eq!(
            whole,
            words(&[
                "loopprobe",
                "run",
                "--warn=1ms",
                "--config",
                "x",
                "--",
                "run",
                "--light"
            ])
        );
    }
}
