//! Starting a program, with a pidfd of it that is nobody else's.
//!
//! Who starts a process and then opens a pidfd of its pid may get another process: if SIGCHLD is ignored, or another
//! thread reaps whatever ends, the pid is free again once the child has died. Here the kernel makes the pidfd in the same
//! call as the process (`CLONE_PIDFD`).
//!
//! The rest is what `posix_spawn` does: the child borrows the caller's memory, on a stack of its own, until it has become
//! the program; the calling thread is suspended meanwhile (`CLONE_VFORK`).

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::ptr::{null, null_mut};

use rustix::io::fcntl_dupfd_cloexec;

/// The stack of a child until it becomes the program. It makes system calls and nothing else.
const STACK_BYTES: usize = 64 << 10;
/// Where programs are looked for that are named without a directory, if the environment does not say.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// A program to be started, and what it is given: unless stated, the working directory, the environment, standard output
/// and standard error of this process.
pub struct Program {
    path: OsString,
    args: Vec<OsString>,
    env: Env,
    stdin: OwnedFd,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

#[derive(Default)]
struct Env {
    clear: bool,
    changes: BTreeMap<OsString, Option<OsString>>,
}

impl Program {
    /// The program at `path`, or found as the shell does if that has no directory, called `arg0`.
    pub fn new(path: &Path, arg0: &OsStr, stdin: OwnedFd) -> Program {
        Program { path: path.into(), args: vec![arg0.into()], env: Env::default(), stdin, stdout: None, stderr: None }
    }

    /// Adds arguments.
    pub fn args(&mut self, args: &[OsString]) {
        self.args.extend_from_slice(args);
    }

    /// Gives it nothing of this process's environment.
    pub fn clear_env(&mut self) {
        self.env.clear = true;
    }

    /// Sets or removes a variable of its environment.
    pub fn set_env(&mut self, name: &OsStr, value: Option<&OsStr>) {
        self.env.changes.insert(name.into(), value.map(OsString::from));
    }

    /// Its standard output.
    pub fn set_stdout(&mut self, to: OwnedFd) {
        self.stdout = Some(to);
    }

    /// Its standard error.
    pub fn set_stderr(&mut self, to: OwnedFd) {
        self.stderr = Some(to);
    }

    /// Starts it: its pid, and its pidfd.
    ///
    /// # Errors
    /// Those of the system if there is no such program, or no room for a process; `InvalidInput` for a NUL byte anywhere.
    pub fn start(&self) -> io::Result<(u32, OwnedFd)> {
        let env = self.env.get();
        let search_path = env.get(OsStr::new("PATH")).map_or(OsStr::new(DEFAULT_PATH), OsString::as_os_str);
        let paths = candidates(&self.path, search_path)?;
        let args = self.args.iter().map(|arg| c_string(arg)).collect::<io::Result<Vec<_>>>()?;
        let env = env.iter().map(|(name, value)| {
            let mut entry = name.as_bytes().to_vec();
            entry.push(b'=');
            entry.extend_from_slice(value.as_bytes());
            c_string(&OsString::from_vec(entry))
        });
        let env = env.collect::<io::Result<Vec<_>>>()?;
        // What is among the standard streams would be written over before its turn comes.
        let beyond_streams = |fd: &OwnedFd| match fd.as_raw_fd() > libc::STDERR_FILENO {
            true => Ok(None),
            false => fcntl_dupfd_cloexec(fd, libc::STDERR_FILENO + 1).map(Some),
        };
        let mut streams = [None; 3];
        let mut kept = Vec::new();
        for (stream, fd) in streams.iter_mut().zip([Some(&self.stdin), self.stdout.as_ref(), self.stderr.as_ref()]) {
            let Some(fd) = fd else { continue };
            *stream = Some(fd.as_raw_fd());
            if let Some(copy) = beyond_streams(fd)? {
                *stream = Some(copy.as_raw_fd());
                kept.push(copy);
            }
        }
        let (paths, args, env) = (pointers(&paths), pointers(&args), pointers(&env));
        Launch { paths: &paths, args: &args, env: &env, streams, mask: None, error: 0 }.start()
    }
}

impl Env {
    fn get(&self) -> BTreeMap<OsString, OsString> {
        let mut env: BTreeMap<_, _> = if self.clear { BTreeMap::new() } else { std::env::vars_os().collect() };
        for (name, value) in &self.changes {
            match value {
                Some(value) => drop(env.insert(name.clone(), value.clone())),
                None => drop(env.remove(name)),
            }
        }
        env
    }
}

/// The files that may be meant by `path`, in order.
fn candidates(path: &OsStr, search_path: &OsStr) -> io::Result<Vec<CString>> {
    if path.is_empty() || path.as_bytes().contains(&b'/') {
        return Ok(vec![c_string(path)?]);
    }
    search_path
        .as_bytes()
        .split(|byte| *byte == b':')
        .map(|dir| c_string(Path::new(OsStr::from_bytes(dir)).join(path).as_os_str()))
        .collect()
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    Ok(CString::new(text.as_bytes())?)
}

/// What C takes for a list of strings.
fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([null()]).collect()
}

/// What the child has before it when it begins, in the memory of its parent.
struct Launch<'a> {
    /// Each a list of strings that ends with null.
    paths: &'a [*const libc::c_char],
    args: &'a [*const libc::c_char],
    env: &'a [*const libc::c_char],
    /// What the standard streams are to be; beyond them.
    streams: [Option<RawFd>; 3],
    /// The signals that are blocked in the calling thread.
    mask: Option<libc::sigset_t>,
    /// Why it did not become the program.
    error: i32,
}

impl Launch<'_> {
    fn start(mut self) -> io::Result<(u32, OwnedFd)> {
        let mut stack = Box::<[u128]>::new_uninit_slice(STACK_BYTES / size_of::<u128>());
        let mut pidfd = -1;
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
        // Of the handlers of signals none may run in the child, which has our memory and is not us.
        self.mask = Some(block_signals()?);
        // SAFETY:
        // - the stack is exclusively ours, aligned, and lives until the call returns, by when the child does not use it
        //   any more: the calling thread is suspended until it has become the program or ended (CLONE_VFORK);
        // - for the same reason `self`, and what it borrows, is the child's alone until then;
        // - with CLONE_PIDFD the fifth argument is where the descriptor goes;
        // - the child does nothing but system calls; see `launched`.
        let pid = unsafe {
            let top = stack.as_mut_ptr_range().end;
            let argument = (&raw mut self).cast();
            libc::clone(launched, top.cast(), flags, argument, &raw mut pidfd)
        };
        let failed = io::Error::last_os_error();
        if let Some(mask) = &self.mask {
            set_signal_mask(mask);
        }
        if pid < 0 {
            return Err(failed);
        }
        if pidfd < 0 {
            // A kernel that does not know the flag ignores it. Of such a child nobody could say for sure when it ends.
            // SAFETY: the pid is that of a child that nobody has waited for; no memory is passed.
            unsafe {
                libc::kill(pid, libc::SIGKILL);
                libc::waitpid(pid, std::ptr::null_mut(), 0);
            }
            return Err(io::ErrorKind::Unsupported.into());
        }
        // SAFETY: the call has made this descriptor, and nobody else knows it.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        // SAFETY: a live, initialised field; read as what another process has written.
        match unsafe { (&raw const self.error).read_volatile() } {
            0 => Ok((pid.cast_unsigned(), pidfd)),
            error => {
                super::child::reap_quietly(&pidfd);
                Err(io::Error::from_raw_os_error(error))
            }
        }
    }

    /// In the child: becomes the program, or says why not.
    ///
    /// # Safety
    /// The calling process is a child that has the memory of its suspended parent, and all signals are blocked.
    unsafe fn become_program(&self) -> i32 {
        // SAFETY: all calls are system calls on live memory and on descriptors that the parent keeps open meanwhile.
        unsafe {
            // Once signals are not blocked any more, before the program is there.
            for signal in 1..=libc::SIGRTMAX() {
                let mut action = MaybeUninit::<libc::sigaction>::zeroed();
                if libc::sigaction(signal, null(), action.as_mut_ptr()) != 0 {
                    continue; // the C library's own, or none
                }
                let handler = action.assume_init_ref().sa_sigaction;
                // SIGPIPE, which Rust programs ignore, is what other programs expect.
                let is_kept = matches!(handler, libc::SIG_DFL | libc::SIG_IGN) && signal != libc::SIGPIPE;
                if !is_kept && libc::signal(signal, libc::SIG_DFL) == libc::SIG_ERR {
                    return errno();
                }
            }
            for (stream, fd) in (0..).zip(self.streams) {
                if let Some(fd) = fd
                    && libc::dup2(fd, stream) < 0
                {
                    return errno();
                }
            }
            if let Some(mask) = &self.mask {
                libc::sigprocmask(libc::SIG_SETMASK, mask, null_mut());
            }
            let mut denied = 0;
            for path in self.paths.iter().take_while(|path| !path.is_null()) {
                libc::execve(*path, self.args.as_ptr(), self.env.as_ptr());
                match errno() {
                    libc::EACCES => denied = libc::EACCES,
                    libc::ENOENT | libc::ENOTDIR => {}
                    other => return other,
                }
            }
            if denied != 0 { denied } else { libc::ENOENT }
        }
    }
}

/// The child's first and last function.
extern "C" fn launched(launch: *mut libc::c_void) -> libc::c_int {
    let launch = launch.cast::<Launch<'_>>();
    // SAFETY: `start` has passed a pointer to a live `Launch`, and is suspended. Nothing here unwinds, takes a lock or
    // allocates.
    unsafe {
        let error = (*launch).become_program();
        (&raw mut (*launch).error).write_volatile(error);
        libc::_exit(127)
    }
}

fn errno() -> i32 {
    // SAFETY: the calling thread's, always there.
    unsafe { *libc::__errno_location() }
}

/// Blocks all signals in the calling thread; those that were blocked before.
fn block_signals() -> io::Result<libc::sigset_t> {
    let (mut all, mut before) = (MaybeUninit::<libc::sigset_t>::uninit(), MaybeUninit::<libc::sigset_t>::uninit());
    // SAFETY: both are live and writable, and initialised by the calls, if they succeed, before they are read.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        match libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) {
            0 => Ok(before.assume_init()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

fn set_signal_mask(mask: &libc::sigset_t) {
    // SAFETY: a live set. The call cannot fail with a valid first argument.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, null_mut()) };
}

#[cfg(test)]
mod tests {
    //! Proves that a program gets what it is given and nothing else, and that what cannot be started is the system's error.
    use std::io::Read;
    use std::path::PathBuf;

    use super::*;

    fn null_input() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    fn output_of(script: &str, change: impl FnOnce(&mut Program)) -> String {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut program = Program::new(Path::new("sh"), OsStr::new("sh"), null_input());
        program.args(&["-c".into(), script.into()]);
        program.set_stdout(writer.into());
        change(&mut program);
        let (pid, pidfd) = program.start().unwrap();
        drop(program);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert!(pid > 0);
        super::super::child::reap_quietly(&pidfd);
        text
    }

    #[test]
    fn arguments_environment_and_streams() {
        assert_eq!(output_of("echo $0; cat", |_| {}), "sh\n");
        let home = output_of("echo $COMMONS_LAUNCH-$PATH", |program| {
            program.set_env(OsStr::new("COMMONS_LAUNCH"), Some(OsStr::new("1")));
        });
        assert_eq!(home, format!("1-{}\n", std::env::var("PATH").unwrap()));
        let none = output_of("export -p", |program| {
            program.clear_env();
            program.set_env(OsStr::new("ONLY"), Some(OsStr::new("this")));
            program.set_env(OsStr::new("PWD"), None);
        });
        assert!(none.contains("ONLY") && !none.contains("HOME"), "{none}");
        let (mut reader, writer) = std::io::pipe().unwrap();
        assert_eq!(output_of("echo error >&2", |program| program.set_stderr(writer.into())), "");
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "error\n");
    }

    #[test]
    fn no_handler_and_no_mask_is_left() {
        extern "C" fn handler(_: libc::c_int) {}
        // SAFETY: the handler does nothing; the signal is used by nobody else here.
        unsafe { libc::signal(libc::SIGUSR2, handler as *const () as libc::sighandler_t) };
        let status = output_of("cat /proc/self/status", |_| {});
        let bits = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
        };
        assert_eq!(bits("SigBlk:"), 0);
        assert_eq!(bits("SigIgn:") & 1 << (libc::SIGPIPE - 1), 0);
    }

    #[test]
    fn what_cannot_be_started() {
        let start = |path: &str| {
            let program = Program::new(Path::new(path), OsStr::new("x"), null_input());
            program.start().unwrap_err().kind()
        };
        assert_eq!(start("/nowhere/at/all"), io::ErrorKind::NotFound);
        assert_eq!(start("no-such-program-anywhere"), io::ErrorKind::NotFound);
        assert_eq!(start(""), io::ErrorKind::NotFound);
        assert_eq!(start("/"), io::ErrorKind::PermissionDenied);
        assert_eq!(start("a\0b"), io::ErrorKind::InvalidInput);
        let mut program = Program::new(&PathBuf::from("/bin/true"), OsStr::new("true"), null_input());
        program.set_env(OsStr::new("A"), Some(OsStr::new("b\0c")));
        assert_eq!(program.start().unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
