//! A command service that is killed and started again over its log.
