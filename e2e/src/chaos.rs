//! Chaos: clients work while everything around them breaks; afterwards the log and what they saw must agree.

pub mod checker;
pub mod history;
pub mod log;
