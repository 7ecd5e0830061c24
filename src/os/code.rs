//! A function of this program, named so that another process of the same program can find it.
//!
//! A function's address differs from process to process, its distance from where the program was loaded does not. So a
//! [`FunctionRef`] is that distance, with what proves that both processes mean the same thing by it: the identity of
//! the executable, and of the function's type.
//!
//! The identity is the linker's build id (a GNU note, a hash of the program's contents), or where the linker wrote
//! none, device, inode, size and time of change of the file that the process runs.

use std::any::TypeId;
use std::ffi::{c_int, c_void};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

/// A `fn(A) -> R` in the executable of this program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionRef {
    /// Distance from the load address.
    offset: u64,
    /// The function's type.
    signature: u64,
    /// The executable.
    program: Vec<u8>,
}

impl FunctionRef {
    /// Names `function`.
    ///
    /// # Errors
    /// If it is not in the executable itself but in a library, which another process may have elsewhere or not at all;
    /// if the executable cannot be identified.
    pub fn of<A: 'static, R: 'static>(function: fn(A) -> R) -> io::Result<FunctionRef> {
        let program = program()?;
        let offset = (function as usize).wrapping_sub(program.base);
        if !program.has_code_at(offset) {
            return Err(io::Error::other("the function is not part of the executable, but of a library"));
        }
        Ok(FunctionRef { offset: offset as u64, signature: signature::<A, R>(), program: program.id.clone() })
    }

    /// The function that [`of`](FunctionRef::of) named, perhaps in another process.
    ///
    /// # Errors
    /// If that was another program, the function has another type, or there is no code where it should be.
    pub fn resolve<A: 'static, R: 'static>(&self) -> io::Result<fn(A) -> R> {
        let program = program()?;
        if self.program != program.id {
            return Err(io::Error::other("the function belongs to another program, or another build of this one"));
        }
        if self.signature != signature::<A, R>() {
            return Err(io::Error::other("the function has other types than expected"));
        }
        let offset = usize::try_from(self.offset).unwrap_or(usize::MAX);
        if !program.has_code_at(offset) {
            return Err(io::Error::other("the function's address lies outside of the program's code"));
        }
        let address = std::ptr::with_exposed_provenance::<()>(program.base.wrapping_add(offset));
        // SAFETY: `address` is that of a function of exactly the type `fn(A) -> R`:
        // - `offset` was computed by `of` from such a function: fields are private, and the only other source of a
        //   `FunctionRef` is a message on the channel that this process inherited from the one that started it. That one
        //   acts for the same user (see `is_privileged`, without which nothing is received) and could as well trace us;
        // - the executable is the same, by `program`, so the same distance is the same function;
        // - its type is the same: `signature` is made of the `TypeId` by the same compiler;
        // - executables are never unloaded, and `has_code_at` has it in a mapped, executable segment.
        // A function pointer has the size and the representation of a thin data pointer on this platform.
        Ok(unsafe { std::mem::transmute::<*const (), fn(A) -> R>(address) })
    }
}

/// Identity of a function's type, the same in all processes of one program.
fn signature<A: 'static, R: 'static>() -> u64 {
    signature_of::<fn(A) -> R>()
}

/// The same for a function pointer of any type.
pub(super) fn signature_of<F: 'static>() -> u64 {
    let mut hasher = DefaultHasher::new();
    TypeId::of::<F>().hash(&mut hasher);
    hasher.finish()
}

/// The executable that this process runs.
pub(super) struct Program {
    /// What its addresses count from.
    pub(super) base: usize,
    /// Its executable segments, counted from there.
    code: Vec<Range<usize>>,
    pub(super) id: Vec<u8>,
}

impl Program {
    pub(super) fn has_code_at(&self, offset: usize) -> bool {
        self.code.iter().any(|segment| segment.contains(&offset))
    }
}

pub(super) fn program() -> io::Result<&'static Program> {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    if let Some(program) = PROGRAM.get() {
        return Ok(program);
    }
    let mut image = Image::default();
    // SAFETY: `visit` has the type that is asked for, and `image` outlives the call, which is the only user of the
    // pointer. `visit` does not unwind: it does nothing that panics.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut image).cast()) };
    let id = match image.build_id {
        Some(id) => id,
        None => file_identity()?,
    };
    Ok(PROGRAM.get_or_init(|| Program { base: image.base, code: image.code, id }))
}

/// Stands for the build id where there is none. Two processes of one executable file see the same: the kernel does not
/// let a running executable be written to.
fn file_identity() -> io::Result<Vec<u8>> {
    let file = std::fs::metadata("/proc/self/exe")?;
    let numbers =
        [file.dev(), file.ino(), file.size(), file.mtime().cast_unsigned(), file.mtime_nsec().cast_unsigned()];
    Ok(numbers.iter().flat_map(|number| number.to_le_bytes()).collect())
}

/// What the program headers tell.
#[derive(Default)]
struct Image {
    base: usize,
    code: Vec<Range<usize>>,
    build_id: Option<Vec<u8>>,
}

/// Called for the first object, which is the executable; its answer ends the iteration.
unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _size: usize, image: *mut c_void) -> c_int {
    // SAFETY: dl_iterate_phdr(3) passes a valid record, and the pointer that `program` gave it, to an `Image` that nobody
    // else uses meanwhile.
    let (info, image) = unsafe { (&*info, &mut *image.cast::<Image>()) };
    if info.dlpi_phdr.is_null() {
        return 1;
    }
    // SAFETY: `dlpi_phdr` points to `dlpi_phnum` headers, which stay as long as the object is loaded: for ever.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    let range = |header: &libc::Elf64_Phdr| {
        let start = header.p_vaddr as usize;
        start..start.saturating_add(header.p_memsz as usize)
    };
    let loaded = |flag| headers.iter().filter(move |h| h.p_type == libc::PT_LOAD && h.p_flags & flag != 0).map(range);
    image.base = info.dlpi_addr as usize;
    image.code = loaded(libc::PF_X).collect();
    for header in headers.iter().filter(|header| header.p_type == libc::PT_NOTE) {
        let note = range(header);
        if !loaded(libc::PF_R).any(|segment| segment.start <= note.start && note.end <= segment.end) {
            continue;
        }
        let address = std::ptr::with_exposed_provenance::<u8>(image.base.wrapping_add(note.start));
        // SAFETY: the note lies inside a loaded, readable segment, which is never unloaded, and notes are constant.
        let notes = unsafe { std::slice::from_raw_parts(address, note.len()) };
        image.build_id = build_id(notes, if header.p_align == 8 { 8 } else { 4 });
        if image.build_id.is_some() {
            break;
        }
    }
    1
}

/// The build id among `notes`, each of which is three lengths and types, a name, and a description, both padded.
fn build_id(mut notes: &[u8], align: usize) -> Option<Vec<u8>> {
    const NT_GNU_BUILD_ID: u32 = 3;
    let word = |notes: &[u8], at: usize| Some(u32::from_ne_bytes(notes.get(at..at + 4)?.try_into().ok()?));
    // Ends: each round takes at least the twelve bytes of a note's head.
    loop {
        let (name_len, len, kind) = (word(notes, 0)? as usize, word(notes, 4)? as usize, word(notes, 8)?);
        let start = 12usize.checked_add(name_len)?.checked_next_multiple_of(align)?;
        let end = start.checked_add(len)?;
        let description = notes.get(start..end)?;
        if kind == NT_GNU_BUILD_ID && notes.get(12..12 + name_len) == Some(b"GNU\0") && len > 0 {
            return Some(description.to_vec());
        }
        notes = notes.get(end.checked_next_multiple_of(align)?..)?;
    }
}

/// Whether this process has rights that whoever started it may not have: a set-user-id program, or one with file
/// capabilities. Then nothing that was inherited is to be trusted.
#[must_use]
pub fn is_privileged() -> bool {
    // SAFETY: getauxval(3) has no memory precondition.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

#[cfg(test)]
mod tests {
    //! Proves that a function is found again, and that a reference to anything else is an error, never a jump.
    use super::*;

    fn double(number: u32) -> u64 {
        u64::from(number) * 2
    }

    #[test]
    fn a_function_is_found_again() {
        let function = FunctionRef::of(double as fn(u32) -> u64).unwrap();
        assert_eq!(function.resolve::<u32, u64>().unwrap()(21), 42);
    }

    #[test]
    fn another_program_type_or_place_is_refused() {
        let function = FunctionRef::of(double as fn(u32) -> u64).unwrap();
        assert!(function.resolve::<u32, u32>().is_err());
        assert!(FunctionRef { program: vec![1; 20], ..function.clone() }.resolve::<u32, u64>().is_err());
        for offset in [0, 1 << 46, u64::MAX] {
            assert!(FunctionRef { offset, ..function.clone() }.resolve::<u32, u64>().is_err(), "{offset}");
        }
    }

    #[test]
    fn build_ids_are_parsed_and_garbage_ends() {
        let note = |kind: u32, name: &[u8], description: &[u8]| {
            let lengths = [name.len() as u32, description.len() as u32, kind];
            let mut bytes: Vec<u8> = lengths.iter().flat_map(|word| word.to_ne_bytes()).collect();
            for part in [name, description] {
                bytes.extend(part);
                bytes.resize(bytes.len().next_multiple_of(4), 0);
            }
            bytes
        };
        let notes = [note(1, b"GNU\0", &[1; 16]), note(3, b"Go\0", b"x"), note(3, b"GNU\0", &[7; 20])].concat();
        assert_eq!(build_id(&notes, 4), Some(vec![7; 20]));
        assert_eq!(build_id(&notes[..notes.len() - 1], 4), None);
        assert_eq!(build_id(&[0xff; 64], 8), None);
        assert_eq!(build_id(&[], 4), None);
    }
}
