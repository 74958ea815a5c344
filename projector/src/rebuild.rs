//! Building a read model again: a new edition is fed beside the one that is read, compared with
//! it, and swapped in; and swapped back if it was wrong.

mod barrier;
pub(crate) mod switch;
