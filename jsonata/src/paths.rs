//! Paths are put together, and every `%` is told which step keeps the value that it means.

use std::sync::Arc;

use crate::ast::{Kind, Name, Node, Path, Slot, Stage};

const MOST_PARENTS: usize = 64;

/// One for each `%`: how many levels up it still has to look, and the label of its value.
#[derive(Default)]
pub(crate) struct Slots {
    levels: Vec<i32>,
    labels: Vec<usize>,
}

impl Slots {
    /// # Errors
    /// There are too many: each of them may look through all of a path.
    pub fn open(&mut self) -> Result<Slot, String> {
        if self.levels.len() == MOST_PARENTS {
            return Err(format!("it has more than {MOST_PARENTS} `%`"));
        }
        self.levels.push(1);
        self.labels.push(self.labels.len());
        Ok(self.levels.len() - 1)
    }

    pub fn level(&self, slot: Slot) -> i32 {
        self.levels[slot]
    }

    pub fn outwards(&mut self, slot: Slot) {
        self.levels[slot] -= 1;
    }

    /// Names that no variable can have.
    pub fn labels(self) -> Vec<Name> {
        let labels = self.labels.iter();
        labels.map(|label| format!("!{label}").into()).collect()
    }

    /// What a node hands on to the one that it is part of.
    pub fn sought_by(&self, node: &Node) -> Vec<Slot> {
        let own = match node.kind {
            Kind::Parent(slot) => Some(slot),
            _ => None,
        };
        node.seeking.iter().copied().chain(own).collect()
    }

    /// Finds the step whose input is meant, from this node backwards.
    pub fn seek(&mut self, node: &mut Node, slot: Slot) -> Result<(), String> {
        match &mut node.kind {
            Kind::Name(_) | Kind::Wildcard => {
                self.levels[slot] -= 1;
                if self.levels[slot] == 0 {
                    if let Some(other) = node.ancestor {
                        self.labels[slot] = self.labels[other];
                    }
                    node.ancestor = Some(slot);
                    node.tuple = true;
                }
                Ok(())
            }
            Kind::Parent(_) => {
                self.levels[slot] += 1;
                Ok(())
            }
            Kind::Block(parts) => match parts.last_mut() {
                Some(last) => {
                    node.tuple = true;
                    self.seek(last, slot)
                }
                None => Ok(()),
            },
            Kind::Path(path) => {
                node.tuple = true;
                let mut steps = path.steps.iter_mut().rev();
                if let Some(last) = steps.next() {
                    self.seek(last, slot)?;
                }
                for step in steps {
                    if self.levels[slot] <= 0 {
                        break;
                    }
                    self.seek(step, slot)?;
                }
                Ok(())
            }
            _ => Err("`%` cannot be derived from what stands before it".into()),
        }
    }

    /// `left.right`
    pub fn join(&mut self, left: Node, right: Node) -> Result<Node, String> {
        let steps = match right.kind {
            Kind::Path(path) => path,
            _ => {
                let mut step = right;
                let filters = std::mem::take(&mut step.predicates);
                let filters = filters.into_iter().map(Stage::Filter);
                step.stages.splice(0..0, filters);
                return self.append(left, step);
            }
        };
        self.extended(left, steps)
    }

    /// One more step.
    pub fn append(&mut self, left: Node, step: Node) -> Result<Node, String> {
        let one = Path {
            keep_singleton: false,
            steps: vec![step],
        };
        self.extended(left, one)
    }

    fn extended(&mut self, left: Node, right: Path) -> Result<Node, String> {
        let mut node = as_path(left, self);
        let Kind::Path(path) = &mut node.kind else {
            return Ok(node);
        };
        // Of a long path only what is new is looked at again, and its first step.
        let new = path.steps.len().saturating_sub(1);
        path.keep_singleton |= right.keep_singleton;
        path.steps.extend(right.steps);
        for step in &mut path.steps[new..] {
            match &step.kind {
                Kind::Text(name) => step.kind = Kind::Name(Arc::clone(name)),
                Kind::Number(_) | Kind::Bool(_) | Kind::Null => {
                    return Err("a literal is no step of a path".into());
                }
                _ => {}
            }
            path.keep_singleton |= step.keep_array;
            node.height = node.height.max(step.height + 1);
        }
        let last = path.steps.len() - 1;
        for end in [0, last] {
            if matches!(path.steps[end].kind, Kind::Array(_)) {
                path.steps[end].cons_array = true;
            }
        }
        let unresolved = self.resolve(path)?;
        node.seeking.extend(unresolved);
        Ok(node)
    }

    /// Leads the last step's `%` back over the others; what leads out of the path is returned.
    fn resolve(&mut self, path: &mut Path) -> Result<Vec<Slot>, String> {
        let mut outside = Vec::new();
        let Some((last, before)) = path.steps.split_last_mut() else {
            return Ok(outside);
        };
        for slot in self.sought_by(last) {
            let mut index = before.len();
            while self.levels[slot] > 0 {
                if index == 0 {
                    outside.push(slot);
                    break;
                }
                index -= 1;
                // Of steps that bind the focus one behind the other, the first has the input.
                while index > 0
                    && before[index].focus.is_some()
                    && before[index - 1].focus.is_some()
                {
                    index -= 1;
                }
                self.seek(&mut before[index], slot)?;
            }
        }
        Ok(outside)
    }
}

fn as_path(left: Node, slots: &Slots) -> Node {
    if matches!(left.kind, Kind::Path(_)) && left.predicates.is_empty() {
        return left;
    }
    let seeking = match left.kind {
        Kind::Parent(_) => slots.sought_by(&left),
        _ => Vec::new(),
    };
    let mut node = Node::path(left);
    node.seeking = seeking;
    node
}
