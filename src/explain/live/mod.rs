//! A real probe, and what the kernel did with it.
