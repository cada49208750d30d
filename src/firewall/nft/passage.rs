//! Whether somebody else's chain lets a packet pass, as far as can be told by looking at its rules.
//!
//! A verdict of ours cannot overrule a drop in another table, so whoever runs the host has to be told whose rule
//! drops. Rules that may match and accept make the rest of a chain uncertain; rules that may match and drop are taken
//! for exceptions.

use crate::model::attributes::find;

use super::machine::{self, ForeignElement, Match, Packet, Verdict};
use super::reply::Chain;
use super::uapi::rule;

/// How deep chains may call each other (`NFT_JUMP_STACK_SIZE`).
const DEPTH: usize = 16;
/// How many rules are looked at in all.
const RULES: usize = 20_000;

/// A rule as the kernel told it, expressions and all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignRule {
    /// Its number in its table, which `nft -a list chain` prints.
    pub handle: u64,
    expressions: Vec<u8>,
}

/// Reads one reply to [`super::dump_rules`].
pub fn parse_foreign_rule(attributes: &[u8]) -> Option<ForeignRule> {
    let handle = u64::from_be_bytes(find(attributes, rule::HANDLE)?.try_into().ok()?);
    let expressions = find(attributes, rule::EXPRESSIONS).unwrap_or_default().to_vec();
    Some(ForeignRule { handle, expressions })
}

/// Where the rules and sets of one table come from.
pub trait Table {
    /// Why they could not be had.
    type Error;

    /// The rules of a chain, in order.
    ///
    /// # Errors
    /// Where the kernel cannot be asked.
    fn rules(&mut self, chain: &str) -> Result<Vec<ForeignRule>, Self::Error>;

    /// The elements of a set or map.
    ///
    /// # Errors
    /// Where the kernel cannot be asked.
    fn elements(&mut self, set: &str) -> Result<Vec<ForeignElement>, Self::Error>;
}

/// A packet's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// The chain that drops it.
    pub chain: String,
    /// The rule, by its handle; `None` where it is the chain's policy.
    pub rule: Option<u64>,
    /// Whether it surely comes to that: no rule before it may let the packet pass.
    pub surely: bool,
}

/// Follows a packet through a base chain; `None` where it passes.
///
/// # Errors
/// Those of the table.
pub fn passage<T: Table>(table: &mut T, base: &Chain, packet: &Packet) -> Result<Option<Stopped>, T::Error> {
    let mut walk = Walk { table, packet, surely: true, left: RULES };
    let stopped = match walk.chain(&base.name, 0)? {
        Flow::Accepted => None,
        Flow::Dropped(chain, rule) => Some((chain, Some(rule))),
        Flow::Through if base.base.as_ref().is_some_and(|base| base.drops) => Some((base.name.clone(), None)),
        Flow::Through => None,
    };
    Ok(stopped.map(|(chain, rule)| Stopped { chain, rule, surely: walk.surely }))
}

/// How a packet leaves a chain.
enum Flow {
    Through,
    Accepted,
    Dropped(String, u64),
}

struct Walk<'a, T> {
    table: &'a mut T,
    packet: &'a Packet,
    surely: bool,
    left: usize,
}

impl<T: Table> Walk<'_, T> {
    fn chain(&mut self, name: &str, depth: usize) -> Result<Flow, T::Error> {
        if depth > DEPTH {
            self.surely = false;
            return Ok(Flow::Through);
        }
        for rule in self.table.rules(name)? {
            if self.left == 0 {
                self.surely = false;
                break;
            }
            self.left -= 1;
            let (matched, verdict) =
                machine::run(&rule.expressions, self.packet, |set| self.table.elements(set))?;
            let certain = match matched {
                Match::No => continue,
                Match::Perhaps => false,
                Match::Yes => true,
            };
            match verdict {
                Verdict::None => {}
                Verdict::Accept if certain => return Ok(Flow::Accepted),
                Verdict::Drop if certain => return Ok(Flow::Dropped(name.to_owned(), rule.handle)),
                Verdict::Return if certain => return Ok(Flow::Through),
                Verdict::Drop => {}
                Verdict::Accept | Verdict::Return | Verdict::Unknown => self.surely = false,
                Verdict::Jump(chain) if certain => match self.chain(&chain, depth + 1)? {
                    Flow::Through => {}
                    end => return Ok(end),
                },
                Verdict::Goto(chain) if certain => return self.chain(&chain, depth + 1),
                Verdict::Jump(chain) | Verdict::Goto(chain) => {
                    if matches!(self.chain(&chain, depth + 1)?, Flow::Accepted) {
                        self.surely = false;
                    }
                }
            }
        }
        Ok(Flow::Through)
    }
}

#[cfg(test)]
mod tests;
