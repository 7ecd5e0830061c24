//! A process's use of a segment: one mapping and one membership for each segment file, and what its handles hold.
//!
//! How many handles of this process hold an object is counted here, in its own memory; the object's shared holder bit
//! changes only with the first and the last of them, under the lock of the counts.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64 as LocalU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::object::{self, Kind, ObjectId, State};
use super::table::{self, Shape};
use super::{check, collect, names, recovery};
use crate::error::{Error, ErrorKind, Result};
use crate::mem::{Locator, Me, Mode, Options, Segment, SegmentId, Step, Word};
use crate::os::{self, FileId, PerProcess};

/// A segment as this process uses it.
pub struct Session {
    segment: Arc<Segment>,
    /// A forked child begins with none.
    holds: PerProcess<Mutex<Holds>>,
}

/// How often this process holds each object.
#[derive(Default)]
struct Holds {
    counts: HashMap<u32, (u32, u32)>,
}

/// Every session of the process, by segment file. A forked child begins with its parent's, unless another thread was
/// just changing them; then it maps again what it opens.
static REGISTRY: PerProcess<Mutex<Registry>> = PerProcess::new(|parents| {
    let inherited = parents.and_then(Mutex::try_lock).map(|registry| {
        let copy = registry.clone();
        // Giving it back could mean to wake somebody, by way of locks that are not ours.
        std::mem::forget(registry);
        copy
    });
    Mutex::new(inherited.unwrap_or_default())
});

type Registry = HashMap<FileId, Weak<Session>>;

/// Looks at a name whose object goes each time before it can be held.
const NAME_TRIES: u32 = 10_000;

/// Longest wait for a process-local lock, which nobody holds for long.
const LOCAL_PATIENCE: Duration = Duration::from_secs(10);

fn lock<T>(mutex: &Mutex<T>) -> Result<MutexGuard<'_, T>> {
    mutex
        .try_lock_for(LOCAL_PATIENCE)
        .ok_or_else(|| Error::new(ErrorKind::Reentrant, "a lock of this process, whose holder does not give it back"))
}

impl Session {
    /// Creates an anonymous segment.
    pub fn anonymous(options: &Options) -> Result<Arc<Session>> {
        let mut registry = lock(REGISTRY.get())?;
        register(&mut registry, Segment::anonymous(options)?)
    }

    /// Opens or creates a named one.
    pub fn named(name: &str, mode: Mode, options: &Options) -> Result<Arc<Session>> {
        let path = Segment::path_of(name)?;
        Session::at(&path, mode, || Segment::named(name, mode, options))
    }

    /// Opens or creates one in a file.
    pub fn file(path: &Path, mode: Mode, options: &Options) -> Result<Arc<Session>> {
        Session::at(path, mode, || Segment::file(path, mode, options))
    }

    fn at(path: &Path, mode: Mode, open: impl FnOnce() -> Result<Arc<Segment>>) -> Result<Arc<Session>> {
        let mut registry = lock(REGISTRY.get())?;
        if let Ok(id) = os::path_id(path)
            && let Some(session) = registry.get(&id).and_then(Weak::upgrade)
        {
            return match mode {
                Mode::Create => Err(Error::new(ErrorKind::AlreadyExists, format!("segment {path:?}"))),
                Mode::Open | Mode::OpenOrCreate => Ok(session),
            };
        }
        register(&mut registry, open()?)
    }

    /// The session of the segment that another process calls `id`, opened if need be.
    pub fn locate(id: SegmentId, locator: &Locator) -> Result<Arc<Session>> {
        let mut registry = lock(REGISTRY.get())?;
        let known = registry.values().filter_map(Weak::upgrade).find(|s| s.segment.id() == id);
        match known {
            Some(session) => Ok(session),
            None => register(&mut registry, Segment::locate(id, locator)?),
        }
    }

    /// A second membership of this process in the same segment, as another process would have it. For tests.
    #[cfg(test)]
    pub fn twin(&self) -> Result<Arc<Session>> {
        let segment = Segment::locate(self.segment.id(), self.segment.locator())?;
        Ok(Arc::new(Session::over(segment)))
    }

    fn over(segment: Arc<Segment>) -> Session {
        Session { segment, holds: PerProcess::new(|_| Mutex::default()) }
    }

    /// The segment.
    #[inline]
    pub fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    fn holds(&self) -> Result<MutexGuard<'_, Holds>> {
        lock(self.holds.get())
    }

    /// Creates an object that this process holds once.
    pub fn create(
        &self,
        kind: Kind,
        fingerprint: u64,
        build: impl Fn(&Me<'_>, &Word) -> Result<()>,
    ) -> Result<ObjectId> {
        let mut result = self.try_create(kind, fingerprint, &build);
        if result.as_ref().is_err_and(|e| e.kind() == ErrorKind::OutOfMemory) && collect::collect(&self.segment)? > 0 {
            result = self.try_create(kind, fingerprint, &build);
        }
        result
    }

    fn try_create(
        &self,
        kind: Kind,
        fingerprint: u64,
        build: &impl Fn(&Me<'_>, &Word) -> Result<()>,
    ) -> Result<ObjectId> {
        recovery::run(&self.segment, |me| {
            let mut holds = None;
            let process = self.segment.membership().me().index;
            let id = object::create(me, kind, fingerprint, build, |entry, id| {
                // Counted before it is alive, and the counts stay locked until it is.
                let mut counts = self.holds().ok();
                if let Some(counts) = &mut counts {
                    counts.counts.insert(id.index, (id.generation, 1));
                }
                entry.hold(process);
                holds = counts;
            })?;
            Ok(id)
        })
    }

    /// Holds object `id` once more. `Ok(false)`: it is gone.
    pub fn hold(&self, id: ObjectId) -> Result<bool> {
        if recovery::run(&self.segment, |_| self.hold_within(id))? {
            return Ok(true);
        }
        // This process's bit was set for a moment, on whatever is in the entry now.
        if object::entry(&self.segment, id.index).is_ok() {
            collect::after_release(&self.segment, id.index)?;
        }
        Ok(false)
    }

    /// As [`hold`](Session::hold), inside an operation.
    pub fn hold_within(&self, id: ObjectId) -> Step<bool> {
        let mut holds = self.holds()?;
        if let Some((generation, count)) = holds.counts.get_mut(&id.index) {
            let same = *generation == id.generation;
            *count += u32::from(same);
            return Ok(same); // while this process holds one generation there is no other
        }
        let acquired = object::acquire(&self.segment, id, self.segment.membership().me().index)?;
        if acquired {
            holds.counts.insert(id.index, (id.generation, 1));
        }
        Ok(acquired)
    }

    /// Holds `id` once less. The last to let go of an object frees it, unless it has a name or a container holds it.
    pub fn release(&self, id: ObjectId) -> Result<()> {
        let mut holds = self.holds()?;
        match holds.counts.get_mut(&id.index) {
            Some((generation, count)) if *generation == id.generation => *count -= 1,
            _ => return Ok(()),
        }
        if holds.counts[&id.index].1 > 0 {
            return Ok(());
        }
        holds.counts.remove(&id.index);
        let entry = object::entry(&self.segment, id.index)?;
        recovery::let_go(&self.segment, entry, self.segment.membership().me().index)?;
        drop(holds);
        collect::after_release(&self.segment, id.index)
    }

    /// Gives object `id`, which this process holds, a name, unless the name is taken.
    pub fn give_name(&self, name: &str, id: ObjectId) -> Result<bool> {
        if !names::exists(&self.segment) {
            let directory = self.create(Kind::Directory, 0, |me, root| table::create(me, root, Shape::Boxed))?;
            names::establish(&self.segment, directory)?;
            self.release(directory)?;
        }
        match names::insert(&self.segment, name, id) {
            Err(e) if e.kind() == ErrorKind::OutOfMemory && collect::collect(&self.segment)? > 0 => {
                names::insert(&self.segment, name, id)
            }
            result => result,
        }
    }

    /// Kind, fingerprint and root of object `id`, which this process holds.
    pub fn describe(&self, id: ObjectId) -> Result<(Kind, u64, u64)> {
        let entry = object::entry(&self.segment, id.index)?;
        let status = entry.status()?;
        if status.generation != id.generation || !recovery::is_present(status.state) {
            return Err(Error::new(ErrorKind::Stale, format!("object #{}", id.index)));
        }
        Ok((entry.kind()?, entry.fingerprint(), entry.root()))
    }

    /// The object called `name`, held once.
    pub fn open_name(&self, name: &str) -> Result<Option<ObjectId>> {
        for _ in 0..NAME_TRIES {
            let Some(id) = names::look_up(&self.segment, name)? else { return Ok(None) };
            if self.hold(id)? {
                return Ok(Some(id));
            }
            // Unlinked and freed between the two: look again.
        }
        Err(Error::corrupted("a name of an object that is gone"))
    }

    /// Takes a name away; whether there was one.
    pub fn unlink(&self, name: &str) -> Result<bool> {
        let Some(id) = names::remove(&self.segment, name)? else { return Ok(false) };
        self.unnamed(id)?;
        Ok(true)
    }

    /// Takes a name away from object `id`; whether it had it.
    pub fn unlink_from(&self, name: &str, id: ObjectId) -> Result<bool> {
        let unlinked = names::remove_from(&self.segment, name, id)?;
        if unlinked {
            self.unnamed(id)?;
        }
        Ok(unlinked)
    }

    fn unnamed(&self, id: ObjectId) -> Result<()> {
        if !object::entry(&self.segment, id.index)?.is_held() {
            collect::collect(&self.segment)?;
        }
        Ok(())
    }

    /// Checks a segment at rest.
    pub fn check(&self) -> Result<check::Report> {
        check::check(&self.segment)
    }

    /// Every live object.
    pub fn objects(&self) -> Result<Vec<Listed>> {
        let names: HashMap<ObjectId, String> = names::list(&self.segment)?.into_iter().map(|(n, id)| (id, n)).collect();
        let mut listed = Vec::new();
        for entry in object::entries(&self.segment) {
            let entry = entry?;
            let status = entry.status()?;
            if status.state != State::Live || entry.kind()? == Kind::Directory {
                continue;
            }
            let id = entry.id(status);
            listed.push(Listed {
                id,
                kind: entry.kind()?,
                name: names.get(&id).cloned(),
                root: entry.root(),
                holders: entry.holder_list(),
            });
        }
        Ok(listed)
    }
}

/// One object of a listing.
pub struct Listed {
    /// Its identity.
    pub id: ObjectId,
    /// Its kind.
    pub kind: Kind,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Its root block.
    pub root: u64,
    /// The process records that hold it.
    pub holders: Vec<u32>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.let_go_of_everything();
    }
}

impl Session {
    fn let_go_of_everything(&self) {
        if self.segment.membership().is_current() {
            // Objects that somebody forgot (`mem::forget`) still have this process's bit.
            let me = self.segment.membership().me().index;
            let forgotten = self.holds.get().try_lock().map_or(0, |holds| holds.counts.len());
            if forgotten > 0 && self.segment.still_member().is_ok() {
                for entry in object::entries(&self.segment).flatten() {
                    let _ = recovery::let_go(&self.segment, entry, me);
                }
            }
            recovery::leave(&self.segment);
        }
    }
}

/// Leaves every segment: the end of a process that has the handles of another in its memory, which it cannot drop.
/// A segment that several threads use is not left, but recovered by others like that of any dead process.
pub fn leave_all() {
    let Ok(registry) = lock(REGISTRY.get()) else { return };
    let sessions: Vec<_> = registry.values().filter_map(Weak::upgrade).collect();
    drop(registry);
    for session in sessions {
        let segment = &session.segment;
        let me = segment.membership().me().index;
        let is_mine = |slot: &u16| segment.slot_state(*slot).is_ok_and(|state| state.used && state.process == me);
        if segment.membership().is_current() && (0..segment.slots_used()).filter(is_mine).count() <= 1 {
            session.let_go_of_everything();
            segment.leave();
        }
        // The last one: it belongs to a handle of the process that forked this one.
        std::mem::forget(session);
    }
}

fn register(registry: &mut Registry, segment: Arc<Segment>) -> Result<Arc<Session>> {
    recovery::settle_inheritance(&segment)?;
    recovery::recover_all(&segment)?;
    segment.check_if_need_be(|| {
        let checked =
            check::check(&segment).map_err(|e| e.within("the system went down while this segment was in use"));
        checked.map(drop)
    })?;
    let session = Arc::new(Session::over(segment));
    registry.retain(|_, session| session.strong_count() > 0);
    registry.insert(session.segment.file_id(), Arc::downgrade(&session));
    Ok(session)
}

/// One handle's hold on an object, in the process that took it.
///
/// In a forked child the hold is nobody's until the handle is used: then the child takes one of its own, or learns that
/// the object is gone. Dropped without use it does nothing there.
pub struct Hold {
    session: Arc<Session>,
    segment: Arc<Segment>,
    id: ObjectId,
    process: LocalU64,
}

impl Hold {
    /// Over a hold that the caller has just taken.
    pub fn adopt(session: &Arc<Session>, id: ObjectId) -> Hold {
        Hold {
            session: Arc::clone(session),
            segment: Arc::clone(&session.segment),
            id,
            process: LocalU64::new(os::generation()),
        }
    }

    /// The session.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// The object.
    pub fn id(&self) -> ObjectId {
        self.id
    }

    /// The segment, with the object held in it by this process.
    ///
    /// # Errors
    /// `Stale` in a forked child, if the object went before the child first used it.
    #[inline(always)]
    pub fn segment(&self) -> Result<&Segment> {
        if self.process.load(Ordering::Relaxed) != os::generation() {
            self.take_over()?;
        }
        Ok(&self.segment)
    }

    /// Lets go of the object early. The handle is of no use any more.
    pub fn release(&mut self) {
        let process = std::mem::take(self.process.get_mut());
        if process != os::generation() {
            return;
        }
        let kept = KEPT.try_with(|kept| match &mut *kept.borrow_mut() {
            Some(kept) => {
                let (session, segment) = (Arc::clone(&self.session), Arc::clone(&self.segment));
                kept.push(Hold { session, segment, id: self.id, process: LocalU64::new(process) });
                true
            }
            None => false,
        });
        if kept != Ok(true) {
            let _ = self.session.release(self.id);
        }
    }

    /// Whether this process took the hold, or took it over.
    #[inline]
    pub fn is_of_this_process(&self) -> bool {
        self.process.load(Ordering::Relaxed) == os::generation()
    }

    #[cold]
    fn take_over(&self) -> Result<()> {
        let process = os::generation();
        if !self.session.hold(self.id)? {
            return Err(Error::new(ErrorKind::Stale, format!("object #{}", self.id.index)));
        }
        let before = self.process.swap(process, Ordering::Relaxed); // local
        if before == process {
            self.session.release(self.id)?; // another thread was quicker
        }
        Ok(())
    }
}

impl Clone for Hold {
    fn clone(&self) -> Hold {
        // Counting up while this handle counts cannot fail, but through a fork in between; then the copy finds out.
        let held = self.segment().is_ok() && self.session.hold(self.id).unwrap_or(false);
        let process = if held { os::generation() } else { 0 };
        Hold {
            session: Arc::clone(&self.session),
            segment: Arc::clone(&self.segment),
            id: self.id,
            process: LocalU64::new(process),
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.release();
    }
}

thread_local! {
    /// Where holds go instead of being let go of, inside [`keep_dropped`].
    static KEPT: RefCell<Option<Vec<Hold>>> = const { RefCell::new(None) };
}

/// Drops `value`, but not the holds in it, which it returns.
pub fn keep_dropped<T>(value: T) -> Vec<Hold> {
    /// Ends the keeping, also if a destructor panics.
    struct Keeping(Option<Vec<Hold>>);
    impl Drop for Keeping {
        fn drop(&mut self) {
            drop(KEPT.replace(self.0.take())); // what was kept until now, once nobody borrows it
        }
    }
    let keeping = Keeping(KEPT.replace(Some(Vec::new())));
    drop(value);
    let kept = KEPT.take();
    drop(keeping);
    kept.unwrap_or_default()
}
