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

    pub fn queue_put(&mut self, queue: u8, item: &[u8]) {
        self.call(Operation::QueuePut, queue, &[], item);
    }

    /// The oldest item; waits for one, in the server.
    pub fn queue_get(&mut self, queue: u8) -> &[u8] {
        self.call(Operation::QueueGet, queue, &[], &[]).expect("an item")
    }

    /// Waits, in the server, until this connection holds the lock.
    pub fn lock_acquire(&mut self, lock: u8) {
        self.call(Operation::LockAcquire, lock, &[], &[]);
    }

    pub fn lock_release(&mut self, lock: u8) {
        self.call(Operation::LockRelease, lock, &[], &[]);
    }

    /// The value of the reply, or `None` for an absent key.
    fn call(&mut self, operation: Operation, object: u8, key: &[u8], value: &[u8]) -> Option<&[u8]> {
        Request { operation, object, key, value }.encode(&mut self.request);
        self.stream.write_all(&self.request).expect("writing to the socket manager");
        let frame = self.replies.next(&self.stream).expect("reading from the socket manager");
        let (status, value) = Reply::decode(frame).expect("a reply of the socket manager");
        assert_ne!(status, Status::Refused, "the socket manager refused {operation:?}");
        (status == Status::Done).then_some(value)
    }
}
