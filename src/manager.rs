//! The manager: a segment, and the objects in it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::array::{Array, Element};
use crate::block::Block;
use crate::codec::{self, Auto, Codec};
use crate::dict::Dict;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::Handle;
use crate::joinable_queue::JoinableQueue;
use crate::list::List;
use crate::lock::Lock;
use crate::mem::{Locator, Mode, Options, Segment, SegmentId};
use crate::namespace::Namespace;
use crate::pipe::{self, Connection};
use crate::priority_queue::PriorityQueue;
use crate::queue::Queue;
use crate::raw::object::{Kind, ObjectId};
use crate::raw::session::Session;
use crate::raw::{agenda, array, list, recovery, table};
use crate::record;
use crate::set::Set;
use crate::value::Value;

pub use crate::raw::check::Report;

/// Rounds of opening a name that goes and comes.
const NAME_TRIES: u32 = 1000;

/// A shared-memory segment with dicts, queues and locks in it. There is no server process: every process that has a
/// manager, or a handle of one of its objects, has the segment mapped and works on it directly.
///
/// # Lifetime
/// An anonymous segment is gone with the last process that uses it, by whatever death. So is a named one, but for its
/// name in /dev/shm, which the last process removes in passing, and if that was killed, whoever next looks for the name.
/// A segment in a file, or one built as [`persistent`](Builder::persistent), stays.
///
/// An object lives as long as a handle in any living process, a container that holds its handle, or its name.
///
/// # Examples
/// ```
/// use commons::Manager;
///
/// let manager = Manager::new()?;
/// let squares = manager.dict::<u64, u64>()?;
/// squares.insert(&12, &144)?;
/// assert_eq!(squares.get(&12)?, Some(144));
/// # Ok::<(), commons::Error>(())
/// ```
#[derive(Clone)]
pub struct Manager {
    session: Arc<Session>,
}

/// Options for a new segment.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    options: Options,
}

impl Builder {
    /// How far the segment may grow, in bytes; 64 GiB unless stated. Address space is reserved, memory is not.
    #[must_use]
    pub fn capacity(mut self, bytes: u64) -> Builder {
        self.options.capacity = bytes;
        self
    }

    /// Permissions of a named segment or a file; 0600 unless stated.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Builder {
        self.options.mode = mode;
        self
    }

    /// Whether a named segment outlives its last process.
    #[must_use]
    pub fn persistent(mut self, persistent: bool) -> Builder {
        self.options.persistent = persistent;
        self
    }

    /// Creates an anonymous segment.
    ///
    /// # Errors
    /// `InvalidInput` for a capacity of zero or beyond what can be addressed; `OutOfMemory`.
    pub fn anonymous(&self) -> Result<Manager> {
        Ok(Manager { session: Session::anonymous(&self.options)? })
    }

    /// Creates the segment called `name`.
    ///
    /// # Errors
    /// `AlreadyExists` if there is one in use; as [`anonymous`](Builder::anonymous); `InvalidInput` for an empty name, one with `/` or
    /// NUL, or one longer than 200 bytes.
    pub fn create(&self, name: &str) -> Result<Manager> {
        Ok(Manager { session: Session::named(name, Mode::Create, &self.options)? })
    }

    /// Opens the segment called `name`, or creates it: one step, whoever else does so at the same time.
    pub fn open_or_create(&self, name: &str) -> Result<Manager> {
        Ok(Manager { session: Session::named(name, Mode::OpenOrCreate, &self.options)? })
    }

    /// Creates a segment in the file at `path`. It persists.
    pub fn create_file(&self, path: impl AsRef<Path>) -> Result<Manager> {
        Ok(Manager { session: Session::file(path.as_ref(), Mode::Create, &self.options)? })
    }

    /// Opens the segment in the file at `path`, or creates it.
    pub fn open_or_create_file(&self, path: impl AsRef<Path>) -> Result<Manager> {
        Ok(Manager { session: Session::file(path.as_ref(), Mode::OpenOrCreate, &self.options)? })
    }
}

impl Manager {
    /// Creates an anonymous segment.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn new() -> Result<Manager> {
        Builder::default().anonymous()
    }

    /// Options for a new segment.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Creates the segment called `name`, with default options; see [`Builder::create`].
    pub fn create(name: &str) -> Result<Manager> {
        Builder::default().create(name)
    }

    /// Opens the segment called `name`.
    ///
    /// # Errors
    /// `NotFound` if there is none, or its last process is gone; `ForeignFormat` if the name is taken by something else;
    /// `PermissionDenied`.
    pub fn open(name: &str) -> Result<Manager> {
        Ok(Manager { session: Session::named(name, Mode::Open, &Options::default())? })
    }

    /// Opens the segment called `name`, or creates it; see [`Builder::open_or_create`].
    pub fn open_or_create(name: &str) -> Result<Manager> {
        Builder::default().open_or_create(name)
    }

    /// Opens the segment in the file at `path`.
    ///
    /// # Errors
    /// As [`open`](Manager::open). A file that was in use when the system went down is checked first, and refused as
    /// `Corrupted` if it does not hold together.
    pub fn open_file(path: impl AsRef<Path>) -> Result<Manager> {
        Ok(Manager { session: Session::file(path.as_ref(), Mode::Open, &Options::default())? })
    }

    /// Removes the name of a segment. Processes that use it keep it; nobody else can open it.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    pub fn unlink_segment(name: &str) -> Result<()> {
        Segment::unlink(name)
    }

    pub(crate) fn place(&self) -> Place<'_> {
        Place { manager: self, name: None, mode: Mode::Create }
    }

    /// Opens or creates the object called `name`: the next call says what it is.
    ///
    /// ```
    /// # let manager = commons::Manager::new()?;
    /// let users = manager.named("users").dict::<u64, String>()?;
    /// assert_eq!(users, manager.named("users").dict::<u64, String>()?);
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn named<'a>(&'a self, name: &'a str) -> Place<'a> {
        Place { manager: self, name: Some(name), mode: Mode::OpenOrCreate }
    }

    /// Opens the object called `name`, which must exist.
    pub fn existing<'a>(&'a self, name: &'a str) -> Place<'a> {
        Place { manager: self, name: Some(name), mode: Mode::Open }
    }

    /// Creates the object called `name`, which must not exist.
    pub fn fresh<'a>(&'a self, name: &'a str) -> Place<'a> {
        Place { manager: self, name: Some(name), mode: Mode::Create }
    }

    /// Creates an anonymous dict.
    pub fn dict<K, V>(&self) -> Result<Dict<K, V>>
    where
        Auto: Codec<K> + Codec<V>,
    {
        self.place().dict()
    }

    /// Creates an anonymous dict with the codecs of its type.
    pub fn dict_with<K, V, KC: Codec<K>, VC: Codec<V>>(&self) -> Result<Dict<K, V, KC, VC>> {
        self.place().dict_with()
    }

    /// Creates an anonymous queue of at most `capacity` items.
    pub fn queue<T>(&self, capacity: usize) -> Result<Queue<T>>
    where
        Auto: Codec<T>,
    {
        self.place().queue(capacity)
    }

    /// Creates an anonymous queue with the codec of its type.
    pub fn queue_with<T, C: Codec<T>>(&self, capacity: usize) -> Result<Queue<T, C>> {
        self.place().queue_with(Some(capacity))
    }

    /// Creates an anonymous queue without a bound but the segment's.
    pub fn unbounded_queue<T>(&self) -> Result<Queue<T>>
    where
        Auto: Codec<T>,
    {
        self.place().unbounded_queue()
    }

    /// Creates an anonymous joinable queue of at most `capacity` items.
    pub fn joinable_queue<T>(&self, capacity: usize) -> Result<JoinableQueue<T>>
    where
        Auto: Codec<T>,
    {
        self.place().joinable_queue(capacity)
    }

    /// Creates an anonymous joinable queue with the codec of its type, bounded or not.
    pub fn joinable_queue_with<T, C: Codec<T>>(&self, capacity: Option<usize>) -> Result<JoinableQueue<T, C>> {
        self.place().joinable_queue_with(capacity)
    }

    /// Creates an anonymous joinable queue without a bound but the segment's.
    pub fn unbounded_joinable_queue<T>(&self) -> Result<JoinableQueue<T>>
    where
        Auto: Codec<T>,
    {
        self.place().unbounded_joinable_queue()
    }

    /// Creates an anonymous priority queue of at most `capacity` items.
    pub fn priority_queue<T>(&self, capacity: usize) -> Result<PriorityQueue<T>>
    where
        Auto: Codec<T>,
    {
        self.place().priority_queue(capacity)
    }

    /// Creates an anonymous priority queue with the codec of its type, bounded or not.
    pub fn priority_queue_with<T, C: Codec<T>>(&self, capacity: Option<usize>) -> Result<PriorityQueue<T, C>> {
        self.place().priority_queue_with(capacity)
    }

    /// Creates an anonymous priority queue without a bound but the segment's.
    pub fn unbounded_priority_queue<T>(&self) -> Result<PriorityQueue<T>>
    where
        Auto: Codec<T>,
    {
        self.place().unbounded_priority_queue()
    }

    /// Creates an anonymous lock around `value`; `()` if it guards nothing in particular.
    pub fn lock<T>(&self, value: T) -> Result<Lock<T>>
    where
        Auto: Codec<T>,
    {
        self.place().lock(value)
    }

    /// Creates a pipe: two ends that each send to the other and receive from it.
    ///
    /// ```
    /// let (one, other) = commons::Manager::new()?.pipe::<String>()?;
    /// one.send(&"ping".to_owned())?;
    /// assert_eq!(other.recv()?, "ping");
    /// other.send(&"pong".to_owned())?;
    /// assert_eq!(one.recv()?, "pong");
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn pipe<T>(&self) -> Result<(Connection<T>, Connection<T>)>
    where
        Auto: Codec<T>,
    {
        self.pipe_with(pipe::CAPACITY)
    }

    /// Creates a pipe of one direction: the end that receives, and the end that sends.
    pub fn one_way_pipe<T>(&self) -> Result<(Connection<T>, Connection<T>)>
    where
        Auto: Codec<T>,
    {
        self.one_way_pipe_with(pipe::CAPACITY)
    }

    /// Creates a pipe with the codec of its type, with room for `capacity` messages in each direction.
    ///
    /// # Errors
    /// `InvalidInput` for a capacity of zero or more than 2^30.
    pub fn pipe_with<T, C: Codec<T>>(&self, capacity: usize) -> Result<(Connection<T, C>, Connection<T, C>)> {
        Connection::create(&self.session, capacity, true)
    }

    /// The same for a pipe of one direction: the end that receives, and the end that sends.
    pub fn one_way_pipe_with<T, C: Codec<T>>(&self, capacity: usize) -> Result<(Connection<T, C>, Connection<T, C>)> {
        Connection::create(&self.session, capacity, false)
    }

    /// Creates an anonymous list.
    pub fn list<T>(&self) -> Result<List<T>>
    where
        Auto: Codec<T>,
    {
        self.place().list()
    }

    /// Creates an anonymous list with the codec of its type.
    pub fn list_with<T, C: Codec<T>>(&self) -> Result<List<T, C>> {
        self.place().list_with()
    }

    /// Creates an anonymous set.
    pub fn set<T>(&self) -> Result<Set<T>>
    where
        Auto: Codec<T>,
    {
        self.place().set()
    }

    /// Creates an anonymous set with the codec of its type.
    pub fn set_with<T, C: Codec<T>>(&self) -> Result<Set<T, C>> {
        self.place().set_with()
    }

    /// Creates an anonymous namespace.
    pub fn namespace(&self) -> Result<Namespace> {
        self.place().namespace()
    }

    /// Creates an anonymous value.
    pub fn value<T>(&self, value: T) -> Result<Value<T>>
    where
        Auto: Codec<T>,
    {
        self.place().value(value)
    }

    /// Creates an anonymous value with the codec of its type.
    pub fn value_with<T, C: Codec<T>>(&self, value: T) -> Result<Value<T, C>> {
        self.place().value_with(value)
    }

    /// Creates an anonymous array of `len` zeros.
    pub fn array<T: Element>(&self, len: u64) -> Result<Array<T>> {
        self.place().array(len)
    }

    /// Creates an anonymous block of `len` zeros.
    pub fn block(&self, len: u64) -> Result<Block> {
        self.place().block(len)
    }

    /// Takes the name of an object away. The object lives on while somebody holds it.
    ///
    /// # Errors
    /// `NotFound` if there is no such name.
    pub fn unlink(&self, name: &str) -> Result<()> {
        match self.session.unlink(name)? {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::NotFound, format!("object `{name}`"))),
        }
    }

    /// Every object of the segment.
    pub fn objects(&self) -> Result<Vec<ObjectInfo>> {
        let segment = self.session.segment();
        let info = |listed: crate::raw::session::Listed| {
            let len = match listed.kind {
                Kind::Dict | Kind::Set | Kind::Namespace => {
                    table::Table::open(segment, listed.root).and_then(|t| t.len(segment)).ok()
                }
                Kind::List => list::List::open(segment, listed.root).and_then(|l| l.len(segment)).ok(),
                Kind::Array | Kind::Block => array::Area::open(segment, listed.root).map(|area| area.len()).ok(),
                Kind::Queue => crate::raw::ring::Ring::open(segment, listed.root).and_then(|r| r.len(segment)).ok(),
                Kind::PriorityQueue | Kind::JoinableQueue => {
                    agenda::Agenda::open(segment, listed.root).and_then(|agenda| agenda.len_at_rest(segment)).ok()
                }
                _ => None,
            };
            let kind = match listed.kind {
                Kind::Dict | Kind::Directory => ObjectKind::Dict,
                Kind::Queue => ObjectKind::Queue,
                Kind::Lock => ObjectKind::Lock,
                Kind::Set => ObjectKind::Set,
                Kind::Namespace => ObjectKind::Namespace,
                Kind::Value => ObjectKind::Value,
                Kind::List => ObjectKind::List,
                Kind::Array => ObjectKind::Array,
                Kind::Block => ObjectKind::Block,
                Kind::Board => ObjectKind::Board,
                Kind::Connection => ObjectKind::Connection,
                Kind::Pipe => ObjectKind::Pipe,
                Kind::RLock => ObjectKind::RLock,
                Kind::RwLock => ObjectKind::RwLock,
                Kind::Semaphore => ObjectKind::Semaphore,
                Kind::Condition => ObjectKind::Condition,
                Kind::Event => ObjectKind::Event,
                Kind::Barrier => ObjectKind::Barrier,
                Kind::Once => ObjectKind::Once,
                Kind::Record => ObjectKind::Record,
                Kind::PriorityQueue => ObjectKind::PriorityQueue,
                Kind::JoinableQueue => ObjectKind::JoinableQueue,
            };
            let holders = listed.holders.iter().filter_map(|index| segment.pid_of(*index).ok()).collect();
            let type_name = match listed.kind {
                Kind::Record => record::type_name(segment, listed.root).ok(),
                _ => None,
            };
            ObjectInfo { name: listed.name, kind, type_name, len, holders, id: listed.id }
        };
        Ok(self.session.objects()?.into_iter().map(info).collect())
    }

    /// Checks the whole segment: heap, tables, queues, directory, and that every block belongs to exactly one object.
    /// Callable by any process while no operation is under way.
    ///
    /// # Complexity
    /// Linear in everything stored.
    ///
    /// # Errors
    /// `Corrupted`, naming the rule that does not hold; also while others write.
    pub fn check(&self) -> Result<Report> {
        self.session.check()
    }

    /// Repairs what dead processes left, now instead of when somebody meets it. Returns how many there were.
    pub fn recover(&self) -> Result<usize> {
        recovery::recover_all(self.session.segment())
    }

    /// Frees objects that nobody can reach, cycles included. Happens by itself when handles are dropped; this is for
    /// those who want it now. Returns how many objects were freed.
    pub fn collect(&self) -> Result<u64> {
        crate::raw::collect::collect(self.session.segment())
    }

    /// Bytes of storage that the segment has taken so far.
    pub fn committed(&self) -> u64 {
        self.session.segment().committed()
    }

    /// Bytes that it may grow to.
    pub fn capacity(&self) -> u64 {
        self.session.segment().capacity()
    }

    #[cfg(test)]
    pub(crate) fn from_session(session: Arc<Session>) -> Manager {
        Manager { session }
    }

    /// The session that its objects are in.
    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager").field("segment", self.session.segment().locator()).finish_non_exhaustive()
    }
}

/// Where an object is to be: under a name or none, new or present.
pub struct Place<'a> {
    manager: &'a Manager,
    name: Option<&'a str>,
    mode: Mode,
}

impl Place<'_> {
    /// Where it is.
    pub(crate) fn manager(&self) -> &Manager {
        self.manager
    }

    /// A dict with the default codecs.
    pub fn dict<K, V>(self) -> Result<Dict<K, V>>
    where
        Auto: Codec<K> + Codec<V>,
    {
        self.dict_with()
    }

    /// A dict with the codecs of its type.
    pub fn dict_with<K, V, KC: Codec<K>, VC: Codec<V>>(self) -> Result<Dict<K, V, KC, VC>> {
        type D<K, V, KC, VC> = Dict<K, V, KC, VC>;
        let shape = D::<K, V, KC, VC>::shape();
        let handle = self.object(Kind::Dict, D::<K, V, KC, VC>::fingerprint(), |session, fingerprint| {
            session.create(Kind::Dict, fingerprint, |me, root| table::create(me, root, shape))
        })?;
        Dict::over(handle)
    }

    /// A queue of at most `capacity` items.
    ///
    /// # Errors
    /// `InvalidInput` for a capacity of zero or more than 2^30.
    pub fn queue<T>(self, capacity: usize) -> Result<Queue<T>>
    where
        Auto: Codec<T>,
    {
        self.queue_with(Some(capacity))
    }

    /// A queue without a bound but the segment's.
    pub fn unbounded_queue<T>(self) -> Result<Queue<T>>
    where
        Auto: Codec<T>,
    {
        self.queue_with(None)
    }

    /// A queue with the codec of its type, bounded or not.
    pub fn queue_with<T, C: Codec<T>>(self, capacity: Option<usize>) -> Result<Queue<T, C>> {
        let spec = Queue::<T, C>::spec(capacity)?;
        let handle = self.object(Kind::Queue, Queue::<T, C>::fingerprint(), |session, fingerprint| {
            session.create(Kind::Queue, fingerprint, |me, root| crate::raw::ring::create(me, root, &spec))
        })?;
        Queue::over(handle)
    }

    /// A joinable queue of at most `capacity` items.
    ///
    /// # Errors
    /// `InvalidInput` for a capacity of zero or more than 2^30.
    pub fn joinable_queue<T>(self, capacity: usize) -> Result<JoinableQueue<T>>
    where
        Auto: Codec<T>,
    {
        self.joinable_queue_with(Some(capacity))
    }

    /// A joinable queue without a bound but the segment's.
    pub fn unbounded_joinable_queue<T>(self) -> Result<JoinableQueue<T>>
    where
        Auto: Codec<T>,
    {
        self.joinable_queue_with(None)
    }

    /// A joinable queue with the codec of its type, bounded or not.
    pub fn joinable_queue_with<T, C: Codec<T>>(self, capacity: Option<usize>) -> Result<JoinableQueue<T, C>> {
        JoinableQueue::over(self.agenda(Kind::JoinableQueue, JoinableQueue::<T, C>::fingerprint(), capacity)?)
    }

    /// A priority queue of at most `capacity` items.
    ///
    /// # Errors
    /// `InvalidInput` for a capacity of zero or more than 2^30.
    pub fn priority_queue<T>(self, capacity: usize) -> Result<PriorityQueue<T>>
    where
        Auto: Codec<T>,
    {
        self.priority_queue_with(Some(capacity))
    }

    /// A priority queue without a bound but the segment's.
    pub fn unbounded_priority_queue<T>(self) -> Result<PriorityQueue<T>>
    where
        Auto: Codec<T>,
    {
        self.priority_queue_with(None)
    }

    /// A priority queue with the codec of its type, bounded or not.
    pub fn priority_queue_with<T, C: Codec<T>>(self, capacity: Option<usize>) -> Result<PriorityQueue<T, C>> {
        PriorityQueue::over(self.agenda(Kind::PriorityQueue, PriorityQueue::<T, C>::fingerprint(), capacity)?)
    }

    fn agenda(self, kind: Kind, fingerprint: u64, capacity: Option<usize>) -> Result<Handle> {
        let capacity = crate::agenda::valid_capacity(capacity)?;
        self.object(kind, fingerprint, |session, fingerprint| {
            session.create(kind, fingerprint, |me, root| agenda::create(me, root, capacity))
        })
    }

    /// A lock around `value`. One that exists keeps the value it has.
    pub fn lock<T>(self, value: T) -> Result<Lock<T>>
    where
        Auto: Codec<T>,
    {
        let handle = self.object(Kind::Lock, Lock::<T>::fingerprint(), |session, fingerprint| {
            Lock::create(session, fingerprint, &value)
        })?;
        Lock::over(handle)
    }

    /// A list.
    pub fn list<T>(self) -> Result<List<T>>
    where
        Auto: Codec<T>,
    {
        self.list_with()
    }

    /// A list with the codec of its type.
    pub fn list_with<T, C: Codec<T>>(self) -> Result<List<T, C>> {
        let boxed = List::<T, C>::is_boxed();
        let handle = self.object(Kind::List, List::<T, C>::fingerprint(), |session, fingerprint| {
            session.create(Kind::List, fingerprint, |me, root| list::create(me, root, boxed))
        })?;
        List::over(handle)
    }

    /// A set.
    pub fn set<T>(self) -> Result<Set<T>>
    where
        Auto: Codec<T>,
    {
        self.set_with()
    }

    /// A set with the codec of its type.
    pub fn set_with<T, C: Codec<T>>(self) -> Result<Set<T, C>> {
        let shape = Set::<T, C>::shape();
        let handle = self.object(Kind::Set, Set::<T, C>::fingerprint(), |session, fingerprint| {
            session.create(Kind::Set, fingerprint, |me, root| table::create(me, root, shape))
        })?;
        Set::over(handle)
    }

    /// A namespace.
    pub fn namespace(self) -> Result<Namespace> {
        let handle = self.object(Kind::Namespace, Namespace::fingerprint(), |session, fingerprint| {
            session.create(Kind::Namespace, fingerprint, |me, root| table::create(me, root, Namespace::shape()))
        })?;
        Namespace::over(handle)
    }

    /// A value. One that exists keeps what it is.
    pub fn value<T>(self, value: T) -> Result<Value<T>>
    where
        Auto: Codec<T>,
    {
        self.value_with(value)
    }

    /// A value with the codec of its type.
    pub fn value_with<T, C: Codec<T>>(self, value: T) -> Result<Value<T, C>> {
        let handle = self.object(Kind::Value, Value::<T, C>::fingerprint(), |session, fingerprint| {
            Value::<T, C>::create(session, fingerprint, &value)
        })?;
        Value::over(handle)
    }

    /// An array of `len` zeros. One that exists keeps its length and its elements.
    ///
    /// # Errors
    /// `TooLarge` beyond about 10^12 bytes.
    pub fn array<T: Element>(self, len: u64) -> Result<Array<T>> {
        let bytes = Array::<T>::bytes_for(len)?;
        let handle = self.object(Kind::Array, Array::<T>::fingerprint(), |session, fingerprint| {
            session.create(Kind::Array, fingerprint, |me, root| array::create(me, root, bytes))
        })?;
        Array::over(handle)
    }

    /// A block of `len` zeros. One that exists keeps its length and its bytes.
    ///
    /// # Errors
    /// `TooLarge` beyond about 10^12 bytes.
    pub fn block(self, len: u64) -> Result<Block> {
        let handle = self.object(Kind::Block, Block::fingerprint(), |session, fingerprint| {
            session.create(Kind::Block, fingerprint, |me, root| array::create(me, root, len))
        })?;
        Block::over(handle)
    }

    pub(crate) fn object(
        self,
        kind: Kind,
        fingerprint: u64,
        create: impl Fn(&Session, u64) -> Result<ObjectId>,
    ) -> Result<Handle> {
        let session = &self.manager.session;
        let context = |e: Error| match self.name {
            Some(name) => e.within(format!("object `{name}`")),
            None => e,
        };
        let Some(name) = self.name else {
            return Handle::adopt(session, create(session, fingerprint)?, kind, fingerprint);
        };
        for _ in 0..NAME_TRIES {
            if let Some(id) = session.open_name(name)? {
                let handle = Handle::adopt(session, id, kind, fingerprint).map_err(context)?;
                return match self.mode {
                    Mode::Create => Err(Error::new(ErrorKind::AlreadyExists, format!("object `{name}`"))),
                    Mode::Open | Mode::OpenOrCreate => Ok(handle),
                };
            }
            if self.mode == Mode::Open {
                return Err(Error::new(ErrorKind::NotFound, format!("object `{name}`")));
            }
            let id = create(session, fingerprint).map_err(context)?;
            let handle = Handle::adopt(session, id, kind, fingerprint)?;
            if session.give_name(name, id)? {
                return Ok(handle);
            }
            // Somebody was quicker; ours goes with its handle.
        }
        Err(Error::new(ErrorKind::Contended, format!("object `{name}` is created and unlinked all the time")))
    }
}

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ObjectKind {
    /// A [`Dict`].
    Dict,
    /// A [`Queue`].
    Queue,
    /// A [`Lock`].
    Lock,
    /// What a worker of a [`Pool`](crate::Pool) says about itself.
    Board,
    /// One end of a pipe: a [`Connection`].
    Connection,
    /// What is between the ends of a pipe.
    Pipe,
    /// An [`RLock`](crate::RLock).
    RLock,
    /// An [`RwLock`](crate::RwLock).
    RwLock,
    /// A [`Semaphore`](crate::Semaphore), bounded or not.
    Semaphore,
    /// A [`Condition`](crate::Condition).
    Condition,
    /// An [`Event`](crate::Event).
    Event,
    /// A [`Barrier`](crate::Barrier).
    Barrier,
    /// A [`Once`](crate::Once).
    Once,
    /// A type of the user's own, made by [`shared!`](crate::shared!).
    Record,
    /// A [`Set`].
    Set,
    /// A [`Namespace`].
    Namespace,
    /// A [`Value`].
    Value,
    /// A [`List`].
    List,
    /// An [`Array`].
    Array,
    /// A [`Block`].
    Block,
    /// A [`PriorityQueue`].
    PriorityQueue,
    /// A [`JoinableQueue`].
    JoinableQueue,
}

/// One object of a [listing](Manager::objects).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ObjectInfo {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// What it is.
    pub kind: ObjectKind,
    /// Of a record, the name of its type.
    pub type_name: Option<String>,
    /// Entries or items, where it has any; of an array or a block the bytes.
    pub len: Option<u64>,
    /// The processes that hold it, by process id.
    pub holders: Vec<u32>,
    id: ObjectId,
}

impl ObjectInfo {
    /// Its index in the segment; used again after it is gone.
    pub fn index(&self) -> u32 {
        self.id.index
    }
}

/// A manager travels like a handle: whoever deserialises it opens the same segment.
impl Serialize for Manager {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let segment = self.session.segment();
        codec::note_segment();
        (segment.id(), segment.present_locator()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Manager {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Manager, D::Error> {
        let (id, locator) = <(SegmentId, Locator)>::deserialize(deserializer)?;
        let session = Session::locate(id, &locator).map_err(codec::reason)?;
        Ok(Manager { session })
    }
}
