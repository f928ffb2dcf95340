//! Which processes are to be observed.

use wildmatch::WildMatch;

use crate::{
    cli::SelectArgs,
    model::Placement,
    process::{self, About},
};

/// What was chosen.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    names: Vec<WildMatch>,
    commands: Vec<WildMatch>,
    units: Vec<WildMatch>,
    cgroups: Vec<WildMatch>,
    containers: Vec<WildMatch>,
    all: bool,
    except: Vec<WildMatch>,
}

/// A process that may be one of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Candidate {
    /// Its name.
    pub name: String,
    /// Its arguments, joined by spaces.
    command: String,
    cgroups: Vec<String>,
    /// Where the machine has put it.
    pub placement: Placement,
}

impl Candidate {
    /// `None` if it is gone, or a thread of the kernel.
    pub(super) fn read(pid: u32) -> Option<Self> {
        process::program(pid).ok()?;
        Some(Self {
            name: process::name(pid).ok()?,
            command: About::read(pid).command.join(" "),
            cgroups: process::cgroups(pid),
            placement: process::placement(pid),
        })
    }
}

impl Selection {
    /// What was typed.
    pub(super) fn new(args: &SelectArgs) -> Self {
        let patterns = |texts: &[String]| texts.iter().map(|text| WildMatch::new(text)).collect();
        Self {
            names: patterns(&args.name),
            commands: patterns(&args.command),
            units: patterns(&args.unit),
            cgroups: patterns(&args.cgroup),
            containers: patterns(&args.container),
            all: args.all,
            except: patterns(&args.except),
        }
    }

    /// Whether this process is to be observed, if it uses Tokio.
    pub(super) fn wants(&self, candidate: &Candidate) -> bool {
        let fits = |patterns: &[WildMatch], text: &str| patterns.iter().any(|p| p.matches(text));
        let optional = |patterns: &[WildMatch], text: &Option<String>| {
            text.as_ref().is_some_and(|text| fits(patterns, text))
        };
        let Candidate {
            name,
            command,
            cgroups,
            placement,
        } = candidate;
        let chosen = self.all
            || fits(&self.names, name)
            || fits(&self.commands, command)
            || optional(&self.units, &placement.unit)
            || optional(&self.containers, &placement.container)
            || cgroups.iter().any(|path| fits(&self.cgroups, path));
        chosen && !fits(&self.except, name)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Typed {
        #[command(flatten)]
        select: SelectArgs,
    }

    fn wants(args: &[&str], candidate: &Candidate) -> bool {
        let typed = Typed::parse_from([&["x"], args].concat());
        Selection::new(&typed.select).wants(candidate)
    }

    #[test]
    fn one_pattern_that_fits_is_enough_and_an_exception_is_too() {
        let api = Candidate {
            name: "api".into(),
            command: "/usr/bin/api --port 80".into(),
            cgroups: vec!["/".into(), "/system.slice/api.service".into()],
            placement: Placement {
                unit: Some("api.service".into()),
                container: Some("3f2a9c1b7d5e".into()),
                pod: None,
            },
        };
        for args in [
            &["--all"][..],
            &["--name", "ap*"],
            &["--name", "web", "--name", "api"],
            &["--name", "web", "--unit", "api.*"],
            &["--command", "*--port 80*"],
            &["--cgroup", "/system.slice/*"],
            &["--container", "3f2a*"],
        ] {
            assert!(wants(args, &api), "{args:?}");
            assert!(
                !wants(&[args, &["--except", "a*"]].concat(), &api),
                "{args:?}"
            );
        }
        for args in [
            &["--name", "ap"][..],
            &["--command", "api"],
            &["--unit", "api"],
            &["--cgroup", "/user*"],
            &["--container", "4*"],
        ] {
            assert!(!wants(args, &api), "{args:?}");
        }
        assert!(!wants(&["--container", "*"], &Candidate::default()));
    }
}
