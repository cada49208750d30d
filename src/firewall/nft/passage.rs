//! Whether somebody else's chain lets a packet pass, as far as can be told by looking at its rules.
//!
//! A verdict of ours cannot overrule a drop in another table, so whoever runs the host has to be told whose rule
//! drops. Rules that may match and accept make the rest of a chain uncertain; rules that may match and drop are taken
//! for exceptions.

use crate::model::attributes::find;

use super::machine::{self, ForeignSet, Match, Packet, Translation, Verdict};
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

    /// A set or map.
    ///
    /// # Errors
    /// Where the kernel cannot be asked.
    fn set(&mut self, set: &str) -> Result<ForeignSet, Self::Error>;
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

/// A place in a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The chain.
    pub chain: String,
    /// The rule, by its handle; `None` for the chain's policy.
    pub rule: Option<u64>,
}

/// A rule of which it is not known whether it decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// Where it is.
    pub place: Place,
    /// Whether it would drop the packet; else it would let it pass.
    pub drops: bool,
    /// What of it could not be decided: the name of an expression, an extension of iptables, or a set.
    pub about: String,
}

/// How a base chain ends for a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It is let through: by a rule, or at the chain's end.
    Passes(Place),
    /// It is dropped or rejected.
    Drops(Place),
    /// Its addresses change, and it goes on.
    Translates(Place, Translation),
}

/// A packet's way through a base chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// How it ends.
    pub end: End,
    /// What may end it otherwise, in the packet's order.
    pub doubts: Vec<Doubt>,
}

/// Follows a packet through a base chain; `None` where it passes.
///
/// # Errors
/// Those of the table.
pub fn passage<T: Table>(table: &mut T, base: &Chain, packet: &Packet) -> Result<Option<Stopped>, T::Error> {
    follow(table, base, &mut packet.clone()).map(Followed::stopped)
}

impl Followed {
    /// Where it is dropped; `None` where it passes.
    pub fn stopped(self) -> Option<Stopped> {
        let surely = !self.doubts.iter().any(|doubt| !doubt.drops);
        match self.end {
            End::Drops(Place { chain, rule }) => Some(Stopped { chain, rule, surely }),
            End::Passes(_) | End::Translates(..) => None,
        }
    }
}

/// Follows a packet through a base chain to whatever end; marks that rules set are set on it.
///
/// # Errors
/// Those of the table.
pub fn follow<T: Table>(table: &mut T, base: &Chain, packet: &mut Packet) -> Result<Followed, T::Error> {
    let mut walk = Walk { table, packet, doubts: Vec::new(), left: RULES };
    let end = match walk.chain(&base.name, 0)? {
        Flow::Through => {
            let policy = Place { chain: base.name.clone(), rule: None };
            let drops = base.base.as_ref().is_some_and(|base| base.drops);
            if drops { End::Drops(policy) } else { End::Passes(policy) }
        }
        Flow::Ended(end) => end,
    };
    Ok(Followed { end, doubts: walk.doubts })
}

/// How a packet leaves a chain.
enum Flow {
    Through,
    Ended(End),
}

struct Walk<'a, T> {
    table: &'a mut T,
    packet: &'a mut Packet,
    doubts: Vec<Doubt>,
    left: usize,
}

impl<T: Table> Walk<'_, T> {
    fn doubt(&mut self, place: &Place, drops: bool, about: Option<String>) {
        let about = about.unwrap_or_default();
        self.doubts.push(Doubt { place: place.clone(), drops, about });
    }

    fn chain(&mut self, name: &str, depth: usize) -> Result<Flow, T::Error> {
        if depth > DEPTH {
            let place = Place { chain: name.to_owned(), rule: None };
            self.doubt(&place, false, Some("chains that call each other without end".to_owned()));
            return Ok(Flow::Through);
        }
        for rule in self.table.rules(name)? {
            let place = Place { chain: name.to_owned(), rule: Some(rule.handle) };
            if self.left == 0 {
                self.doubt(&place, false, Some("more rules than are looked at".to_owned()));
                break;
            }
            self.left -= 1;
            let outcome = machine::run(&rule.expressions, self.packet, |set| self.table.set(set))?;
            let certain = match outcome.matched {
                Match::No => continue,
                Match::Perhaps => false,
                Match::Yes => true,
            };
            match outcome.verdict {
                Verdict::None => {}
                Verdict::Accept if certain => return Ok(Flow::Ended(End::Passes(place))),
                Verdict::Drop if certain => return Ok(Flow::Ended(End::Drops(place))),
                Verdict::Return if certain => return Ok(Flow::Through),
                Verdict::Translate(translation) if certain => {
                    return Ok(Flow::Ended(End::Translates(place, translation)));
                }
                Verdict::Drop => self.doubt(&place, true, outcome.undecided),
                Verdict::Accept | Verdict::Return | Verdict::Unknown | Verdict::Translate(_) => {
                    self.doubt(&place, false, outcome.undecided);
                }
                Verdict::Jump(chain) if certain => match self.chain(&chain, depth + 1)? {
                    Flow::Through => {}
                    end @ Flow::Ended(_) => return Ok(end),
                },
                Verdict::Goto(chain) if certain => return self.chain(&chain, depth + 1),
                Verdict::Jump(chain) | Verdict::Goto(chain) => {
                    let (mark, connection) = (self.packet.mark, self.packet.connection_mark);
                    let tracking = self.packet.tracking;
                    match self.chain(&chain, depth + 1)? {
                        Flow::Through => {}
                        Flow::Ended(end) => {
                            let drops = matches!(end, End::Drops(_));
                            self.doubt(&place, drops, outcome.undecided.clone());
                        }
                    }
                    if self.packet.tracking != tracking {
                        self.packet.tracking = tracking;
                        self.doubt(&place, false, outcome.undecided);
                    }
                    // What it set if it came there is not known to be set.
                    self.packet.mark = self.packet.mark.filter(|now| Some(*now) == mark);
                    self.packet.connection_mark =
                        self.packet.connection_mark.filter(|now| Some(*now) == connection);
                }
            }
        }
        Ok(Flow::Through)
    }
}

#[cfg(test)]
mod tests;
