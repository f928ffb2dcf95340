//! A file for speedscope.app: a profile of all task types together, then one of each.

use std::{
    collections::HashMap,
    io::{self, Write},
};

use serde::Serialize;

use super::{Drawing, Fold, Node};

/// A file for <https://www.speedscope.app>: every task type is a profile of its own, after one of
/// all.
///
/// The format is described by <https://www.speedscope.app/file-format-schema.json>.
#[derive(Clone, Copy, Debug, Default)]
pub struct Speedscope;

#[derive(Serialize)]
struct File<'a> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    exporter: String,
    name: String,
    #[serde(rename = "activeProfileIndex")]
    active: usize,
    shared: Shared<'a>,
    profiles: Vec<Profile>,
}

#[derive(Serialize)]
struct Shared<'a> {
    frames: Vec<Frame<'a>>,
}

#[derive(Serialize)]
struct Frame<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    r#type: &'static str,
    name: String,
    unit: &'static str,
    start_value: u64,
    end_value: u64,
    samples: Vec<Vec<usize>>,
    weights: Vec<u64>,
}

impl Profile {
    fn new(name: &str) -> Self {
        Self {
            r#type: "sampled",
            name: name.to_owned(),
            unit: "nanoseconds",
            start_value: 0,
            end_value: 0,
            samples: Vec::new(),
            weights: Vec::new(),
        }
    }

    fn add(&mut self, path: &[usize], ns: u64) {
        self.samples.push(path.to_vec());
        self.weights.push(ns);
        self.end_value = self.end_value.saturating_add(ns);
    }
}

impl Drawing for Speedscope {
    fn draw(&self, fold: &Fold, out: &mut dyn Write) -> io::Result<()> {
        let name = fold.session.as_ref().map_or("?", |session| &session.name);
        let file = File {
            schema: "https://www.speedscope.app/file-format-schema.json",
            exporter: format!("loopprobe {}", env!("CARGO_PKG_VERSION")),
            name: format!("{name}: blocked time of long polls"),
            active: 0,
            shared: Shared {
                frames: fold.nodes().iter().map(frame).collect(),
            },
            profiles: profiles(fold),
        };
        serde_json::to_writer(out, &file)?;
        Ok(())
    }
}

fn frame(node: &Node) -> Frame<'_> {
    let place = node.location.as_ref();
    Frame {
        name: &node.name,
        file: place.map(|place| place.file.as_str()),
        line: place.map(|place| place.line),
    }
}

fn profiles(fold: &Fold) -> Vec<Profile> {
    let ids: HashMap<&Node, usize> = fold.nodes().iter().zip(0..).collect();
    let mut profiles = vec![Profile::new("all task types")];
    let mut by_root: HashMap<usize, usize> = HashMap::new();
    for (path, weight) in fold.stacks() {
        let path: Vec<usize> = path.iter().map(|node| ids[node]).collect();
        profiles[0].add(&path, weight.ns);
        let own = *by_root.entry(path[0]).or_insert_with(|| {
            profiles.push(Profile::new(&fold.nodes()[path[0]].name));
            profiles.len() - 1
        });
        profiles[own].add(&path, weight.ns);
    }
    profiles[1..].sort_by_key(|profile| std::cmp::Reverse(profile.end_value));
    profiles
}
