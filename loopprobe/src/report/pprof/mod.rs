//! The profile format of `go tool pprof`, Pyroscope, Parca and others.

mod proto;

use std::{
    collections::HashMap,
    io::{self, Write},
};

use flate2::{Compression, write::GzEncoder};
use prost::Message as _;

use super::{Drawing, Fold, Node, fold::Weight};
use proto::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};

/// A gzipped pprof profile: blocked nanoseconds by stack, with the task type and the cause as
/// labels.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pprof;

impl Drawing for Pprof {
    fn draw(&self, fold: &Fold, out: &mut dyn Write) -> io::Result<()> {
        compress(&Builder::profile(fold), out)
    }
}

impl Pprof {
    /// The profile of a part of a session, compressed. Its time is in nanoseconds since the Unix
    /// epoch.
    ///
    /// # Errors
    ///
    /// Whatever compressing gives.
    pub fn of_stretch(fold: &Fold, start_unix_ns: u64, duration_ns: u64) -> io::Result<Vec<u8>> {
        let mut profile = Builder::profile(fold);
        profile.time_nanos = signed(start_unix_ns);
        profile.duration_nanos = signed(duration_ns);
        let mut out = Vec::new();
        compress(&profile, &mut out)?;
        Ok(out)
    }
}

fn compress(profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    let mut encoder = GzEncoder::new(out, Compression::default());
    encoder.write_all(&profile.encode_to_vec())?;
    encoder.finish()?;
    Ok(())
}

/// The path of the program: the module that is called as the session is, or the first that is no
/// shared object.
fn program(fold: &Fold) -> Option<&str> {
    let modules = || {
        fold.nodes()
            .iter()
            .filter_map(|node| node.module.as_deref())
    };
    let name = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    let called = fold.session.as_ref().map(|session| session.name.clone());
    let is_library = |path: &str| path.contains(".so") || path.starts_with('[');
    modules()
        .find(|path| called.as_ref() == Some(&name(path)))
        .or_else(|| modules().find(|path| !is_library(path)))
}

#[derive(Default)]
struct Builder {
    profile: Profile,
    strings: HashMap<String, i64>,
    mappings: HashMap<String, u64>,
    functions: HashMap<(String, String), u64>,
    locations: HashMap<Node, u64>,
}

impl Builder {
    fn profile(fold: &Fold) -> Profile {
        let mut builder = Self::default();
        // The format wants the first string to be empty.
        builder.string("");
        builder.head(fold);
        // Readers take the first mapping for the program.
        if let Some(program) = program(fold) {
            builder.mapping(program);
        }
        for (path, weight) in fold.stacks() {
            builder.sample(&path, weight);
        }
        builder.profile
    }

    fn head(&mut self, fold: &Fold) {
        let stretches = self.value_type("stretches", "count");
        let blocked = self.value_type("blocked", "nanoseconds");
        self.profile.sample_type = vec![stretches, blocked];
        self.profile.default_sample_type = blocked.r#type;
        // Each value stands for itself, as in Go's profile of blocked goroutines.
        self.profile.period_type = Some(blocked);
        self.profile.period = 1;
        if let Some(session) = &fold.session {
            self.profile.time_nanos = signed(session.start_unix_ns);
            let comment = format!("loopprobe, pid {}", session.pid);
            let comment = self.string(&comment);
            self.profile.comment.push(comment);
        }
        if let Some(summary) = &fold.summary {
            self.profile.duration_nanos = signed(summary.duration_ns);
        }
    }

    fn value_type(&mut self, name: &str, unit: &str) -> ValueType {
        ValueType {
            r#type: self.string(name),
            unit: self.string(unit),
        }
    }

    fn sample(&mut self, path: &[&Node], weight: Weight) {
        let location_id = path.iter().rev().map(|node| self.location(node)).collect();
        let mut label = Vec::new();
        if let (Some(task), Some(cause)) = (path.first(), path.last()) {
            for (key, node) in [("task", task), ("cause", cause)] {
                label.push(Label {
                    key: self.string(key),
                    str: self.string(&node.name),
                });
            }
        }
        self.profile.sample.push(Sample {
            location_id,
            value: vec![signed(weight.count), signed(weight.ns)],
            label,
        });
    }

    fn location(&mut self, node: &Node) -> u64 {
        if let Some(&id) = self.locations.get(node) {
            return id;
        }
        let place = node.location.as_ref();
        let line = Line {
            function_id: self.function(node),
            line: place.map_or(0, |place| i64::from(place.line)),
        };
        let mapping_id = match &node.module {
            Some(module) => self.mapping(module),
            None => 0,
        };
        let id = self.profile.location.len() as u64 + 1;
        self.profile.location.push(Location {
            id,
            mapping_id,
            line: vec![line],
        });
        self.locations.insert(node.clone(), id);
        id
    }

    fn function(&mut self, node: &Node) -> u64 {
        let file = node.location.as_ref().map_or("", |place| &place.file);
        let key = (node.name.clone(), file.to_owned());
        if let Some(&id) = self.functions.get(&key) {
            return id;
        }
        let name = self.string(&node.name);
        let filename = self.string(file);
        let id = self.profile.function.len() as u64 + 1;
        self.profile.function.push(Function {
            id,
            name,
            // Were it the same, pprof would take the name for C++ and drop all between angle
            // brackets.
            system_name: 0,
            filename,
        });
        self.functions.insert(key, id);
        id
    }

    fn mapping(&mut self, module: &str) -> u64 {
        if let Some(&id) = self.mappings.get(module) {
            return id;
        }
        let filename = self.string(module);
        let id = self.profile.mapping.len() as u64 + 1;
        self.profile.mapping.push(Mapping {
            id,
            filename,
            // Everything is symbolized already: a reader need not look for the file.
            has_functions: true,
            has_filenames: true,
            has_line_numbers: true,
        });
        self.mappings.insert(module.to_owned(), id);
        id
    }

    fn string(&mut self, text: &str) -> i64 {
        if let Some(&id) = self.strings.get(text) {
            return id;
        }
        let id = self.profile.string_table.len() as i64;
        self.profile.string_table.push(text.to_owned());
        self.strings.insert(text.to_owned(), id);
        id
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
