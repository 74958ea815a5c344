//! Serving: decide on what is acknowledged plus what is under way, append in
//! groups, answer after the acknowledgement.

use crate::{
    broker::{Batch, Event, Produced, Record, Slot, Topic},
    clients::{Answer, Command, Decision, decide},
    mutations::{Mutation, Rules},
    node::{Entry, Node, Phase, Sent, Stop},
};

/// What came of an answer to an append.
pub enum Outcome {
    Answers(Vec<Entry>),
    Deposed,
    /// Somebody else's batch lies before the node's own: it begins anew, and raises an alarm.
    WrittenPast,
    Stopped,
}

impl Node {
    pub fn admits(&self) -> bool {
        self.phase == Phase::Serving && !self.slept
    }

    /// Decides on what is acknowledged plus what is under way. Answers that
    /// do not wait for an acknowledgement exist only in mutations.
    pub fn decide(&mut self, command: u8, commands: &[Command], rules: Rules) -> Option<Entry> {
        let in_flight = self.appenders[0]
            .sent
            .iter()
            .flat_map(|sent| &sent.batch.records);
        let in_flight = in_flight.filter_map(|record| match record {
            Record::Event(event) => Some(*event),
            Record::Marker | Record::Claim | Record::Barrier | Record::Foreign => None,
        });
        let seen: Vec<Event> = (self.acknowledged.iter().copied())
            .chain(in_flight)
            .chain(self.forming_events.iter().copied())
            .collect();
        let answer = match decide(&seen, commands, command) {
            Decision::Append => {
                let version = seen.len() as u8 + 1;
                self.forming_events.push(Event {
                    command,
                    version,
                    term: self.term,
                });
                Answer::Accepted { version }
            }
            Decision::Answer(answer) => answer,
        };
        let entry = Entry { command, answer };
        if rules.mutated(Mutation::RejectFromOverlay) && matches!(answer, Answer::Rejected { .. }) {
            return Some(entry);
        }
        self.join(entry);
        None
    }

    /// An accepted command is answered with the group that has its event.
    fn join(&mut self, entry: Entry) {
        let has_event = |sent: &&mut Sent| {
            let at = |record: &Record| {
                matches!(record, Record::Event(event)
                    if entry.answer == Answer::Accepted { version: event.version })
            };
            sent.batch.records.iter().any(at)
        };
        match self.appenders[0].sent.iter_mut().find(has_event) {
            Some(sent) => sent.entries.push(entry),
            None => self.forming.push(entry),
        }
    }

    pub fn may_send_group(&self, rules: Rules) -> bool {
        let [events, owners] = &self.appenders;
        let barrier = self.forming_events.is_empty();
        let at_once = match () {
            () if barrier && rules.mutated(Mutation::BarrierOvertakes) => owners.sent.is_empty(),
            () if !barrier && rules.mutated(Mutation::TwoInFlight) => {
                events.sent.len() < 2 && owners.sent.is_empty()
            }
            () => self.is_quiet(),
        };
        self.admits() && !self.forming.is_empty() && at_once
    }

    /// Sends what was decided, or a barrier when that has no events.
    pub fn send_group(&mut self, rules: Rules) -> Vec<Entry> {
        let mut entries = std::mem::take(&mut self.forming);
        let records: Vec<_> = self.forming_events.drain(..).map(Record::Event).collect();
        let early = rules.mutated(Mutation::AnswerBeforeAck);
        let answered = if early {
            std::mem::take(&mut entries)
        } else {
            Vec::new()
        };
        if !records.is_empty() {
            self.send(Topic::Events, records, entries);
        } else if rules.mutated(Mutation::NoBarrier) {
            return entries;
        } else {
            self.send(Topic::Owners, vec![Record::Barrier], entries);
        }
        answered
    }

    pub fn send(&mut self, topic: Topic, records: Vec<Record>, entries: Vec<Entry>) {
        let appender = &mut self.appenders[topic as usize];
        let batch = Batch {
            by: self.writer,
            sequence: appender.next_sequence,
            records,
        };
        appender.next_sequence += batch.records.len() as u8;
        appender.sent.push(Sent {
            batch,
            arrived: false,
            entries,
        });
    }

    /// No answer came: the same bytes go out again.
    pub fn unheard(&mut self, topic: Topic, place: usize, rules: Rules) {
        let appender = &mut self.appenders[topic as usize];
        if rules.mutated(Mutation::ResendWithNewSequence) {
            let batch = &mut appender.sent[place].batch;
            batch.sequence = appender.next_sequence;
            appender.next_sequence += batch.records.len() as u8;
        }
    }

    /// A batch in flight has its answer.
    pub fn acknowledge(
        &mut self,
        topic: Topic,
        place: usize,
        produced: Produced,
        log: &[Slot],
        rules: Rules,
    ) -> Outcome {
        let appender = &mut self.appenders[topic as usize];
        let sent = appender.sent.remove(place);
        let base = match produced {
            Produced::At(base) => base,
            Produced::Fenced => {
                self.depose(rules);
                return Outcome::Deposed;
            }
            Produced::OutOfOrder => return self.stop(),
        };
        let only_writers = rules.mutated(Mutation::OnlyWritersMarkers);
        let repeated = |slot: &Slot| {
            slot.record == Record::Marker
                && (slot.by.pid == self.writer.pid
                    || !only_writers && self.known_pids.contains(&slot.by.pid))
        };
        let expected = appender.next_offset;
        if base < expected {
            return self.stop();
        }
        let mut between = log[usize::from(expected)..usize::from(base)].iter();
        match between.find(|slot| !repeated(slot)) {
            None => {}
            Some(slot) if slot.by.pid == self.writer.pid => return self.stop(),
            Some(_) => {
                self.depose(rules);
                return Outcome::WrittenPast;
            }
        }
        appender.next_offset = base + sent.batch.records.len() as u8;
        self.slept = false;
        for record in sent.batch.records {
            match record {
                Record::Event(event) => self.acknowledged.push(event),
                Record::Claim => {
                    self.term = base;
                    self.phase = Phase::Serving;
                    self.renewing = false;
                }
                Record::Barrier | Record::Marker | Record::Foreign => {}
            }
        }
        Outcome::Answers(sent.entries)
    }

    fn stop(&mut self) -> Outcome {
        *self = Self {
            phase: Phase::Stopped(Stop::Diverged),
            ..Self::default()
        };
        Outcome::Stopped
    }
}
