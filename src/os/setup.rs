//! What a child changes about itself before its function runs: standard streams, environment, processors.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use rustix::thread::CpuSet;

/// How many processors can be told apart.
pub const CPUS: u32 = CpuSet::MAX_CPU as u32;

/// A change of one environment variable: its name, and its value unless it is to be removed.
pub type Change<'a> = (&'a OsStr, Option<&'a OsStr>);

/// Makes standard input `/dev/null`.
pub fn close_stdin() -> io::Result<()> {
    Ok(rustix::stdio::dup2_stdin(File::open("/dev/null")?)?)
}

/// Makes standard output a copy of `file`.
pub fn redirect_stdout(file: &impl AsFd) -> io::Result<()> {
    Ok(rustix::stdio::dup2_stdout(file)?)
}

/// Makes standard error a copy of `file`.
pub fn redirect_stderr(file: &impl AsFd) -> io::Result<()> {
    Ok(rustix::stdio::dup2_stderr(file)?)
}

/// Lets the calling thread, and those that it starts, run on these processors only. Each is less than [`CPUS`].
pub fn set_affinity(cpus: &[u32]) -> io::Result<()> {
    let mut set = CpuSet::new();
    cpus.iter().for_each(|cpu| set.set(*cpu as usize));
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

/// Changes the environment, after removing all of it if `clear`.
///
/// Goes by the standard library's lock of the environment, which a thread that was not forked along may have.
///
/// # Safety
/// The process has one thread.
pub unsafe fn change_environment(clear: bool, changes: &[Change<'_>]) -> io::Result<()> {
    let check = |code: i32| if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    if clear {
        // SAFETY: nobody else reads or changes the environment, as the caller promises.
        check(unsafe { libc::clearenv() })?;
    }
    for (name, value) in changes {
        let name = CString::new(name.as_bytes())?;
        match value {
            Some(value) => {
                let value = CString::new(value.as_bytes())?;
                // SAFETY: as above; both are strings that end with a NUL, and are copied.
                check(unsafe { libc::setenv(name.as_ptr(), value.as_ptr(), 1) })?;
            }
            // SAFETY: as above; a string that ends with a NUL.
            None => check(unsafe { libc::unsetenv(name.as_ptr()) })?,
        }
    }
    Ok(())
}
