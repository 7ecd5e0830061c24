//! Whether the cases have died at every store that there is in the source of `mem` and `raw`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What stores, on the line where it stands in the source.
const STORES: [&str; 15] = [
    ".store(",
    ".cas(",
    ".swap(",
    ".fetch_or(",
    ".fetch_and(",
    ".fetch_add(",
    ".fetch_max(",
    ".wake(",
    "intent.set(",
    ".set_live(",
    ".transition(",
    ".hold(process",
    ".let_go(",
    ".mark(",
    "step()",
];

/// What only looks like it: calls of a helper whose own line counts.
const CALLS: [&str; 2] = ["slot.wake(", "claimed.wake("];

/// Stores that no case reaches: file, part of the line, and why.
const ALLOWED: &[(&str, &str, &str)] = &[
    ("mem/open.rs", "", "before anybody can see the segment, or after everybody has left"),
    ("mem/members/record.rs", "", "joining: real processes prove it"),
    ("mem/members/mod.rs", "words, ", "joining and leaving, likewise"),
    ("mem/members/mod.rs", "processes_used", "joining"),
    ("mem/members/mod.rs", "state.store(pack(ALIVE", "joining"),
    (
        "mem/members/claim.rs",
        "words, failures",
        "a recovery that fails, as real code does only on corrupted bytes: `recovery_tests`",
    ),
    ("mem/members/inherit.rs", "words[0].cas", "a segment full of the dead: `full_of_the_dead` in `tests/segments.rs`"),
    (
        "mem/members/inherit.rs",
        "state.cas(seen, pack(SURRENDERED",
        "the same, which had died recovering others: `inherit_tests`",
    ),
    ("mem/members/inherit.rs", "state.cas(self.membership.alive(), own", "a segment full of the dead, as above"),
    ("mem/members/inherit.rs", "words, ", "an inheritance that cannot be put right: `inherit_tests`"),
    ("mem/step.rs", "", "the crash points themselves"),
    ("raw/collect.rs", "state: State::Condemned, owner", "a race of two instructions; the same transition as `rescue`"),
    ("raw/lock.rs", "word.cas(0, mine", "a race: free again right behind a failed try; the same CAS as the try"),
    ("raw/table/put.rs", "intent.set(Field::Alloc2, 0)", "a race: a cell came free while an overflow bucket was made"),
    ("raw/table/split.rs", "me.intent.set(Field::Op, 0)", "no memory for a chunk; the store of every operation's end"),
    ("raw/sync/condition.rs", "mine | WAITERS", "a holder that dies while others wait: `tests/sync_condition.rs`"),
    (
        "raw/sync/condition.rs",
        "place.store(0, ",
        "a wait that fails: this process is evicted, or the segment corrupted",
    ),
    (
        "raw/sync/condition.rs",
        "my_place.cas(notified, mine",
        "two take over one notification: `tests/models/condition.rs`",
    ),
    ("raw/sync/rwlock.rs", "fetch_and(keep", "a race: sixteen times over a reader comes while others are let in"),
    ("raw/sync/semaphore.rs", "me.intent.set(Field::Op, 0); //", "a race: the state changed between look and CAS"),
    ("raw/sync/barrier.rs", "self.state().wake(", "a party late by an epoch: `tests/models/barrier.rs`"),
    (
        "raw/list/splice.rs",
        "me.intent.set(Field::Alloc2, 0)",
        "a race: a list grew by half while a spine for it was made",
    ),
    // What follows needs a second thread between two instructions of the first. The storms come there at random, the
    // models and loom on purpose; a case here would have to stop a thread at a step, and there is no such thing yet.
    ("raw/object/life.rs", "entry.transition(status, State::Live, 0)", "acquiring a condemned object"),
    ("raw/object/life.rs", "entry.let_go(process)", "a collector's death met while acquiring a doomed object"),
    ("raw/agenda/put.rs", "me.intent.set(Field::Alloc, 0);", "a queue that filled up while the item was made"),
    ("raw/agenda/put.rs", "me.intent.set(Field::Op, 0);", "the same"),
    ("raw/lock.rs", "seen | WAITERS, Ordering::Relaxed); // timed out", "woken, overtaken, and out of time"),
    ("raw/ring/quick.rs", "me.intent.set(Field::Op, 0); // lost", "somebody else claims the slot right then"),
    (
        "raw/table/quick.rs",
        "me.intent.set(Field::Op, 0); // lost",
        "a latch that is held for a moment: the same way out as without room",
    ),
    (
        "raw/table/quick.rs",
        "me.intent.set(Field::Op, 0); // gone over",
        "a race: the bucket was split, or the gate closed, right before the latch was taken; the same way out",
    ),
    ("raw/ring/part.rs", "self.returned().cas(epoch, 0", "only after an item was given back and taken by another"),
    ("raw/ring/push.rs", "me.intent.set(Field::Alloc, 0)", "a queue closed while a boxed item is pushed"),
    ("raw/ring/recover.rs", "claimed.wake(", "a sleeper at the slot of the dead"),
    ("raw/ring/slot.rs", "self.0.cas(seen.0, next", "skipping a dead producer's slot"),
    ("raw/ring/wake.rs", "slot.wake(", "a sleeper in the kernel"),
];

/// Fails for every store line that no armed thread has come to.
pub fn check() {
    let reached: BTreeSet<(String, u32)> =
        crate::mem::armed::reached().into_iter().map(|(file, line)| (file.to_owned(), line)).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut stores, mut missed) = (0, Vec::new());
    let mut used = BTreeSet::new();
    for path in files(&root.join("src/mem")).into_iter().chain(files(&root.join("src/raw"))) {
        let name = path.strip_prefix(root).expect("inside").to_str().expect("a plain name").to_owned();
        for (number, line) in store_lines(&std::fs::read_to_string(&path).expect("readable source")) {
            stores += 1;
            if reached.contains(&(name.clone(), number)) {
                continue;
            }
            match ALLOWED.iter().position(|(file, part, _)| name.ends_with(file) && line.contains(part)) {
                Some(at) => drop(used.insert(at)),
                None => missed.push(format!("{name}:{number}: {}", line.trim())),
            }
        }
    }
    println!("{stores} stores in the source, {} of them excused", ALLOWED.len());
    for (at, (file, part, why)) in ALLOWED.iter().enumerate() {
        if !used.contains(&at) {
            println!("not needed this time: the excuse of {file}, {part:?} ({why})");
        }
    }
    assert!(missed.is_empty(), "{} stores were not reached:\n{}", missed.len(), missed.join("\n"));
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut entries: Vec<_> = std::fs::read_dir(dir).expect("a directory").flatten().map(|e| e.path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if path.is_dir() && name != "crash" {
            found.extend(files(&path));
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            found.push(path);
        }
    }
    found
}

/// The lines that store: not in comments, tests, process-local words, or functions that pass their caller's line on.
fn store_lines(text: &str) -> Vec<(u32, &str)> {
    let mut lines = Vec::new();
    let mut skipping: Option<usize> = None; // until a closing brace of this indentation
    let mut tracked = false;
    for (number, line) in (1..).zip(text.lines()) {
        let indent = line.len() - line.trim_start().len();
        let code = line.trim();
        if code.starts_with("mod ") && code.ends_with("tests {") {
            break; // at the end of a file
        }
        if let Some(until) = skipping {
            if code == "}" && indent == until {
                skipping = None;
            }
            continue;
        }
        if code.contains("track_caller") {
            tracked = true;
        } else if tracked && code.contains("fn ") {
            tracked = false;
            skipping = Some(indent);
        } else if !CALLS.iter().any(|call| line.contains(call))
            && !code.starts_with("//")
            && !line.contains("// local")
            && STORES.iter().any(|s| line.contains(s))
        {
            lines.push((number, line));
        }
    }
    lines
}
