//! linkspan gives the containers of one Linux host their network.
//!
//! The rooms of the house, from the purest to the one that touches the host. A room uses those above it, never
//! those below; `tests/house.rs` holds the crate to that.
//!
//! | room | owns |
//! |---|---|
//! | [`model`] | plain values: attachment, network, range, port mapping, names |
//! | [`cni`] | the protocol: environment, configuration, result, versions, error codes |
//! | [`ipam`] | which address next: a pure choice |
//! | [`firewall`] | the ruleset as a value, rendered for nf_tables and for iptables |
//! | [`plan`] | from configuration, lease and facts to an ordered list of steps |
//! | [`store`] | locks, lease files, records |
//! | [`sys`] | netlink, namespaces, sysctls, child processes |
//! | [`apply`] | walking steps over a host |
//! | [`verbs`] | add, del, check, gc, status |
//! | [`agent`] | what stays: names, and what else outlives a call |
//! | [`view`] | records and kernel read together, as plain values to be shown |
//! | [`explain`] | the way of a packet, hop by hop, and where it ends |
//! | [`doctor`] | the host before there is trouble |
//! | [`plugins`] | the faces the binary answers as |
//! | [`cli`] | what a person types |

pub mod agent;
pub mod apply;
pub mod cli;
pub mod cni;
pub mod doctor;
pub mod explain;
pub mod firewall;
pub mod ipam;
pub mod model;
pub mod plan;
pub mod plugins;
pub mod store;
pub mod sys;
pub mod verbs;
pub mod view;
