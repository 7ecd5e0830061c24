//! How much memory is left: a memory file has no limit of its own, and the kernel's answer to too much is a kill.

/// Bytes that the machine, and the memory control group of the process where it has one, could still hand out; `None`
/// where that cannot be read.
#[must_use]
pub fn available_memory() -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let machine = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let machine = machine.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024;
    Some(control_group().map_or(machine, |group| group.min(machine)))
}

/// What the control group (version 2, as seen from inside a container) still allows.
fn control_group() -> Option<u64> {
    let read = |name: &str| std::fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok()?.trim().parse::<u64>().ok();
    Some(read("memory.max")?.saturating_sub(read("memory.current")?))
}

#[cfg(test)]
mod tests {
    //! Proves that the answer is within the machine's memory.
    #[test]
    fn plausible() {
        let bytes = super::available_memory().expect("this machine has /proc/meminfo");
        assert!((1 << 20..1 << 50).contains(&bytes), "{bytes}");
    }
}
