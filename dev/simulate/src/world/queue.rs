//! What is going to happen, in the order of time; at the same time, in the order in which it was put in.

use std::{cmp::Reverse, collections::BinaryHeap};

use serin_core::{WeightBps, release::Action, release::Input};

/// Something that happens at its time.
#[derive(Debug, Clone)]
pub(super) enum Event {
    /// An answer reaches the process that asked, if it is still the same.
    Answer { epoch: u64, input: Input },
    /// A change reaches a router.
    Takes(Change),
    /// A router is read for an answer that is then on its way for `back_ms`.
    Reads { epoch: u64, id: u64, target: usize, back_ms: u64, fate: Fate },
    /// The canary's replicas are ready, or are taken not to be.
    Deployed { epoch: u64, id: u64, ready: bool },
    /// A version stops.
    Stops { epoch: u64, id: u64, is_canary: bool, fate: Fate },
    /// Time for a look at traffic.
    Observe,
    /// Time for a look at replicas, and for a checkpoint.
    Pulse,
    /// An episode begins or ends.
    Fault { episode: usize, begins: bool },
    /// Somebody sends a command.
    Command(Action),
    /// Whoever is there answers what the release asks for.
    Operator,
    /// A control process starts.
    Starts,
    /// The journal is tried again.
    Store,
    /// The world turns good.
    TurnsGood,
}

/// A change on its way to a router.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    pub(super) epoch: u64,
    pub(super) target: usize,
    /// Later ones for the same router make this one void.
    pub(super) version: u64,
    pub(super) weight: WeightBps,
    pub(super) matches: bool,
    pub(super) preview: bool,
    /// What was allowed when it was asked for.
    pub(super) most: WeightBps,
    /// It is acknowledged and not made.
    pub(super) is_swallowed: bool,
}

/// What becomes of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Arrives,
    Lost,
    /// Arrives, and once more this much later.
    Doubled {
        later_ms: u64,
    },
}

#[derive(Debug)]
struct Slot {
    at_ms: u64,
    order: u64,
    event: Event,
}

impl PartialEq for Slot {
    fn eq(&self, other: &Self) -> bool {
        (self.at_ms, self.order) == (other.at_ms, other.order)
    }
}

impl Eq for Slot {}

impl PartialOrd for Slot {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Slot {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_ms, self.order).cmp(&(other.at_ms, other.order))
    }
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Reverse<Slot>>,
    order: u64,
}

impl Queue {
    pub(super) fn put(&mut self, at_ms: u64, event: Event) {
        self.order += 1;
        self.heap.push(Reverse(Slot { at_ms, order: self.order, event }));
    }

    pub(super) fn next_at(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse(slot)| slot.at_ms)
    }

    pub(super) fn take(&mut self) -> Option<Event> {
        self.heap.pop().map(|Reverse(slot)| slot.event)
    }

    /// Takes out the changes of one owner, in order.
    pub(super) fn changes_of(&mut self, owner: u64) -> Vec<Change> {
        let is_his = |event: &Event| matches!(event, Event::Takes(change) if change.epoch == owner);
        let (his, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.heap).into_sorted_vec().into_iter().rev().partition(|slot| is_his(&slot.0.event));
        self.heap = rest.into();
        his.into_iter().filter_map(|Reverse(slot)| if let Event::Takes(change) = slot.event { Some(change) } else { None }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_orders_and_then_the_order_of_arrival() {
        let mut queue = Queue::default();
        queue.put(5, Event::Pulse);
        queue.put(3, Event::Store);
        queue.put(5, Event::Observe);
        assert_eq!(queue.next_at(), Some(3));
        assert!(matches!(queue.take(), Some(Event::Store)));
        assert!(matches!(queue.take(), Some(Event::Pulse)));
        assert!(matches!(queue.take(), Some(Event::Observe)));
        assert!(queue.take().is_none());
    }
}
