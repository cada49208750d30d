//! The agent: what a program that lives for two milliseconds cannot do. The same binary, started by a supervisor
//! (`conf/systemd`) or by the first ADD that has work for it; everything else works without it.
//!
//! One process, one thread, one asynchronous runtime. The records on disk are the truth: the agent writes none, and one
//! that is killed and started again knows what the one before it knew. See `docs/names.md` for what people see of it.
//!
//! | module | does |
//! |---|---|
//! | `life` | starts once a state directory, with or without a supervisor; ends |
//! | `socket`, [`protocol`] | the conversation with the plugin |
//! | [`client`] | the plugin's side of it, without the runtime |
//! | `keep`, `handover` | sockets that outlive the process; how the next one has them |
//! | `watch` | changes that nobody tells |
//! | `shared`, [`services`] | what the services share; their list |
//! | [`names`] | the name service |

pub mod client;
mod counters;
mod error;
mod events;
mod handover;
mod keep;
mod life;
mod log;
mod metrics;
pub mod names;
mod notify;
mod ports;
pub mod protocol;
mod repair;
pub mod services;
mod shared;
mod socket;
mod tally;
mod watch;

pub use error::AgentError;
pub use life::{Start, run};
pub use ports::serves;
pub use shared::{Change, Shared};
