//! The crash tests' way to die: as a killed process does, without a destructor.

/// Ends the calling process by SIGKILL.
pub fn kill_myself() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    loop {
        std::thread::park(); // the signal is on its way
    }
}
