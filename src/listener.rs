//! Connections by name.

use std::sync::Arc;
use std::time::Duration;

use crate::codec::{Auto, Codec};
use crate::error::{Error, ErrorKind, Result};
use crate::handle::Handle;
use crate::manager::Manager;
use crate::pipe::{CAPACITY, Connection};
use crate::queue::Put;
use crate::raw::object::ObjectId;
use crate::raw::session::Session;
use crate::raw::wait::Deadline;

/// The name, in the listener's segment, of the end that takes requests.
const DOOR: &str = "door";
/// Requests that wait to be accepted, at most.
const BACKLOG: usize = 128;
/// Rounds of meeting others that bind the same name.
const TRIES: u32 = 1000;
/// Between looks whether the listener is still there.
const SLICE: Duration = Duration::from_millis(50);

/// A name at which processes that have nothing in common can [connect](Connection::connect).
///
/// Behind the name is a segment, `/dev/shm/commons.listener.NAME`. Who may open that file may connect: its mode is 0600 unless
/// [stated](Listener::builder). As with every segment, one that belongs to another user than oneself and root is refused,
/// whatever its mode. All connections of a name lie in its segment, and **who may connect can read and spoil what others send
/// there**; where that matters, use a name each.
///
/// The listener's end of a connection and the client's are like the two ends of any pipe. They go on when the listener is
/// dropped.
///
/// # Crash
/// A listener that dies frees its name: the next `bind` takes it over. Clients that it had not accepted learn of its death as
/// `NotFound`. A client that dies while it connects, at whatever point, is not accepted, or its connection is at its end of
/// file.
///
/// # Blocking
/// [`accept`](Listener::accept) waits for a client. A client waits until it is accepted.
///
/// # Errors
/// Of the functions here, besides what they say: those of [`Manager`] and of [`Connection`].
///
/// # Examples
/// ```
/// use commons::{Connection, Listener};
///
/// # let name = format!("doc-{}", std::process::id());
/// let listener = Listener::<String>::bind(&name)?;
/// let client = std::thread::spawn(move || -> commons::Result<String> {
///     let connection = Connection::<String>::connect(&name)?;
///     connection.send(&"ping".to_owned())?;
///     connection.recv()
/// });
/// let connection = listener.accept()?;
/// assert_eq!(connection.recv()?, "ping");
/// connection.send(&"pong".to_owned())?;
/// assert_eq!(client.join().unwrap()?, "pong");
/// # Ok::<(), commons::Error>(())
/// ```
pub struct Listener<T: 'static, C: Codec<T> + 'static = Auto> {
    session: Arc<Session>,
    /// Where the clients' requests come: the ends that are to be ours.
    requests: Connection<Connection<T, C>>,
    /// The other end of that, which has the name. Held, so that nobody has to look whether it is there.
    door: Connection<Connection<T, C>>,
    process: u64,
}

/// Options for a [`Listener`].
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ListenerBuilder {
    mode: Option<u32>,
}

impl ListenerBuilder {
    /// Permissions of the name; 0600 unless stated. A name that clients of a dead listener still use keeps those it has.
    pub fn mode(mut self, mode: u32) -> ListenerBuilder {
        self.mode = Some(mode);
        self
    }

    /// Listens at `name`; see [`Listener::bind`].
    pub fn bind<T: 'static, C: Codec<T> + 'static>(&self, name: &str) -> Result<Listener<T, C>> {
        let segment = segment_of(name)?;
        let mut builder = Manager::builder();
        if let Some(mode) = self.mode {
            builder = builder.mode(mode);
        }
        let manager = builder.open_or_create(&segment)?;
        let context = |error: Error| error.within(format!("listener `{name}`"));
        for _ in 0..TRIES {
            if let Some(listener) = try_bind(&manager, name).map_err(context)? {
                return Ok(listener);
            }
        }
        Err(Error::new(ErrorKind::Contended, format!("listener `{name}` comes and goes all the time")))
    }
}

/// `None`: somebody else was quicker; look again who.
fn try_bind<T: 'static, C: Codec<T> + 'static>(manager: &Manager, name: &str) -> Result<Option<Listener<T, C>>> {
    let session = manager.session();
    if let Some(id) = session.open_name(DOOR)? {
        if !is_deserted(session, id)? {
            return Err(Error::new(ErrorKind::AlreadyExists, name.to_owned()));
        }
        session.unlink_from(DOOR, id)?;
    }
    let (requests, door) = Connection::<Connection<T, C>>::create(session, BACKLOG, false)?;
    if !session.give_name(DOOR, door.id())? {
        return Ok(None);
    }
    Ok(Some(Listener { session: Arc::clone(session), requests, door, process: crate::os::generation() }))
}

/// Whether nobody listens behind the door `id`, held by the caller, of whatever types.
fn is_deserted(session: &Arc<Session>, id: ObjectId) -> Result<bool> {
    let (kind, fingerprint, _) = session.describe(id)?;
    let handle = Handle::adopt(session, id, kind, fingerprint)?;
    match kind == Connection::<()>::KIND {
        true => Connection::<()>::over_any(handle, fingerprint)?.is_abandoned(),
        false => Err(Error::new(ErrorKind::TypeMismatch, "the door of a listener")),
    }
}

fn segment_of(name: &str) -> Result<String> {
    match name {
        "" => Err(Error::new(ErrorKind::InvalidInput, "the name of a listener is empty")),
        name => Ok(format!("listener.{name}")),
    }
}

impl Listener<()> {
    /// Options for a new listener.
    pub fn builder() -> ListenerBuilder {
        ListenerBuilder::default()
    }
}

impl<T: 'static, C: Codec<T> + 'static> Listener<T, C> {
    /// Listens at `name`: 1 to 191 bytes without `/` and NUL.
    ///
    /// # Errors
    /// `AlreadyExists` if somebody alive listens there; `PermissionDenied` if the name belongs to another user.
    pub fn bind(name: &str) -> Result<Self> {
        ListenerBuilder::default().bind(name)
    }

    /// Waits for a client, and returns the connection to it.
    pub fn accept(&self) -> Result<Connection<T, C>> {
        let accepted = self.accept_until(Deadline::NEVER)?;
        accepted.ok_or_else(|| Error::new(ErrorKind::Stalled, "a wait without end that ended"))
    }

    /// Waits for a client for at most `timeout`.
    pub fn accept_timeout(&self, timeout: Duration) -> Result<Option<Connection<T, C>>> {
        self.accept_until(Deadline::after(timeout))
    }

    fn accept_until(&self, deadline: Deadline) -> Result<Option<Connection<T, C>>> {
        loop {
            // At least one look.
            let left = deadline.left();
            match self.requests.recv_timeout(left.unwrap_or_default()) {
                Ok(Some(connection)) if greet(&connection)? => return Ok(Some(connection)),
                Ok(None) if left.is_none() => return Ok(None),
                Ok(_) => {}
                Err(error) if is_no_request(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether that is what a client has sent who is gone, or means no good.
fn is_no_request(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Stale | ErrorKind::Decode | ErrorKind::NotFound | ErrorKind::TypeMismatch)
}

/// Tells the client that it has been accepted, if it is still there, and has sent what makes a connection.
fn greet<T, C: Codec<T>>(connection: &Connection<T, C>) -> Result<bool> {
    if !(connection.is_readable() && connection.is_writable()) {
        return Ok(false);
    }
    let greeted = match connection.is_abandoned() {
        Ok(true) => return Ok(false),
        Ok(false) => connection.send_bytes_timeout(&[], Duration::ZERO),
        Err(error) => Err(error),
    };
    match greeted {
        Ok(put) => Ok(put == Put::Done),
        Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::Closed) => Ok(false),
        Err(error) => Err(error),
    }
}

impl<T: 'static, C: Codec<T> + 'static> Drop for Listener<T, C> {
    fn drop(&mut self) {
        // In a forked child it is the parent's.
        if self.process == crate::os::generation() {
            // Requests that nobody will answer go with the name. Failing, the next to bind takes it away.
            let _ = self.requests.close();
            let _ = self.session.unlink_from(DOOR, self.door.id());
        }
    }
}

impl<T: 'static, C: Codec<T> + 'static> std::fmt::Debug for Listener<T, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("segment", self.session.segment().locator()).finish_non_exhaustive()
    }
}

impl<T: 'static, C: Codec<T> + 'static> Connection<T, C> {
    /// Connects to the [`Listener`] at `name`, waiting until it accepts.
    ///
    /// # Errors
    /// `NotFound` if nobody listens there, or who did is gone before it accepted; `PermissionDenied` if the mode of the name,
    /// or its owner, forbids it; `TypeMismatch` if the listener's connections have other types.
    pub fn connect(name: &str) -> Result<Self> {
        let connected = connect_until(name, Deadline::NEVER)?;
        connected.ok_or_else(|| Error::new(ErrorKind::Stalled, "a wait without end that ended"))
    }

    /// Connects to the [`Listener`] at `name`, waiting for at most `timeout` until it accepts.
    ///
    /// # Errors
    /// As [`connect`](Connection::connect).
    pub fn connect_timeout(name: &str, timeout: Duration) -> Result<Option<Self>> {
        connect_until(name, Deadline::after(timeout))
    }
}

fn connect_until<T: 'static, C: Codec<T> + 'static>(
    name: &str,
    deadline: Deadline,
) -> Result<Option<Connection<T, C>>> {
    let nobody = || Error::new(ErrorKind::NotFound, format!("listener `{name}`"));
    let manager = Manager::open(&segment_of(name)?)?;
    let session = manager.session();
    let id = session.open_name(DOOR)?.ok_or_else(nobody)?;
    let handle =
        Handle::adopt(session, id, Connection::<Connection<T, C>>::KIND, Connection::<Connection<T, C>>::fingerprint())
            .map_err(|error| error.within(format!("listener `{name}`")))?;
    let door = Connection::<Connection<T, C>>::over(handle)?;
    if door.is_abandoned()? {
        return Err(nobody());
    }
    let (ours, theirs) = Connection::create(session, CAPACITY, true)?;
    let gone = |error: Error| match error.kind() {
        ErrorKind::BrokenPipe | ErrorKind::EndOfFile => nobody(),
        _ => error,
    };
    if door.send_timeout(&theirs, deadline.left().unwrap_or_default()).map_err(gone)? == Put::Full {
        return Ok(None);
    }
    drop(theirs);
    let mut greeting = Vec::new();
    loop {
        let left = deadline.left().unwrap_or_default();
        if ours.recv_bytes_into_timeout(&mut greeting, left.min(SLICE)).map_err(gone)?.is_some() {
            return Ok(Some(ours));
        }
        if door.is_abandoned()? {
            return Err(nobody());
        }
        if deadline.left().is_none() {
            return Ok(None);
        }
    }
}

#[cfg(test)]
mod tests {
    //! Proves that requests which are no connection to anybody are passed over, and that the next client is accepted.
    use super::*;
    use crate::codec::Encode;

    /// A listener, and what a client does at its door before a good one comes.
    fn accepts_after(tag: &str, mischief: impl FnOnce(&Listener<u64>)) {
        let name = format!("test-{}-{tag}", std::process::id());
        let listener = Listener::<u64>::bind(&name).unwrap();
        mischief(&listener);
        let client = std::thread::spawn(move || {
            let connection = Connection::<u64>::connect(&name).unwrap();
            connection.send(&7).unwrap();
        });
        let connection = listener.accept_timeout(Duration::from_secs(60)).unwrap().expect("a client");
        assert_eq!(connection.recv().unwrap(), 7);
        client.join().unwrap();
    }

    #[test]
    fn one_way_ends_are_no_requests() {
        let mut ours = Vec::new();
        accepts_after("one-way", |listener| {
            let (receives, sends) = Connection::create(&listener.session, CAPACITY, false).unwrap();
            listener.door.send(&receives).unwrap();
            listener.door.send(&sends).unwrap();
            ours.extend([receives, sends]);
        });
    }

    #[test]
    fn other_ends_and_bytes_are_no_requests() {
        let mut ours = Vec::new();
        accepts_after("other", |listener| {
            let (one, other) = Connection::<String>::create(&listener.session, CAPACITY, true).unwrap();
            let bytes = Auto::with_encoded(&other, |encoded| encoded.bytes().to_vec()).unwrap();
            for request in [&bytes[..], b"", b"nonsense", &[0xff; 300]] {
                listener.door.send_bytes(request).unwrap();
            }
            let (abandoned, theirs) = Connection::create(&listener.session, CAPACITY, true).unwrap();
            listener.door.send(&theirs).unwrap();
            drop(abandoned);
            ours.extend([one, other]);
        });
    }
}
