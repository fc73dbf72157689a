//! One end of the stream with one peer: the hello, the sender and the receiver, over a
//! database.
//!
//! Volatile state only: whoever drives it may drop it at any moment and make a new one
//! from the database, and does so after every failed transaction. [`Endpoint::handle`] runs
//! inside a transaction; what it decides to say is said by [`Endpoint::poll`], which is
//! called after the commit: nothing is acknowledged before the disk has it.

use super::chain::Chain;
use super::durable::{Admission, Durable, ForkCause, LogRead};
use super::message::{Epoch, Frame, Hello, Introduction, LogHead, Message, PROTOCOL, Position};
use super::receiver::{Verdict, judge};
use super::sender::{CursorMeaning, CursorSource, GO_BACK_FIRST, GO_BACK_MOST, Regression, Sender};
use crate::limits::{FRAME_BYTES, FRAME_ITEMS};
use serde_json::value::RawValue;
use std::collections::VecDeque;
use std::time::Duration;

/// Something that the daemon should log, count, or act on.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// The peer introduced itself and was welcome.
    Connected(Box<Hello>),
    /// The peer may not speak now.
    Refused(String),
    /// This end's log forked and a new epoch was opened.
    Forked {
        /// Why.
        cause: ForkCause,
        /// The epoch that was given up.
        left: Epoch,
    },
    /// The peer opened a new epoch.
    PeerForked {
        /// Its new epoch.
        epoch: Epoch,
    },
    /// Items up to this number are durable at the peer.
    Acknowledged(u64),
}

/// Shortest time between two hellos of one connection: however many clones there are on
/// either side, their answers to each other's answers cannot become a storm.
const HELLO_GAP: Duration = Duration::from_millis(100);

/// Sessions of the peer that are remembered in one connection. More than one when hellos come
/// late, or when clones speak in turn: only the first hello of each is a beginning.
const PEERS: usize = 4;

/// A hello that is due, and after which wait again; `None` says it once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Due {
    at: Duration,
    wait: Option<Duration>,
}

/// One end of the stream.
#[derive(Clone, Debug)]
pub struct Endpoint {
    introduction: Introduction,
    session: Option<u64>,
    hello: Option<Due>,
    hello_said: Option<Duration>,
    /// The peer has answered this session.
    heard: bool,
    /// Sessions of the peer heard in this connection, the newest heard last.
    peers: VecDeque<Peer>,
    sender: Sender,
    cursor: Option<Position>,
    ack_due: bool,
    gap: Option<Gap>,
    refuse: Option<Epoch>,
    /// Before that a hello brings no refusal.
    refuse_hellos_from: Duration,
}

/// One session of the peer, as its newest hello told.
#[derive(Clone, Copy, Debug)]
struct Peer {
    session: u64,
    admitted: bool,
}

/// A gap is answered once for each cursor and second, or a burst of 16 frames behind a
/// lost one would bring 16 retransmissions.
#[derive(Clone, Copy, Debug)]
struct Gap {
    cursor: Option<Position>,
    again_at: Duration,
    due: bool,
}

impl Endpoint {
    /// An end that is not connected yet. `acknowledged` is the last number of the own log
    /// known to be applied by the peer (0 if nothing is known).
    pub fn new(introduction: Introduction, regression: Regression, acknowledged: u64) -> Self {
        Self {
            introduction,
            session: None,
            hello: None,
            hello_said: None,
            heard: false,
            peers: VecDeque::new(),
            sender: Sender::new(acknowledged, regression),
            cursor: None,
            ack_due: false,
            gap: None,
            refuse: None,
            refuse_hellos_from: Duration::ZERO,
        }
    }

    /// The last number of the own log known to be applied by the peer.
    pub fn acknowledged(&self) -> u64 {
        self.sender.acknowledged()
    }

    /// Whether the peer has introduced itself in this connection and is welcome.
    pub fn is_open(&self) -> bool {
        self.peers.back().is_some_and(|peer| peer.admitted)
    }

    /// Changes what the next hello says, such as a new host report.
    pub fn introduce(&mut self, introduction: Introduction) {
        self.introduction = introduction;
    }

    /// A connection stands. `session` is a fresh random number.
    pub fn connected(&mut self, now: Duration, session: u64) {
        self.session = Some(session);
        self.peers.clear();
        self.heard = false;
        self.hello = Some(Due { at: now, wait: Some(GO_BACK_FIRST) });
        self.hello_said = None;
        self.sender.connected();
        self.ack_due = false;
        self.gap = None;
    }

    /// The connection is gone: nothing is sent until [`Self::connected`].
    pub fn disconnected(&mut self) {
        self.session = None;
        self.peers.clear();
        self.hello = None;
    }

    /// The own log has, or may have, new items.
    pub fn log_grew(&mut self) {
        self.sender.log_grew();
    }

    /// When [`Self::poll`] will have something to say by itself.
    pub fn deadline(&self) -> Option<Duration> {
        self.session?;
        let hello = self.hello.map(|hello| hello.at);
        let go_back = self.sender.deadline().filter(|_| self.is_open());
        [hello, go_back].into_iter().flatten().min()
    }

    /// Takes in one message of the peer, inside a transaction.
    ///
    /// # Errors
    /// Those of the database: the transaction must be rolled back, and this endpoint be
    /// made anew, because it may be ahead of the disk.
    pub fn handle<D: Durable>(
        &mut self,
        now: Duration,
        message: &Message,
        durable: &mut D,
    ) -> Result<Vec<Notice>, D::Error> {
        if self.session.is_none() {
            return Ok(Vec::new());
        }
        self.cursor = durable.cursor()?;
        let mut notices = Vec::new();
        match message {
            Message::Hello(hello) => self.handle_hello(now, hello, durable, &mut notices)?,
            Message::Frame(frame) if self.is_open() => {
                self.handle_frame(now, frame, durable, &mut notices)?;
            }
            // Not introduced yet, or refused: the hello will bring it again.
            Message::Frame(_) => {}
        }
        Ok(notices)
    }

    fn handle_hello<D: Durable>(
        &mut self,
        now: Duration,
        hello: &Hello,
        durable: &mut D,
        notices: &mut Vec<Notice>,
    ) -> Result<(), D::Error> {
        let admission = match PROTOCOL.common(hello.introduction.protocol) {
            Some(_) => durable.admit(hello)?,
            None => Admission::Stranger(format!(
                "no common protocol version: the other end speaks {} to {}, this one {} to {}; upgrade the older one",
                hello.introduction.protocol.lowest,
                hello.introduction.protocol.highest,
                PROTOCOL.lowest,
                PROTOCOL.highest,
            )),
        };
        let known = self.peers.iter().position(|peer| peer.session == hello.session);
        let admission = match admission {
            Admission::Stranger(why) if known.is_none() && self.is_open() => {
                notices.push(Notice::Refused(why));
                return Ok(());
            }
            Admission::Stranger(why) => Admission::Refused(why),
            decided => decided,
        };
        let known = known.and_then(|index| self.peers.remove(index));
        self.heard |= hello.answers.map(|session| session.0) == self.session;
        let admitted = admission == Admission::Welcome;
        if self.peers.len() == PEERS {
            self.peers.pop_front();
        }
        self.peers.push_back(Peer { session: hello.session, admitted });
        if known.is_none() || !hello.settled {
            // The peer waits for an answer. Once it has answered this end, it is the one that
            // repeats: said again from here too, the hellos would never end.
            let at = self.hello_said.map_or(now, |said| now.max(said + HELLO_GAP));
            let wait = if self.heard { None } else { Some(GO_BACK_FIRST) };
            self.hello = Some(Due { at, wait });
        } else if self.heard {
            self.hello = None;
        }
        match admission {
            Admission::Refused(why) | Admission::Stranger(why) => {
                notices.push(Notice::Refused(why));
                // No answer now. Asked again later, unsettled, so that whoever is there then
                // introduces itself: the refused one, or the one that it had pushed aside.
                self.heard = false;
                self.hello = Some(Due { at: now + GO_BACK_MOST, wait: Some(GO_BACK_MOST) });
            }
            Admission::Welcome => {
                // A session that was refused before begins only now.
                let new = known.is_none_or(|peer| !peer.admitted);
                if new {
                    notices.push(Notice::Connected(Box::new(hello.clone())));
                }
                // A repeated hello may be a late one: it moves nothing back.
                let source = if new { CursorSource::Hello } else { CursorSource::Frame };
                self.take_cursor(now, source, hello.cursor, durable, notices)?;
                let epoch = hello.log.epoch;
                let other = self.cursor.is_some_and(|cursor| cursor.epoch != epoch);
                if other && durable.is_retired(epoch)? {
                    self.answer_left_log(now, epoch);
                }
            }
        }
        Ok(())
    }

    /// Another log was taken in place of the peer's, and left it for good. The peer may have
    /// nothing to send that would be refused, so its hello is, and it is asked for another later
    /// on, because a refusal may be lost. No more often: of clones it would make a storm.
    fn answer_left_log(&mut self, now: Duration, epoch: Epoch) {
        if self.refuse_hellos_from <= now {
            self.refuse_hellos_from = now + GO_BACK_MOST;
            self.refuse = Some(epoch);
        }
        self.ask_later_who_is_there(now);
    }

    /// An unsettled hello, which whoever is there answers with one of its own.
    fn ask_later_who_is_there(&mut self, now: Duration) {
        if self.hello.is_none() {
            self.heard = false;
            self.hello = Some(Due { at: now + GO_BACK_MOST, wait: Some(GO_BACK_MOST) });
        }
    }

    fn handle_frame<D: Durable>(
        &mut self,
        now: Duration,
        frame: &Frame,
        durable: &mut D,
        notices: &mut Vec<Notice>,
    ) -> Result<(), D::Error> {
        let source = if frame.resend { CursorSource::Resend } else { CursorSource::Frame };
        if frame.refused.is_some() && frame.refused == Some(durable.head()?.epoch) {
            self.fork(ForkCause::Refused, durable, notices)?;
        } else {
            self.take_cursor(now, source, frame.ack, durable, notices)?;
        }
        let unknown = self.cursor.is_none_or(|cursor| cursor.epoch != frame.epoch);
        let retired = unknown && !frame.items.is_empty() && durable.is_retired(frame.epoch)?;
        match judge(self.cursor.as_ref(), retired, frame) {
            Verdict::NoItems => {}
            Verdict::Duplicate => self.ack_due = true,
            Verdict::Retired => self.refuse = Some(frame.epoch),
            Verdict::Gap => {
                let cursor = self.cursor;
                let answered =
                    self.gap.is_some_and(|gap| gap.cursor == cursor && (gap.due || now < gap.again_at));
                if !answered {
                    self.gap = Some(Gap { cursor, again_at: now + GO_BACK_FIRST, due: true });
                }
            }
            Verdict::Apply { skip, end, leaves } => {
                for (number, item) in (frame.first..).zip(&frame.items).skip(skip) {
                    durable.apply(frame.epoch, number, item)?;
                }
                durable.set_cursor(end, leaves)?;
                if leaves.is_some() {
                    notices.push(Notice::PeerForked { epoch: frame.epoch });
                    // Perhaps a twin's: then whose log was left has nothing to send that would be
                    // refused, and no reason to say hello.
                    self.ask_later_who_is_there(now);
                }
                self.cursor = Some(end);
                self.ack_due = true;
                self.gap = None;
                // Applying may have queued items of our own for this peer.
                self.sender.log_grew();
            }
        }
        Ok(())
    }

    fn take_cursor<D: Durable>(
        &mut self,
        now: Duration,
        source: CursorSource,
        cursor: Option<Position>,
        durable: &mut D,
        notices: &mut Vec<Notice>,
    ) -> Result<(), D::Error> {
        let head = durable.head()?;
        let mut chain_at = |number| durable.chain_at(number);
        match self.sender.cursor(now, source, cursor, &head, &mut chain_at)? {
            CursorMeaning::Unchanged => Ok(()),
            CursorMeaning::WentBack(through) => durable.acknowledged(through),
            CursorMeaning::Fork(cause) => self.fork(cause, durable, notices),
            CursorMeaning::Advanced(through) => {
                durable.acknowledged(through)?;
                // The acknowledgement may have let further items into the log.
                self.sender.log_grew();
                notices.push(Notice::Acknowledged(through));
                Ok(())
            }
        }
    }

    fn fork<D: Durable>(
        &mut self,
        cause: ForkCause,
        durable: &mut D,
        notices: &mut Vec<Notice>,
    ) -> Result<(), D::Error> {
        let left = durable.head()?.epoch;
        durable.fork(cause)?;
        self.sender.restart();
        notices.push(Notice::Forked { cause, left });
        Ok(())
    }

    /// The next thing to say, `None` when there is nothing. Called until it says so:
    /// after a commit, when the log grew, and at [`Self::deadline`].
    ///
    /// # Errors
    /// Those of the database; what was about to be said is said at the next call.
    pub fn poll<L: LogRead>(&mut self, now: Duration, log: &mut L) -> Result<Option<Message>, L::Error> {
        let Some(session) = self.session else { return Ok(None) };
        if let Some(hello) = self.hello.filter(|hello| hello.at <= now) {
            let message = Message::Hello(Box::new(Hello {
                session,
                answers: self.peers.back().map(|peer| Epoch(peer.session)),
                settled: self.heard,
                introduction: self.introduction.clone(),
                log: log.head()?,
                cursor: self.cursor,
            }));
            self.hello_said = Some(now);
            self.hello =
                hello.wait.map(|wait| Due { at: now + wait, wait: Some((wait * 2).min(GO_BACK_MOST)) });
            return Ok(Some(message));
        }
        if !self.is_open() {
            return Ok(None);
        }
        let head = log.head()?;
        self.sender.follow(head.epoch);
        self.sender.tick(now);
        let (after, chain, items) = self.next_page(&head, log)?;
        let gap_due = self.gap.is_some_and(|gap| gap.due);
        if items.is_empty() && !self.ack_due && !gap_due && self.refuse.is_none() {
            return Ok(None);
        }
        let frame = Frame {
            epoch: head.epoch,
            first: after + 1,
            chain,
            ack: self.cursor,
            resend: gap_due,
            refused: self.refuse.take(),
            items,
        };
        if !frame.items.is_empty() {
            self.sender.sent(now, frame.last());
        }
        self.ack_due = false;
        if let Some(gap) = &mut self.gap {
            gap.due = false;
        }
        Ok(Some(Message::Frame(frame)))
    }

    /// The number after which the next frame begins, the chain there, and its items.
    fn next_page<L: LogRead>(&mut self, head: &LogHead, log: &mut L) -> Result<Page, L::Error> {
        let nothing = (head.last, head.chain, Vec::new());
        let Some(after) = self.sender.wants_page_after() else { return Ok(nothing) };
        // Where the row to go on behind is no longer kept, the page begins behind the oldest that
        // can be proven: a receiver that lacks what is between says so, and the log forks.
        let after = after.max(head.oldest.saturating_sub(1));
        let items = if after < head.last { log.page(after, FRAME_ITEMS, FRAME_BYTES)? } else { Vec::new() };
        let chain = if items.is_empty() { None } else { log.chain_at(after)? };
        let Some(chain) = chain else {
            self.sender.log_is_drained();
            return Ok(nothing);
        };
        Ok((after, chain, items))
    }

    /// Loads the cursor, for a hello that is sent before anything was handled.
    pub fn load<D: Durable>(&mut self, durable: &mut D) -> Result<(), D::Error> {
        self.cursor = durable.cursor()?;
        Ok(())
    }
}

type Page = (u64, Chain, Vec<Box<RawValue>>);
