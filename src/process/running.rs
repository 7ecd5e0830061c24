//! The parent's side of one child: its process, the channel to it, and what is kept for it.

use std::any::Any;
use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use super::children;
use super::frame::{Frame, Inbox, Kind};
use super::kept::{self, Arguments};
use super::target::Target;
use crate::error::{Error, Result};
use crate::os::{self, Channel, Interest, Transfer};

/// A child that has not been reaped.
pub struct Running {
    target: Arc<Target>,
    /// Closed when nothing is to come any more. A child whose result holds handles keeps them until then.
    channel: Option<Arc<Channel>>,
    inbox: Inbox,
    /// Until the child has decoded them, handles in them must stay alive.
    args: Arc<Arguments>,
    /// The process whose child it is.
    process: u64,
}

impl Running {
    /// Over a child just started, which is one of this process's [children] until it is reaped.
    pub fn new(target: Target, channel: Channel) -> Running {
        let target = Arc::new(target);
        children::add(&target);
        Running {
            target,
            channel: Some(Arc::new(channel)),
            inbox: Inbox::default(),
            args: Arc::default(),
            process: os::generation(),
        }
    }

    /// The process.
    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// Keeps the child's arguments until it has decoded them.
    pub fn keep(&mut self, args: Box<dyn Any + Send>) {
        self.args.set(args);
        if let Some(channel) = &self.channel {
            kept::add(&self.args, channel);
        }
    }

    /// Whether it is a child of this very process, which may have forked since.
    pub fn is_ours(&self) -> bool {
        self.process == os::generation()
    }

    /// Whether more may come from it.
    pub fn is_open(&self) -> bool {
        self.channel.is_some()
    }

    /// Sends `bytes`, waiting for the child to read, and stops when the child has ended or closed its end.
    pub fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let Some(channel) = &self.channel else { return Ok(()) };
        // Ends: each round sends at least a byte, or waits for the child, or ends.
        while !bytes.is_empty() {
            match channel.send(bytes)? {
                Transfer::Done(len) => bytes = &bytes[len..],
                Transfer::Closed => break,
                Transfer::WouldBlock => {
                    if self.target.child().wait_for(Some((channel, Interest::Send)), Duration::MAX)?.ended {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// The child's answer, if it has come. Without an answer nothing more comes once the channel is not
    /// [open](Running::is_open).
    pub fn answer(&mut self) -> Result<Option<Frame>> {
        // Ends: each round takes something out of the channel, or ends.
        while let Some(channel) = &self.channel {
            while let Some(frame) = self.inbox.take()? {
                drop(self.args.take());
                if frame.kind != Kind::Decoded {
                    return Ok(Some(frame));
                }
            }
            match self.inbox.fill(channel).map_err(|e| Error::from_io(e, "hearing from it"))? {
                Transfer::Done(_) => {}
                Transfer::WouldBlock => break,
                Transfer::Closed => self.close(),
            }
        }
        Ok(None)
    }

    /// Lets the child know that nobody listens any more.
    pub fn close(&mut self) {
        // A forked copy of it says nothing in its parent's name; and forked children that have a copy of this end must
        // not keep it open.
        if let Some(channel) = self.channel.take()
            && self.is_ours()
        {
            channel.shut_down();
        }
        drop(self.args.take());
    }

    /// Closes the channel, unless the child has yet to decode arguments that are kept for it. Returns arguments that are
    /// not needed any more.
    pub fn let_go(&mut self) -> Option<Box<dyn Any + Send>> {
        if self.args.are_kept() && !matches!(self.peek_decoded(), Ok(true) | Err(_)) {
            return None;
        }
        let args = self.args.take();
        self.close();
        args
    }

    /// Whether the child has said that it has decoded its arguments, or will never say it.
    fn peek_decoded(&mut self) -> Result<bool> {
        while let Some(channel) = &self.channel {
            if self.inbox.take()?.is_some() {
                return Ok(true);
            }
            match self.inbox.fill(channel).map_err(|e| Error::from_io(e, "hearing from it"))? {
                Transfer::Done(_) => {}
                Transfer::WouldBlock => return Ok(false),
                Transfer::Closed => break,
            }
        }
        Ok(true)
    }

    /// Waits for something to come or for the child's end, at most for `timeout`. Whether it has ended.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<bool> {
        let channel = self.channel.as_deref().map(|channel| (channel, Interest::Receive));
        Ok(self.target.child().wait_for(channel, timeout)?.ended)
    }

    /// Whether the child has ended.
    pub fn has_ended(&self) -> bool {
        self.target.has_ended()
    }

    /// Reaps the child, waiting for its end. How it ended, or `None` if somebody else was told.
    pub fn reap(&mut self) -> io::Result<Option<ExitStatus>> {
        let status = self.target.child().reap()?;
        children::remove(&self.target);
        Ok(status)
    }

    /// Reaps a child that has ended, whose end is of no interest.
    pub fn reap_quietly(&mut self) {
        let _ = self.reap();
    }
}
