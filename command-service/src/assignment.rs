//! Which node gets which shard: worked out by one member of the group, for all.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// What a node says about itself when it joins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holding {
    /// What it was given last.
    pub shards: Vec<i32>,
    /// In which generation of the group that was.
    pub generation: i32,
}

/// The nodes, and which of them has which shard. Every node gets the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Assignment {
    /// Their addresses.
    pub nodes: Vec<String>,
    /// By shard: the place of its node among `nodes`.
    pub owners: Vec<usize>,
}

impl Assignment {
    /// Shares so many shards out: as equally as can be, and as few as can be change hands.
    pub fn new(shards: i32, holdings: &BTreeMap<String, Holding>) -> Self {
        let nodes: Vec<_> = holdings.keys().cloned().collect();
        if nodes.is_empty() {
            return Self::default();
        }
        let least = shards as usize / nodes.len();
        let mut one_more = shards as usize % nodes.len();
        let mut owners: BTreeMap<i32, usize> = BTreeMap::new();
        let mut counts = vec![0; nodes.len()];
        for (node, held) in held_by(shards, holdings).into_iter().enumerate() {
            let mut keeps = held.len().min(least);
            if held.len() > least && one_more > 0 {
                keeps += 1;
                one_more -= 1;
            }
            counts[node] = keeps;
            owners.extend(held.into_iter().take(keeps).map(|shard| (shard, node)));
        }
        for shard in 0..shards {
            owners.entry(shard).or_insert_with(|| {
                let node = (0..nodes.len()).min_by_key(|node| counts[*node]);
                let node = node.unwrap_or_default();
                counts[node] += 1;
                node
            });
        }
        Self {
            nodes,
            owners: owners.into_values().collect(),
        }
    }

    pub fn shards_of(&self, node: &str) -> BTreeSet<i32> {
        let Some(place) = self.nodes.iter().position(|known| known == node) else {
            return BTreeSet::new();
        };
        (0..)
            .zip(&self.owners)
            .filter_map(|(shard, owner)| (*owner == place).then_some(shard))
            .collect()
    }

    pub fn node_of(&self, shard: i32) -> Option<&str> {
        let place = *self.owners.get(usize::try_from(shard).ok()?)?;
        self.nodes.get(place).map(String::as_str)
    }
}

/// By node: what it holds. Of two that say so of a shard, one has slept through a rebalance.
fn held_by(shards: i32, holdings: &BTreeMap<String, Holding>) -> Vec<Vec<i32>> {
    let mut newest: BTreeMap<i32, (i32, usize)> = BTreeMap::new();
    for (node, holding) in holdings.values().enumerate() {
        for shard in holding.shards.iter().filter(|it| (0..shards).contains(it)) {
            let claim = (holding.generation, node);
            let known = newest.entry(*shard).or_insert(claim);
            *known = claim.max(*known);
        }
    }
    let mut held = vec![Vec::new(); holdings.len()];
    for (shard, (_, node)) in newest {
        held[node].push(shard);
    }
    held
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use proptest::{collection::btree_map, collection::vec, prelude::*};

    use super::*;

    fn holdings() -> impl Strategy<Value = BTreeMap<String, Holding>> {
        holdings_of(1..6)
    }

    fn holdings_of(nodes: Range<usize>) -> impl Strategy<Value = BTreeMap<String, Holding>> {
        let holding = (vec(-2..20, 0..12), 0..4)
            .prop_map(|(shards, generation)| Holding { shards, generation });
        btree_map("[a-f]", holding, nodes)
    }

    fn held(shards: impl IntoIterator<Item = i32>) -> Holding {
        Holding {
            shards: shards.into_iter().collect(),
            generation: 1,
        }
    }

    fn moved(before: &Assignment, after: &Assignment) -> usize {
        let shards = 0..before.owners.len() as i32;
        shards
            .filter(|shard| before.node_of(*shard) != after.node_of(*shard))
            .count()
    }

    fn after(assignment: &Assignment, nodes: &[&str]) -> Assignment {
        let holdings = nodes
            .iter()
            .map(|node| ((*node).to_owned(), held(assignment.shards_of(node))))
            .collect();
        Assignment::new(assignment.owners.len() as i32, &holdings)
    }

    proptest! {
        #[test]
        fn every_shard_has_one_node_and_no_node_has_two_more_than_another(
            shards in 1..20,
            holdings in holdings(),
        ) {
            let assignment = Assignment::new(shards, &holdings);
            prop_assert_eq!(assignment.owners.len(), shards as usize);
            let counts: Vec<_> = holdings.keys().map(|it| assignment.shards_of(it).len()).collect();
            prop_assert_eq!(counts.iter().sum::<usize>(), shards as usize);
            let spread = counts.iter().max().unwrap() - counts.iter().min().unwrap();
            prop_assert!(spread <= 1, "{counts:?}");
        }

        #[test]
        fn nothing_moves_when_the_nodes_stay(shards in 1..20, holdings in holdings()) {
            let before = Assignment::new(shards, &holdings);
            let nodes: Vec<_> = holdings.keys().map(String::as_str).collect();
            prop_assert_eq!(&after(&before, &nodes), &before);
        }

        #[test]
        fn a_new_node_takes_only_its_share(shards in 1..20, holdings in holdings()) {
            let before = Assignment::new(shards, &holdings);
            let mut nodes: Vec<_> = holdings.keys().map(String::as_str).collect();
            nodes.push("new");
            let now = after(&before, &nodes);
            prop_assert_eq!(moved(&before, &now), now.shards_of("new").len());
        }

        #[test]
        fn when_a_node_goes_the_others_keep_what_they_have(
            shards in 1..20,
            holdings in holdings_of(2..6),
        ) {
            let before = Assignment::new(shards, &holdings);
            let mut nodes: Vec<_> = holdings.keys().map(String::as_str).collect();
            let gone = nodes.remove(0);
            let now = after(&before, &nodes);
            prop_assert_eq!(moved(&before, &now), before.shards_of(gone).len());
        }
    }

    #[test]
    fn who_slept_through_a_rebalance_does_not_get_its_shards_back() {
        let mut awake = held([0, 1, 2]);
        awake.generation = 2;
        let holdings = [("awake", awake), ("asleep", held([0, 1, 2, 3]))];
        let holdings = holdings.map(|(node, it)| (node.to_owned(), it)).into();
        let assignment = Assignment::new(6, &holdings);
        assert_eq!(assignment.shards_of("awake"), [0, 1, 2].into());
    }
}
