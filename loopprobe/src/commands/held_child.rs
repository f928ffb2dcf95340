//! A forked child that waits on a pipe before it executes its program, so probes come first.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::{ffi::OsStrExt as _, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command},
    thread::JoinHandle,
};

use anyhow::{Context as _, bail};
use nix::{
    fcntl::OFlag,
    sys::signal::{SigHandler, SigSet, Signal, signal},
    unistd,
};

use super::invoking_user::InvokingUser;

/// A child process that exists but has not executed its program yet. It waits in a read(2) on a
/// pipe, so it needs no stop signal, and it ends by itself if loopprobe dies first.
#[derive(Debug)]
pub(super) struct HeldChild {
    /// Its process id, which stays the same through the exec.
    pub pid: u32,
    go: File,
    spawning: JoinHandle<io::Result<Child>>,
}

impl HeldChild {
    /// Forks a child for a command. Under sudo it belongs to the invoking user.
    ///
    /// # Errors
    ///
    /// If there is no process or descriptor left.
    pub(super) fn fork(program: &Path, args: &[OsString]) -> anyhow::Result<Self> {
        let (pid_reader, pid_writer) = pipe()?;
        let (go_reader, go_writer) = pipe()?;
        let mut command = Command::new(program);
        command.args(args);
        let user = InvokingUser::from_sudo();
        if let Some(user) = &user {
            user.set_environment(&mut command);
        }
        let inherited = go_writer.as_raw_fd();
        // SAFETY: between fork and exec only system calls are made, on memory allocated before: no
        // lock that another thread may hold is touched. `close` ends the child's own copy of the
        // writing end, which nothing there uses.
        unsafe {
            command.pre_exec(move || {
                libc::close(inherited);
                restore_signals()?;
                if let Some(user) = &user {
                    user.become_user()?;
                }
                unistd::write(&pid_writer, &std::process::id().to_ne_bytes())?;
                wait_for_go(&go_reader)
            });
        }
        // `spawn` returns only after the exec, so it has a thread of its own.
        let spawning = std::thread::Builder::new()
            .name("spawn".to_owned())
            .spawn(move || command.spawn())?;
        let pid = read_pid(pid_reader);
        match pid {
            Some(pid) => Ok(Self {
                pid,
                go: go_writer.into(),
                spawning,
            }),
            None => Err(finished(spawning)
                .err()
                .unwrap_or_else(|| anyhow::anyhow!("the child told no process id"))),
        }
    }

    /// Lets the child execute its program.
    ///
    /// # Errors
    ///
    /// If the program cannot be executed.
    pub(super) fn release(mut self) -> anyhow::Result<Child> {
        // A child that is gone is told apart below.
        let _ = self.go.write_all(&[1]);
        drop(self.go);
        finished(self.spawning)
    }
}

fn pipe() -> nix::Result<(OwnedFd, OwnedFd)> {
    unistd::pipe2(OFlag::O_CLOEXEC)
}

/// Undoes what loopprobe's own handling of signals would leave to the child: the mask, and the
/// standard library's ignoring of SIGPIPE.
fn restore_signals() -> nix::Result<()> {
    SigSet::empty().thread_set_mask()?;
    // SAFETY: no handler is installed, only the default restored.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }.map(drop)
}

fn wait_for_go(go: &OwnedFd) -> io::Result<()> {
    let mut byte = [0];
    loop {
        match unistd::read(go, &mut byte) {
            Ok(1) => return Ok(()),
            Ok(_) => return Err(io::Error::from_raw_os_error(libc::ECANCELED)),
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn read_pid(reader: OwnedFd) -> Option<u32> {
    let mut bytes = [0; 4];
    File::from(reader).read_exact(&mut bytes).ok()?;
    Some(u32::from_ne_bytes(bytes))
}

fn finished(spawning: JoinHandle<io::Result<Child>>) -> anyhow::Result<Child> {
    match spawning.join() {
        Ok(child) => child.context("cannot execute the program"),
        Err(_) => bail!("the thread that starts the program panicked"),
    }
}

/// The file that a command names, found along PATH as a shell would.
///
/// # Errors
///
/// A sentence for the user if there is none.
pub(super) fn find_program(name: &OsString) -> anyhow::Result<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        let path = PathBuf::from(name);
        path.metadata()
            .with_context(|| format!("cannot run {}", path.display()))?;
        return Ok(path);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file() && unistd::access(file, unistd::AccessFlags::X_OK).is_ok())
        .with_context(|| {
            format!(
                "there is no program `{}` along PATH",
                name.to_string_lossy()
            )
        })
}
