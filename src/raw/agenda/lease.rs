//! Leases and loans: an item that somebody has and the agenda owns.
//!
//! A lease is an item in a cell, from which it goes back among the waiting or away. A loan comes the other way: it is born
//! in a cell and becomes an item when it is committed. What the dead have on lease is given back; what they have on
//! loan is dropped.

use std::sync::atomic::Ordering;

use super::node::{self, Node};
use super::{Agenda, Put, add, event, latch, root};
use crate::error::{Error, ErrorKind, Result};
use crate::mem::{Field, Me, Op, OpKind, Segment, Step, WORD, Word, load_bytes, store_bytes};
use crate::raw::lock;

/// Tries to find a cell while others take those that are made.
const CELL_TRIES: u32 = 1000;

/// The name of one lease or loan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    cell: u64,
    block: u64,
    lessee: u64,
    sequence: u64,
    /// Which delivery of the item this is, from 1; 0 for a loan.
    pub delivery: u64,
    /// Bytes of the item.
    pub length: usize,
}

impl Token {
    /// Whether chance would pick it as one of `count` items.
    pub fn is_one_of(&self, count: u64) -> bool {
        self.sequence.is_multiple_of(count)
    }
}

/// What was there to lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leased {
    /// An item.
    Item(Token),
    /// Nothing now.
    Empty,
    /// Nothing, and nothing can be put any more.
    Closed,
}

impl Agenda {
    /// Leases the first item.
    ///
    /// # Crash
    /// The item waits still, or is on lease to the dead, and then anybody gives it back.
    pub fn lease(&self, me: &Me<'_>) -> Step<Leased> {
        if let Some(closed) = self.nothing(self.words(me.segment)?) {
            return Ok(if closed { Leased::Closed } else { Leased::Empty });
        }
        for _ in 0..CELL_TRIES {
            let words = self.begin(me, OpKind::AgendaLease)?;
            let Some(node) = self.first(me.segment, words)? else {
                let closed = words[root::CLOSED].load(Ordering::Relaxed) != 0;
                self.abandon(me, words);
                return Ok(if closed { Leased::Closed } else { Leased::Empty });
            };
            let Some(number) = Agenda::free_cell(me.segment, words)? else {
                let cells = Agenda::cells(words);
                self.abandon(me, words);
                self.grow(me, cells)?;
                continue;
            };
            let lessee = lock::word_for(me);
            node.set_lessee(lessee, false);
            let cell = Agenda::cell_offset(words, number)?;
            me.intent.set(Field::Cell, cell);
            me.segment.word(cell)?.store(node.offset, Ordering::Release);
            self.unlink_first(words, &node)?;
            words[root::HINT].store(number + 1, Ordering::Relaxed);
            add(&words[root::WAITING], -1);
            add(&words[root::LEASED], 1);
            latch::release(&words[root::LATCH]);
            event::signal(&words[root::ROOM], 1);
            me.intent.set(Field::Op, 0);
            let delivery = node.deliveries().wrapping_add(1);
            let sequence = node.key().1;
            return Ok(Leased::Item(Token {
                cell: number,
                block: node.offset,
                lessee,
                sequence,
                delivery,
                length: node.length,
            }));
        }
        Err(Error::new(ErrorKind::Contended, "leases of a queue").into())
    }

    /// The item of `token`, if that lease or loan stands.
    fn leased<'a>(&self, segment: &'a Segment, words: &[Word], token: &Token) -> Result<Option<Node<'a>>> {
        let cell = segment.word(Agenda::cell_offset(words, token.cell)?)?;
        if cell.load(Ordering::Acquire) != token.block {
            return Ok(None);
        }
        let node = Node::at(segment, token.block)?;
        let same = node.lessee() == (token.lessee, token.delivery == 0)
            && (token.delivery == 0
                || node.key().1 == token.sequence && node.deliveries().wrapping_add(1) == token.delivery);
        Ok(same.then_some(node))
    }

    /// Ends a lease or loan: the item is done, or the loan never was one. `None`: it does not stand any more. Whether the item
    /// held handles.
    ///
    /// # Crash
    /// All or nothing.
    pub fn acknowledge(&self, me: &Me<'_>, token: &Token) -> Step<Option<bool>> {
        let words = self.begin(me, OpKind::AgendaAck)?;
        let Some(node) = self.leased(me.segment, words, token)? else {
            self.abandon(me, words);
            return Ok(None);
        };
        let held = !node.handles().is_empty();
        self.drop_leased(me, words, token.cell, &node)?;
        Ok(Some(held))
    }

    fn drop_leased(&self, me: &Me<'_>, words: &[Word], number: u64, node: &Node<'_>) -> Step<()> {
        let cell = Agenda::cell_offset(words, number)?;
        let (_, loan) = node.lessee();
        me.intent.set(Field::Cell, cell);
        me.intent.set(Field::Free, node.offset);
        // LINEARIZES: the item is done, and its lease with it.
        me.segment.word(cell)?.store(0, Ordering::Release);
        words[root::HINT].store(number, Ordering::Relaxed);
        if !loan {
            add(&words[root::LEASED], -1);
        }
        let done =
            words[root::LEASED].load(Ordering::Relaxed) == 0 && words[root::WAITING].load(Ordering::Relaxed) == 0;
        latch::release(&words[root::LATCH]);
        me.release(node.offset)?;
        me.intent.set(Field::Free, 0);
        if done {
            event::signal(&words[root::DONE], u32::MAX);
        }
        me.intent.set(Field::Op, 0);
        Ok(())
    }

    /// Gives a leased item back: it waits again where it stood, even if there is no room. Whether the lease stood.
    ///
    /// # Crash
    /// On lease still, or back. Its count of deliveries may be raised in any case.
    pub fn give_back(&self, me: &Me<'_>, token: &Token) -> Step<bool> {
        let words = self.begin(me, OpKind::AgendaReturn)?;
        let Some(node) = self.leased(me.segment, words, token)? else {
            self.abandon(me, words);
            return Ok(false);
        };
        self.put_back(me, words, token.cell, &node)?;
        Ok(true)
    }

    fn put_back(&self, me: &Me<'_>, words: &[Word], number: u64, node: &Node<'_>) -> Step<()> {
        node.set_deliveries(node.deliveries().wrapping_add(1));
        self.move_to_list(me, words, number, node)?;
        Ok(())
    }

    /// From a cell among the waiting, and ends the operation.
    fn move_to_list(&self, me: &Me<'_>, words: &[Word], number: u64, node: &Node<'_>) -> Step<()> {
        let offset = Agenda::cell_offset(words, number)?;
        let (_, loan) = node.lessee();
        me.intent.set(Field::Cell, offset);
        let gap = self.gap(me.segment, words, node.key(), node.height)?;
        let op = Op { argument: gap.lowest() / WORD, ..Op::new(OpKind::AgendaReturn) };
        me.intent.set(Field::Op, op.pack());
        // Before the item can be passed by those who look for handles.
        add(&words[root::RETURNS], 1);
        self.link(me.segment, words, node, &gap, || ())?;
        me.segment.word(offset)?.store(0, Ordering::Release);
        words[root::HINT].store(number, Ordering::Relaxed);
        add(&words[root::WAITING], 1);
        if !loan {
            add(&words[root::LEASED], -1);
        }
        latch::release(&words[root::LATCH]);
        event::signal(&words[root::ITEM], 1);
        me.intent.set(Field::Op, 0);
        Ok(())
    }

    /// Lends a block of `length` bytes, all zero, that can become an item.
    ///
    /// # Crash
    /// A loan of the dead is dropped by whoever looks.
    pub fn loan(&self, me: &Me<'_>, length: usize) -> Step<Token> {
        for _ in 0..CELL_TRIES {
            let dice = self.words(me.segment)?[root::SEQUENCE].load(Ordering::Relaxed) ^ me.owner() << 48;
            let node = node::allocate(me, length, &[], dice)?;
            for word in node.payload() {
                word.store(0, Ordering::Relaxed);
            }
            let lessee = lock::word_for(me);
            node.set_lessee(lessee, true);
            let words = self.begin(me, OpKind::AgendaLoan)?;
            let Some(number) = Agenda::free_cell(me.segment, words)? else {
                let cells = Agenda::cells(words);
                latch::release(&words[root::LATCH]);
                me.release(node.offset)?;
                me.intent.set(Field::Alloc, 0);
                me.intent.set(Field::Op, 0);
                self.grow(me, cells)?;
                continue;
            };
            let cell = Agenda::cell_offset(words, number)?;
            me.intent.set(Field::Cell, cell);
            // LINEARIZES: the loan stands.
            me.segment.word(cell)?.store(node.offset, Ordering::Release);
            me.intent.set(Field::Alloc, 0);
            words[root::HINT].store(number + 1, Ordering::Relaxed);
            latch::release(&words[root::LATCH]);
            me.intent.set(Field::Op, 0);
            return Ok(Token { cell: number, block: node.offset, lessee, sequence: 0, delivery: 0, length });
        }
        Err(Error::new(ErrorKind::Contended, "loans of a queue").into())
    }

    /// Makes a loan an item. `None`: it does not stand any more.
    ///
    /// # Crash
    /// An item, or a loan still, which is dropped with its owner.
    pub fn commit(&self, me: &Me<'_>, token: &Token, priority: u64) -> Step<Option<Put>> {
        let words = self.begin(me, OpKind::AgendaReturn)?;
        let Some(node) = self.leased(me.segment, words, token)? else {
            self.abandon(me, words);
            return Ok(None);
        };
        if let Some(refusal) = self.refusal(words) {
            self.abandon(me, words);
            return Ok(Some(refusal));
        }
        node.set_key((priority, self.next_sequence(words)));
        self.move_to_list(me, words, token.cell, &node)?;
        Ok(Some(Put::Done))
    }

    /// Appends the bytes of a leased item to `out`.
    ///
    /// # Errors
    /// `LeaseLost` if the lease does not stand.
    pub fn load(&self, segment: &Segment, token: &Token, out: &mut Vec<u8>) -> Result<()> {
        self.standing(segment, token)?.load(out);
        Ok(())
    }

    /// Copies words of the payload, from word `first` on, and calls `f` with them as bytes.
    pub fn load_at(&self, segment: &Segment, token: &Token, at: usize, out: &mut [u8]) -> Result<()> {
        let node = self.standing(segment, token)?;
        let (first, skip) = (at / 8, at % 8);
        let words = &node.payload()[first..(at + out.len()).div_ceil(8).max(first)];
        let mut copy = Vec::new();
        load_bytes(words, words.len() * 8, &mut copy);
        out.copy_from_slice(&copy[skip..][..out.len()]);
        Ok(())
    }

    /// Copies `bytes` into a loan, from byte `at` on; whole words in between are stored as such.
    pub fn store_at(&self, segment: &Segment, token: &Token, at: usize, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let node = self.standing(segment, token)?;
        let (first, skip) = (at / 8, at % 8);
        let end = at + bytes.len();
        let words = &node.payload()[first..end.div_ceil(8)];
        if skip == 0 && (end.is_multiple_of(8) || end == token.length) {
            store_bytes(words, bytes);
            return Ok(());
        }
        // The words at the ends keep what is not written over.
        let mut copy = Vec::new();
        load_bytes(words, words.len() * 8, &mut copy);
        copy[skip..][..bytes.len()].copy_from_slice(bytes);
        store_bytes(words, &copy);
        Ok(())
    }

    fn standing<'a>(&self, segment: &'a Segment, token: &Token) -> Result<Node<'a>> {
        let node = self.leased(segment, self.words(segment)?, token)?;
        match node {
            Some(node) if node.length == token.length => Ok(node),
            _ => Err(Error::new(ErrorKind::LeaseLost, "an item of a queue")),
        }
    }

    /// Whether anything may be on lease or on loan.
    pub fn is_anything_out(&self, segment: &Segment) -> Result<bool> {
        Ok(Agenda::cells(self.words(segment)?) != 0)
    }

    /// Gives back what is on lease to the dead and drops what they have on loan. Returns how many there were.
    ///
    /// # Complexity
    /// Linear in the cells if anything is on lease.
    ///
    /// # Errors
    /// `Stop::Dead` for a lessee that is dead and not yet recovered.
    pub fn take_from_the_dead(&self, me: &Me<'_>) -> Step<u64> {
        self.take_from_whom(me, |lessee| lock::holder_is_gone(me.segment, lessee))
    }

    /// The same for what process `index` has, of which its recoverer knows that it is gone.
    pub fn take_from_process(&self, me: &Me<'_>, index: u32) -> Step<u64> {
        self.take_from_whom(me, |lessee| Ok(lock::process_of(lessee) == index))
    }

    fn take_from_whom(&self, me: &Me<'_>, is_gone: impl Fn(u64) -> Step<bool>) -> Step<u64> {
        let segment = me.segment;
        let words = self.words(segment)?;
        let mut suspects = Vec::new();
        Agenda::each_cell(segment, words, &mut |number, _, block| {
            // Without the latch this may be no item any more; then what is found here is looked at again.
            if let Ok(node) = Node::at(segment, block) {
                suspects.push((number, node.lessee().0));
            }
            Ok(())
        })?;
        let (mut alive, mut count) = (None, 0);
        for (number, lessee) in suspects {
            if alive.is_some_and(|alive| lock::same_process(lessee, alive)) {
                continue;
            }
            if is_gone(lessee)? {
                count += u64::from(self.take_from(me, number, &is_gone)?);
            } else {
                alive = Some(lessee);
            }
        }
        Ok(count)
    }

    fn take_from(&self, me: &Me<'_>, number: u64, is_gone: &impl Fn(u64) -> Step<bool>) -> Step<bool> {
        let words = self.begin(me, OpKind::AgendaReturn)?;
        let block = me.segment.word(Agenda::cell_offset(words, number)?)?.load(Ordering::Relaxed);
        let node = match block {
            0 => None,
            block => Some(Node::at(me.segment, block)?),
        };
        let gone = match &node {
            Some(node) => is_gone(node.lessee().0)?,
            None => false,
        };
        match node {
            Some(node) if gone && node.lessee().1 => {
                me.intent.set(Field::Op, Op::new(OpKind::AgendaAck).pack());
                self.drop_leased(me, words, number, &node)?;
            }
            Some(node) if gone => self.put_back(me, words, number, &node)?,
            _ => {
                self.abandon(me, words);
                return Ok(false);
            }
        }
        Ok(true)
    }
}
