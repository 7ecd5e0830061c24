//! Where an object is to be, and the making or opening of it there.

use super::Manager;
use crate::array::{Array, Element};
use crate::block::Block;
use crate::codec::{Auto, Codec};
use crate::dict::Dict;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::Handle;
use crate::joinable_queue::JoinableQueue;
use crate::list::List;
use crate::lock::Lock;
use crate::mem::Mode;
use crate::namespace::Namespace;
use crate::priority_queue::PriorityQueue;
use crate::queue::Queue;
use crate::raw::object::{Kind, ObjectId};
use crate::raw::session::Session;
use crate::raw::{agenda, array, list, table};
use crate::set::Set;
use crate::value::Value;

/// Rounds of opening a name that goes and comes.
const NAME_TRIES: u32 = 1000;

impl Manager {
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
