//! Packages of a distribution, fetched by apt into a folder of their own: the machine's lists and
//! packages stay as they are.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail, ensure};

use super::{architecture::Architecture, distribution::Suite};

/// One suite's packages.
pub(super) struct Packages {
    architecture: Architecture,
    suite: Suite,
    folder: PathBuf,
}

impl Packages {
    /// Fetches the suite's list of packages.
    pub(super) fn list(
        architecture: Architecture,
        suite: Suite,
        ubuntu_keys: &Path,
        folder: PathBuf,
    ) -> anyhow::Result<Self> {
        for part in ["lists/partial", "cache/archives/partial", "packages"] {
            fs::create_dir_all(folder.join(part))?;
        }
        let source = suite.source(architecture, ubuntu_keys);
        fs::write(folder.join("sources.list"), source)?;
        let packages = Self {
            architecture,
            suite,
            folder,
        };
        packages.run("apt-get", &["--quiet", "update"])?;
        Ok(packages)
    }

    /// The packages with a kernel's image that a package depends on, at once or through others.
    pub(super) fn images(&self, package: &str) -> anyhow::Result<Vec<String>> {
        let tree = self.run(
            "apt-cache",
            &["depends", "--important", "--recurse", package],
        )?;
        let images: Vec<String> = tree
            .lines()
            .filter(|name| is_image(name))
            .map(str::to_owned)
            .collect();
        ensure!(
            !images.is_empty(),
            "{package} of {} depends on no kernel:\n{tree}",
            self.suite.name
        );
        Ok(images)
    }

    /// Fetches packages and unpacks them into `to`.
    pub(super) fn unpack(&self, names: &[String], to: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(to)?;
        let mut args = vec!["--quiet", "download"];
        args.extend(names.iter().map(String::as_str));
        self.run("apt-get", &args)?;
        for name in names {
            let file = self.file(name)?;
            let mut unpack = Command::new("dpkg-deb");
            unpack.arg("--extract").args([&file, to]);
            output(&mut unpack)?;
            fs::remove_file(file)?;
        }
        Ok(())
    }

    fn file(&self, name: &str) -> anyhow::Result<PathBuf> {
        let start = format!("{name}_");
        fs::read_dir(self.folder.join("packages"))?
            .filter_map(Result::ok)
            .find(|entry| entry.file_name().to_string_lossy().starts_with(&start))
            .map(|entry| entry.path())
            .with_context(|| format!("apt has fetched no {name}"))
    }

    fn run(&self, program: &str, args: &[&str]) -> anyhow::Result<String> {
        let folder = self.folder.display();
        let options = [
            format!("Dir::Etc::sourcelist={folder}/sources.list"),
            "Dir::Etc::sourceparts=-".to_owned(),
            format!("Dir::State::lists={folder}/lists"),
            format!("Dir::Cache={folder}/cache"),
            "Dir::State::status=/dev/null".to_owned(),
            format!("APT::Architecture={}", self.architecture.distribution()),
            format!("APT::Architectures={}", self.architecture.distribution()),
            "Acquire::Languages=none".to_owned(),
            "Acquire::Retries=2".to_owned(),
            // Else a suite that cannot be reached is only a warning.
            "APT::Update::Error-Mode=any".to_owned(),
            // apt's own user may not write here.
            "APT::Sandbox::User=root".to_owned(),
        ];
        let mut command = Command::new(program);
        for option in &options {
            command.args(["--option", option]);
        }
        command.args(args).current_dir(self.folder.join("packages"));
        output(&mut command).with_context(|| {
            format!(
                "cannot fetch packages of {}; is there a network?",
                self.suite.name
            )
        })
    }
}

/// `linux-image-6.1.0-50-cloud-amd64`, or `linux-binary-...` where the image proper is a package of
/// its own.
fn is_image(name: &str) -> bool {
    ["linux-image-", "linux-binary-"].iter().any(|start| {
        name.strip_prefix(start)
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    })
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| {
        format!(
            "cannot run {}: vm-test takes kernels from Debian's packages, and needs apt and dpkg",
            command.get_program().display()
        )
    })?;
    if !output.status.success() {
        bail!(
            "{command:?}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_told_from_their_metapackages() {
        assert!(is_image("linux-image-6.1.0-50-cloud-amd64"));
        assert!(is_image("linux-binary-7.3.4+deb13-cloud-amd64"));
        assert!(!is_image("linux-image-cloud-amd64"));
        assert!(!is_image("  Depends: linux-image-6.1.0-50-cloud-amd64"));
        assert!(!is_image("linux-modules-7.3.4+deb13-cloud-amd64"));
    }
}
