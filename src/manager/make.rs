//! Anonymous objects: each method makes one that lives as long as somebody holds it.

use super::Manager;
use crate::array::{Array, Element};
use crate::block::Block;
use crate::codec::{Auto, Codec};
use crate::dict::Dict;
use crate::error::Result;
use crate::joinable_queue::JoinableQueue;
use crate::list::List;
use crate::lock::Lock;
use crate::namespace::Namespace;
use crate::pipe::{self, Connection};
use crate::priority_queue::PriorityQueue;
use crate::queue::Queue;
use crate::set::Set;
use crate::value::Value;

impl Manager {
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
}
