//! Proves that `docs/format.md` says what the code says: fields and offsets of the fixed records, constants, and the
//! numbers of operations and states. Both sides are read as text, so private items are compared too.

use std::collections::BTreeMap;
use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn format_md() -> String {
    read("docs/format.md")
}

/// The rows of the first table under the heading `heading` whose first column is called `first`; of each row its cells,
/// without backquotes.
fn table(heading: &str, first: &str) -> Vec<Vec<String>> {
    let text = format_md();
    let section = text.lines().skip_while(|line| *line != heading).skip(1);
    let start = format!("| {first} |");
    let rows: Vec<Vec<String>> = section
        .take_while(|line| !line.starts_with('#'))
        .skip_while(|line| !line.starts_with(&start))
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(cells)
        .collect();
    assert!(!rows.is_empty(), "no table `{start}` under `{heading}`");
    rows
}

fn cells(row: &str) -> Vec<String> {
    let bars = row.replace("\\|", "\u{0}");
    let inner = bars.trim().trim_matches('|');
    inner.split('|').map(|cell| cell.trim().trim_matches('`').replace('\u{0}', "|")).collect()
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is no number"))
}

/// What stands between the braces of `item` in `source`.
fn body<'a>(source: &'a str, item: &str) -> &'a str {
    let (_, rest) = source.split_once(&format!("{item} {{\n")).unwrap_or_else(|| panic!("no `{item}`"));
    rest.split_once("\n}").expect("a closing brace in the first column").0
}

/// The value of an expression of literals, known constants, `<<`, `+`, `*` and `/`.
fn evaluate(expression: &str, constants: &BTreeMap<String, u64>) -> Option<u64> {
    let plain = expression.replace(" as usize", "").replace(" as u64", "");
    if let Some((left, right)) = plain.split_once(" << ") {
        return Some(evaluate(left, constants)? << evaluate(right, constants)?);
    }
    if let Some((left, right)) = plain.split_once(" + ") {
        return Some(evaluate(left, constants)? + evaluate(right, constants)?);
    }
    let mut words = plain.split_whitespace();
    let term = |word: &str| word.replace('_', "").parse().ok().or_else(|| constants.get(word).copied());
    let mut value: u64 = term(words.next()?)?;
    while let Some(operator) = words.next() {
        let right: u64 = term(words.next()?)?;
        value = match operator {
            "*" => value * right,
            "/" => value / right,
            _ => return None,
        };
    }
    Some(value)
}

/// The constants of `source` whose value is an arithmetic expression.
fn constants(source: &str) -> BTreeMap<String, u64> {
    let mut known = BTreeMap::new();
    for line in source.lines() {
        let line = line.trim().trim_start_matches("pub(super) ").trim_start_matches("pub ");
        let Some((name, rest)) = line.strip_prefix("const ").and_then(|rest| rest.split_once(':')) else { continue };
        let Some((_, expression)) = rest.split_once('=') else { continue };
        let expression = expression.split(';').next().unwrap_or_default();
        if let Some(value) = evaluate(expression.trim(), &known) {
            known.insert(name.to_owned(), value);
        }
    }
    known
}

/// Offset, name and size in bytes of each field of a struct of words.
fn fields(source: &str, name: &str) -> Vec<(u64, String, u64)> {
    let constants = constants(source);
    let mut at = 0;
    let mut fields = Vec::new();
    for line in body(source, &format!("pub struct {name}")).lines() {
        let Some((field, kind)) = line.trim().strip_prefix("pub ").and_then(|line| line.split_once(": ")) else {
            continue;
        };
        let kind = kind.trim_end_matches(',');
        let words = match kind.strip_prefix("[u64; ").and_then(|rest| rest.strip_suffix(']')) {
            Some(length) => {
                evaluate(length, &constants).unwrap_or_else(|| panic!("the length `{length}` of `{field}`"))
            }
            None => {
                assert_eq!(kind, "u64", "the type of `{name}::{field}`");
                1
            }
        };
        fields.push((at, field.to_owned(), words * 8));
        at += words * 8;
    }
    fields
}

/// The variants of an enum with explicit numbers.
fn variants(source: &str, name: &str) -> Vec<(u64, String)> {
    let body = body(source, &format!("enum {name}"));
    let variants: Vec<_> = body
        .lines()
        .filter_map(|line| line.trim().trim_end_matches(',').split_once(" = "))
        .map(|(variant, value)| (number(value), variant.to_owned()))
        .collect();
    assert!(!variants.is_empty(), "no numbered variants in `{name}`");
    variants
}

fn numbered(rows: &[Vec<String>]) -> Vec<(u64, String)> {
    rows.iter().map(|row| (number(&row[0]), row[1].clone())).collect()
}

#[track_caller]
fn check_record(heading: &str, structure: &str, size: Option<u64>) {
    let rows = table(heading, "offset");
    let documented: Vec<_> = rows.iter().map(|row| (number(&row[0]), row[1].clone(), number(&row[2]))).collect();
    let declared = fields(&read("src/mem/layout.rs"), structure);
    assert_eq!(documented, declared, "`{heading}` of docs/format.md and `{structure}` of src/mem/layout.rs");
    if let Some(size) = size {
        let (at, _, bytes) = declared.last().expect("a field");
        assert_eq!(at + bytes, size, "the size of `{structure}`");
    }
}

#[test]
fn records() {
    check_record("## Header", "Header", None);
    check_record("## Process record", "ProcessRecord", Some(256));
    check_record("## Slot record", "SlotRecord", Some(256));
    check_record("## Object entry", "ObjectEntry", Some(64));
}

#[test]
fn the_identity_begins_the_header() {
    let layout = read("src/mem/layout.rs");
    let identity = fields(&layout, "HeaderIdentity");
    assert_eq!(identity[..], fields(&layout, "Header")[..identity.len()]);
    assert_eq!(identity.iter().map(|(_, _, size)| size).sum::<u64>(), 64);
}

#[test]
fn layout_constants() {
    let known = constants(&read("src/mem/layout.rs"));
    for row in table("## Overview", "constant") {
        assert_eq!(known.get(&row[0]), Some(&number(&row[1])), "`{}`", row[0]);
    }
}

#[test]
fn the_intent_line() {
    let mut documented: Vec<_> =
        table("### Intent line", "offset").iter().map(|row| (number(&row[0]) / 8, row[1].clone())).collect();
    assert_eq!(documented.pop(), Some((7, String::new())), "the last word is unused");
    let declared: Vec<_> = variants(&read("src/mem/intent.rs"), "Field")
        .into_iter()
        .map(|(word, name)| (word, name.to_lowercase()))
        .collect();
    assert_eq!(documented, declared);
}

#[test]
fn operations() {
    assert_eq!(numbered(&table("### Intent line", "number")), variants(&read("src/mem/intent.rs"), "OpKind"));
}

#[test]
fn objects() {
    let source = read("src/raw/object/mod.rs");
    let text = format_md();
    let section = text.split_once("## Object entry").expect("the section").1;
    let section = section.split("\n## ").next().expect("its text");
    let rows: Vec<(u64, String)> = section
        .lines()
        .filter(|line| line.starts_with("| ") && line.as_bytes()[2].is_ascii_digit())
        .map(cells)
        .map(|row| (number(&row[0]), row[1].clone()))
        .collect();
    for row in variants(&source, "State").into_iter().chain(variants(&source, "Kind")) {
        assert!(rows.contains(&row), "{row:?} is not in the section on object entries");
    }
    let known = constants(&source);
    for row in table("## Object entry", "bit").iter().filter(|row| !row[1].is_empty()) {
        assert_eq!(known.get(&row[1]), Some(&(1 << number(&row[0]))), "the flag `{}`", row[1]);
    }
}

#[test]
fn states_of_processes_pages_and_slots() {
    for (path, heading) in [
        ("src/mem/members/record.rs", "## Process record"),
        ("src/mem/heap/page.rs", "## Page table"),
        ("src/raw/ring/slot.rs", "### Slot word"),
    ] {
        let known = constants(&read(path));
        for (value, name) in numbered(&table(heading, "number")) {
            // A free page is a zero word; there is no constant for it.
            let declared = known.get(&name).copied().or((name == "FREE").then_some(0));
            assert_eq!(declared, Some(value), "`{name}` of {path}");
        }
    }
}

#[test]
fn words_of_tables_rings_and_cells() {
    for (path, heading) in [
        ("src/raw/table/mod.rs", "### Root"),
        ("src/raw/ring/part.rs", "### Part"),
        ("src/raw/cell.rs", "## Lock cell"),
        ("src/raw/value.rs", "## Value root"),
        ("src/raw/list/mod.rs", "### List root"),
        ("src/raw/list/mod.rs", "### Spine"),
        ("src/raw/array.rs", "## Area"),
        ("src/raw/board.rs", "## Board"),
        ("src/raw/pipe.rs", "### Pipe root"),
        ("src/raw/pipe.rs", "### End"),
        ("src/raw/sync/rwlock.rs", "### Read-write lock"),
        ("src/raw/sync/semaphore.rs", "### Semaphore"),
        ("src/raw/sync/condition.rs", "### Condition"),
        ("src/raw/sync/barrier.rs", "### Barrier"),
        ("src/raw/sync/once.rs", "### Once"),
        ("src/raw/agenda/node.rs", "### Item"),
    ] {
        let known = constants(&read(path));
        for (word, name) in numbered(&table(heading, "word")).into_iter().filter(|(_, name)| !name.is_empty()) {
            assert_eq!(known.get(&name), Some(&word), "`{name}` of {path}");
        }
    }
}

#[test]
fn size_classes() {
    let source = read("src/mem/heap/class.rs");
    let (_, list) = source.split_once("pub const SIZES: [u32; CLASSES] = [").expect("the sizes");
    let sizes = list.split(']').next().expect("the list").split(',').map(str::trim).filter(|size| !size.is_empty());
    let declared: Vec<u64> = sizes.map(number).collect();
    let rows = table("## Slab", "class");
    let documented: Vec<u64> = rows.iter().map(|row| number(&row[1])).collect();
    assert_eq!(documented, declared);
    for (class, row) in rows.iter().enumerate() {
        let [index, size, blocks, words, start, colours] = [0, 1, 2, 3, 4, 5].map(|column| number(&row[column]));
        assert_eq!(index, class as u64);
        assert_eq!(words, blocks.div_ceil(64), "class {class}");
        assert!(colours.is_power_of_two() && start + blocks * size <= 65536, "class {class}");
        assert!(start >= 64 * (colours - 1) + 16 * words, "class {class}");
    }
}

/// Every operation kind has its section in `docs/crash.md`.
#[test]
fn crash_md_has_every_operation() {
    let text = read("docs/crash.md");
    let headings: Vec<&str> = text.lines().filter(|line| line.starts_with('#')).collect();
    for (_, kind) in variants(&read("src/mem/intent.rs"), "OpKind") {
        let heading = match kind.as_str() {
            "TablePut" => "### Insert",
            "TableRemove" => "### Remove",
            "TableSplit" => "### Split a bucket",
            "TableClear" => "### Clear",
            "TableSnapshot" => "### Snapshot, recount",
            "RingPush" => "### Push, inline",
            "RingPop" => "### Pop, inline",
            "RingSeal" => "### Close",
            "ObjectBuild" => "### Create",
            "ObjectDestroy" => "### Hold, drop",
            "Collect" => "### Collect",
            "CellPut" => "### Set the value",
            "SlotPut" => "### Change a slot",
            "ListPush" => "### Append",
            "ListPop" => "### Pop at an end",
            "ListSplice" => "### Replace the spine",
            "SemaphoreTake" | "SemaphoreGive" => "### Permit",
            "AgendaPut" => "### Put into an agenda",
            "AgendaTake" => "### Take from an agenda",
            "AgendaLease" => "### Lease",
            "AgendaReturn" => "### Give back, commit a loan",
            "AgendaAck" => "### Acknowledge, drop a loan",
            "AgendaLoan" => "### Lend",
            "AgendaGrow" => "### More lease cells",
            "AgendaClose" => "### Close an agenda",
            other => panic!("docs/crash.md does not tell of `{other}`"),
        };
        assert!(headings.contains(&heading), "no `{heading}` for `{kind}`");
    }
}

/// Every row of every table has as many cells as its head: a bar inside a cell must be escaped.
#[test]
fn tables_are_whole() {
    for path in ["docs/format.md", "docs/crash.md"] {
        let mut columns = None;
        for (i, line) in read(path).lines().enumerate() {
            if !line.starts_with('|') {
                columns = None;
                continue;
            }
            let cells = cells(line).len();
            assert_eq!(*columns.get_or_insert(cells), cells, "{path}, line {}", i + 1);
        }
    }
}
