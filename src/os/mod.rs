//! System calls, and only they: the lowest floor, which knows nothing of segments, slots or objects.
//!
//! Every function reports failure as [`std::io::Error`]; the floors above add the context. Which file calls what:
//!
//! | file | one idea | system calls |
//! |---|---|---|
//! | `futex` | sleep on half a shared word, or of several | `futex`, `futex_waitv` |
//! | `event` | descriptors to wait for | `eventfd2`, `poll`, `read`, `write` |
//! | `mapping` | a shared mapping of a whole reserved range | `mmap`, `munmap`, `madvise` |
//! | `sigbus` | a truncated file is a poisoned flag, not a signal | `rt_sigaction`, `mmap`, `tgkill` |
//! | `file` | segment files and their names | `memfd_create`, `ftruncate`, `fallocate`, `openat`, `statx`, `fchmod`, `renameat2`, `linkat`, `unlinkat`, `fsync`, `fcntl` (seals), `getdents64`, `readlink` |
//! | `shm` | named POSIX segments | `openat`, `ftruncate`, `mmap`, `munmap`, `unlink` (through `shared_memory`) |
//! | `life` | a byte lock that the kernel releases at death | `fcntl` (`F_OFD_*`), `close` |
//! | `identity` | who a process is, and whether it lives | `pidfd_open`, `poll`, `stat`, `openat`, `read`, `readlink`, `gettid`, `tgkill`, `getrandom` |
//! | `fork` | notice that we are a forked child | `mmap`, `madvise`, `pthread_atfork` (a library call), `sched_yield` |
//! | `memory` | how much is left before the kernel kills for it | `openat`, `read` |
//! | `per_process` | what a forked child has of its own | none |
//! | `channel` | the socket between a process and its child | `socketpair`, `send`, `recv`, `shutdown`, `fcntl` (`F_DUPFD_CLOEXEC`) |
//! | `launch` | starting a program, with a pidfd from the first instant | `clone` (a library call), `rt_sigprocmask`; in the child `rt_sigaction`, `dup2`, `execve`, `_exit` |
//! | `child` | child processes | `fork`, `atexit` (library calls), `socketpair`, `sendmsg`, `recvmsg`, `pidfd_open`, `pidfd_send_signal`, `poll`, `waitid`, `getppid`, `prctl`, `kill`, `_exit` |
//! | `setup` | what a child changes about itself | `openat`, `dup3`, `sched_setaffinity`, `setenv` (a library call) |
//! | `code` | which function of the program, in any process of it | `dl_iterate_phdr`, `getauxval` (library calls), `statx` |
//! | `seal` | such a function, named over shared memory | none |
//! | `watch` | many processes at once, and a bell | `fcntl` (`F_DUPFD_CLOEXEC`), `pidfd_send_signal`, `eventfd2`, `poll`, `read`, `write` |
//! | `spin` | the clock, and the pause between two looks | `clock_gettime` (in the vDSO) |

#[cfg(not(all(target_os = "linux", target_pointer_width = "64", target_endian = "little")))]
compile_error!(
    "commons needs a 64-bit little-endian Linux: it sleeps on the low half of 64-bit shared words with futex(2), and \
     proves death with open-file-description locks and pidfds"
);

mod channel;
mod child;
mod code;
mod event;
mod file;
mod fork;
mod futex;
mod identity;
mod launch;
mod life;
mod mapping;
mod memory;
mod per_process;
mod seal;
mod setup;
mod shm;
mod sigbus;
mod spin;
mod watch;

#[cfg(debug_assertions)]
mod death;
#[cfg(test)]
pub(crate) mod testing;

pub use channel::{Channel, Transfer};
pub use child::{
    Child, Interest, Parent, Signal, at_exit, die_with_parent, exit_now, is_parent, kill_self, parent_pid,
    set_thread_name,
};
pub use code::{FunctionRef, is_privileged};
#[cfg(debug_assertions)]
pub use death::kill_myself;
pub use event::{EventFd, poll_readable};
pub use file::{
    FileId, file_id, file_size, find_memfd, memfd, mode_owner, open_peer, open_segment, path_id, publish, reserve,
    set_len, set_mode, sync,
};
pub use fork::generation;
pub use futex::{futex_wait, futex_wait_any, futex_wake};
pub use identity::{
    Evidence, Identity, effective_user, maps_file, me, process_evidence, random_u64, thread_exists, tid,
};
pub use launch::Program;
pub use life::LifeLock;
pub use mapping::Mapping;
pub use memory::available_memory;
pub use per_process::PerProcess;
pub use seal::{Function, Sealed, Secret};
pub use setup::{CPUS, Change, change_environment, close_stdin, redirect_stderr, redirect_stdout, set_affinity};
pub use shm::{create_posix, shm_path};
pub use spin::{coarse_nanos, now_nanos, pause};
pub use watch::{Bell, Watched};
