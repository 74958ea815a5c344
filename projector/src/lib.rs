//! From events to read models in Postgres, exactly once.
//!
//! An author writes a [`ReadModel`]. The projector reads the topics of its contexts and, for
//! each batch of events, writes the rows and moves the checkpoint in one transaction. What
//! readers need to know about that is in [`read_side`].

pub mod read_side;

mod read_model;

pub use read_model::ReadModel;
