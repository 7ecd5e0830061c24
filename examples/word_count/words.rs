//! Counting words: maximal runs of ASCII letters, in lower case. Bytes are bytes; nothing has to be UTF-8.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// Word → how often.
pub type Counts = HashMap<String, u64>;

/// How much of a file is in memory at a time.
const BUFFER_BYTES: usize = 256 * 1024;

/// Counts the words of the file at `path`, of whatever length it is.
pub fn count_file(path: &Path) -> io::Result<Counts> {
    count(File::open(path)?)
}

/// Counts the words of what `input` reads.
fn count(mut input: impl Read) -> io::Result<Counts> {
    let mut counts = Counts::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    // The word that has begun and not ended; it may go on in the next buffer.
    let mut word = String::new();
    loop {
        let bytes = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => &buffer[..length],
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        for byte in bytes {
            if byte.is_ascii_alphabetic() {
                word.push(byte.to_ascii_lowercase().into());
            } else {
                end_word(&mut counts, &mut word);
            }
        }
    }
    end_word(&mut counts, &mut word);
    Ok(counts)
}

fn end_word(counts: &mut Counts, word: &mut String) {
    if !word.is_empty() {
        add(counts, word, 1);
        word.clear();
    }
}

/// Adds `count` to the count of `word`, which is copied only when it is new.
pub fn add(counts: &mut Counts, word: &str, count: u64) {
    match counts.get_mut(word) {
        Some(present) => *present += count,
        None => drop(counts.insert(word.to_owned(), count)),
    }
}

/// The `limit` most frequent words; of equally frequent ones the first in the order of words.
pub fn most_frequent(counts: &Counts, limit: usize) -> Vec<(&str, u64)> {
    let mut words: Vec<_> = counts.iter().map(|(word, count)| (word.as_str(), *count)).collect();
    words.sort_unstable_by(|(a, a_count), (b, b_count)| b_count.cmp(a_count).then(a.cmp(b)));
    words.truncate(limit);
    words
}
