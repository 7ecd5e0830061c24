//! The rival with a server process, as Python's `multiprocessing.Manager` has: objects live in the server, every
//! operation is a request over a Unix socket and blocks until its reply.
//!
//! It has what its speed depends on: binary frames, one system call to send and one to receive, no allocation per
//! request in the client, and in the [server](super::socket_server) a thread per connection and one short lock per
//! object. It does not batch requests, because no row's callers could.
//!
//! The socket has an address in the abstract namespace: there is no file, so none can be left behind.

use super::frame::{FrameReader, Operation, Reply, Request, Status};
use super::socket_server;
use super::worker::Worker;
use std::io::Write;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};

/// A connection to a socket manager. A failure of the socket is one of the bench, and panics.
pub struct SocketManager {
    stream: UnixStream,
    request: Vec<u8>,
    replies: FrameReader,
    address: String,
    /// In the client that started it.
    server: Option<Worker>,
}

impl SocketManager {
    /// Starts a server process, which ends with this client, and connects to it.
    pub fn start() -> Self {
        let (address, server) = socket_server::start();
        let mut manager = SocketManager { server: Some(server), ..Self::connect(&address) };
        manager.ping();
        manager
    }

    /// Connects to a server that another client, maybe in another process, has started.
    pub fn connect(address: &str) -> Self {
        let stream = SocketAddr::from_abstract_name(address)
            .and_then(|name| UnixStream::connect_addr(&name))
            .expect("connecting to the socket manager");
        SocketManager {
            stream,
            request: Vec::new(),
            replies: FrameReader::new(),
            address: address.to_owned(),
            server: None,
        }
    }

    /// What other processes [connect](Self::connect) to.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A request that does nothing.
    pub fn ping(&mut self) {
        self.call(Operation::Ping, 0, &[], &[]);
    }

    pub fn dict_get(&mut self, dict: u8, key: &[u8]) -> Option<&[u8]> {
        self.call(Operation::DictGet, dict, key, &[])
    }

    pub fn dict_set(&mut self, dict: u8, key: &[u8], value: &[u8]) {
        self.call(Operation::DictSet, dict, key, value);
    }

    /// Whether there was such a key.
    pub fn dict_remove(&mut self, dict: u8, key: &[u8]) -> bool {
        self.call(Operation::DictRemove, dict, key, &[]).is_some()
    }

    pub fn dict_len(&mut self, dict: u8) -> u64 {
        let len = self.call(Operation::DictLen, dict, &[], &[]).expect("a length");
        u64::from_le_bytes(len.try_into().expect("eight bytes"))
    }

    /// Replaces the dict by a new one.
    pub fn dict_clear(&mut self, dict: u8) {
        self.call(Operation::DictClear, dict, &[], &[]);
    }

    /// Whether the element is new.
    pub fn set_insert(&mut self, set: u8, element: &[u8]) -> bool {
        self.call(Operation::SetInsert, set, element, &[]).is_some()
    }

    pub fn set_contains(&mut self, set: u8, element: &[u8]) -> bool {
        self.call(Operation::SetContains, set, element, &[]).is_some()
    }

    /// Replaces the set by a new one.
    pub fn set_clear(&mut self, set: u8) {
        self.call(Operation::SetClear, set, &[], &[]);
    }

    pub fn list_push(&mut self, list: u8, element: &[u8]) {
        self.call(Operation::ListPush, list, &[], element);
    }

    pub fn list_get(&mut self, list: u8, index: u64) -> Option<&[u8]> {
        self.call(Operation::ListGet, list, &index.to_le_bytes(), &[])
    }

    /// Whether there is such an index.
    pub fn list_set(&mut self, list: u8, index: u64, element: &[u8]) -> bool {
        self.call(Operation::ListSet, list, &index.to_le_bytes(), element).is_some()
    }

    /// All elements, one after the other: those of one list are equally long.
    pub fn list_snapshot(&mut self, list: u8) -> &[u8] {
        self.call(Operation::ListSnapshot, list, &[], &[]).expect("the elements")
    }

    /// Replaces the list by a new one.
    pub fn list_clear(&mut self, list: u8) {
        self.call(Operation::ListClear, list, &[], &[]);
    }

    pub fn value_load(&mut self, value: u8) -> u64 {
        let number = self.call(Operation::ValueLoad, value, &[], &[]).expect("a number");
        u64::from_le_bytes(number.try_into().expect("eight bytes"))
    }

    pub fn value_store(&mut self, value: u8, number: u64) {
        self.call(Operation::ValueStore, value, &[], &number.to_le_bytes());
    }

    /// The value before.
    pub fn value_add(&mut self, value: u8, number: u64) -> u64 {
        let before = self.call(Operation::ValueAdd, value, &[], &number.to_le_bytes()).expect("a number");
        u64::from_le_bytes(before.try_into().expect("eight bytes"))
    }

    pub fn queue_put(&mut self, queue: u8, item: &[u8]) {
        self.call(Operation::QueuePut, queue, &[], item);
    }

    /// The oldest item; waits for one, in the server.
    pub fn queue_get(&mut self, queue: u8) -> &[u8] {
        self.call(Operation::QueueGet, queue, &[], &[]).expect("an item")
    }

    pub fn heap_put(&mut self, heap: u8, priority: u64, item: &[u8]) {
        self.call(Operation::HeapPut, heap, &priority.to_le_bytes(), item);
    }

    /// The item with the lowest priority; does not wait for one.
    pub fn heap_get(&mut self, heap: u8) -> Option<&[u8]> {
        self.call(Operation::HeapGet, heap, &[], &[])
    }

    /// Waits, in the server, until this connection holds the lock.
    pub fn lock_acquire(&mut self, lock: u8) {
        self.call(Operation::LockAcquire, lock, &[], &[]);
    }

    pub fn lock_release(&mut self, lock: u8) {
        self.call(Operation::LockRelease, lock, &[], &[]);
    }

    /// Releases the lock, which this connection holds, until it is notified and holds the lock again.
    pub fn lock_wait(&mut self, lock: u8) {
        self.call(Operation::LockWait, lock, &[], &[]);
    }

    /// Notifies one that [waits](Self::lock_wait), if there is one.
    pub fn lock_notify(&mut self, lock: u8) {
        self.call(Operation::LockNotify, lock, &[], &[]);
    }

    pub fn reentrant_acquire(&mut self, lock: u8) {
        self.call(Operation::ReentrantAcquire, lock, &[], &[]);
    }

    pub fn reentrant_release(&mut self, lock: u8) {
        self.call(Operation::ReentrantRelease, lock, &[], &[]);
    }

    pub fn read_acquire(&mut self, lock: u8) {
        self.call(Operation::ReadAcquire, lock, &[], &[]);
    }

    pub fn read_release(&mut self, lock: u8) {
        self.call(Operation::ReadRelease, lock, &[], &[]);
    }

    pub fn write_acquire(&mut self, lock: u8) {
        self.call(Operation::WriteAcquire, lock, &[], &[]);
    }

    pub fn write_release(&mut self, lock: u8) {
        self.call(Operation::WriteRelease, lock, &[], &[]);
    }

    /// Waits, in the server, for a permit. There are as many as were released.
    pub fn semaphore_acquire(&mut self, semaphore: u8) {
        self.call(Operation::SemaphoreAcquire, semaphore, &[], &[]);
    }

    pub fn semaphore_release(&mut self, semaphore: u8) {
        self.call(Operation::SemaphoreRelease, semaphore, &[], &[]);
    }

    pub fn event_set(&mut self, event: u8) {
        self.call(Operation::EventSet, event, &[], &[]);
    }

    pub fn event_clear(&mut self, event: u8) {
        self.call(Operation::EventClear, event, &[], &[]);
    }

    pub fn event_is_set(&mut self, event: u8) -> bool {
        self.call(Operation::EventIsSet, event, &[], &[]).is_some()
    }

    /// Waits, in the server, for the other of two.
    pub fn barrier_wait(&mut self, barrier: u8) {
        self.call(Operation::BarrierWait, barrier, &[], &[]);
    }

    /// The value of the reply, or `None` for what is absent.
    fn call(&mut self, operation: Operation, object: u8, key: &[u8], value: &[u8]) -> Option<&[u8]> {
        Request { operation, object, key, value }.encode(&mut self.request);
        self.stream.write_all(&self.request).expect("writing to the socket manager");
        let frame = self.replies.next(&self.stream).expect("reading from the socket manager");
        let (status, value) = Reply::decode(frame).expect("a reply of the socket manager");
        assert_ne!(status, Status::Refused, "the socket manager refused {operation:?}");
        (status == Status::Done).then_some(value)
    }
}
