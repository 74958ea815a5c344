//! The system as its users and operators have it: processes, HTTP, a real Kafka and Postgres.

mod path;
