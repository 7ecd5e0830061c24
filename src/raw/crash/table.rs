//! The table of outcomes in `docs/crash.md`: what became of each operation, killed at each of its stores. Generated here.

use std::collections::BTreeMap;
use std::path::Path;

const BEGIN: &str = "<!-- generated: COMMONS_CRASH_TABLE=1 cargo test --lib crash_at_every_step -->\n";
const END: &str = "<!-- end of what is generated -->\n";

/// Writes the table if COMMONS_CRASH_TABLE is set; otherwise fails unless it has a row for each of these operations, and no
/// other. (The number of stores of some depends on where a hash seed puts keys, so the numbers are not compared.)
pub fn compare(rows: &BTreeMap<String, String>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/crash.md");
    let text = std::fs::read_to_string(&path).expect("docs/crash.md");
    let (before, rest) = text.split_once(BEGIN).expect("the mark where the table begins");
    let (table, after) = rest.split_once(END).expect("the mark where the table ends");
    if std::env::var_os("COMMONS_CRASH_TABLE").is_some() {
        let head = "\n| operation | stores | killed at: not done | killed at: done |\n|---|--:|---|---|\n";
        let body: String = rows.values().map(|row| format!("{row}\n")).collect();
        std::fs::write(&path, format!("{before}{BEGIN}{head}{body}\n{END}{after}")).expect("docs/crash.md");
        return;
    }
    let named = |line: &str| line.strip_prefix("| ").and_then(|line| line.split(" | ").next()).map(str::to_owned);
    let documented: std::collections::BTreeSet<_> = table.lines().skip(3).filter_map(named).collect();
    let missing: Vec<_> = rows.keys().filter(|name| !documented.contains(*name)).collect();
    let stale: Vec<_> = documented.iter().filter(|name| !rows.contains_key(*name)).collect();
    assert!(missing.is_empty() && stale.is_empty(), "docs/crash.md is to be generated anew: {missing:?}, {stale:?}");
}
