//! sys

pub mod command;
