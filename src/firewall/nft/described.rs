//! What a message of ours asks of the kernel, for those who have to name what a kernel lacks.

use crate::model::attributes::{find, iterate};
use crate::model::nft::NftMessage;

use super::uapi::{LIST_ELEM, chain, msg, rule, set};

/// `NFTA_EXPR_NAME`.
const EXPRESSION_NAME: u16 = 1;

/// What the message makes, in words: the expressions of a rule by the kernel's names for them, a set's or chain's name.
pub fn described(message: &NftMessage) -> String {
    let attributes = &message.attributes;
    let word = |kind| find(attributes, kind).map(text).unwrap_or_default();
    match message.kind {
        msg::NEWRULE => {
            let names = expressions(find(attributes, rule::EXPRESSIONS).unwrap_or_default());
            format!("a rule of chain {} made of the expressions {}", word(rule::CHAIN), names.join(", "))
        }
        msg::NEWSET => format!("the set {}", word(set::NAME)),
        msg::NEWCHAIN => match find(attributes, chain::TYPE).map(text) {
            Some(kind) => format!("the chain {} of type {kind}", word(chain::NAME)),
            None => format!("the chain {}", word(chain::NAME)),
        },
        msg::NEWTABLE => "a table".to_owned(),
        _ => "an element".to_owned(),
    }
}

/// The names of a rule's expressions, each once, in their order.
fn expressions(list: &[u8]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (_, entry) in iterate(list).filter(|(kind, _)| *kind == LIST_ELEM) {
        let Some(name) = find(entry, EXPRESSION_NAME).map(text) else { continue };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// A NUL-terminated string.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::base;
    use super::*;

    #[test]
    fn every_message_of_the_table_has_words() {
        let words: Vec<String> = base("ADMIN").iter().map(described).collect();
        assert_eq!(words[0], "a table");
        assert!(words.contains(&"the set ports4".to_owned()), "{words:#?}");
        assert!(words.contains(&"the chain prerouting of type nat".to_owned()), "{words:#?}");
        let translating = words.iter().find(|words| words.contains("nat") && words.contains("chain publish"));
        assert!(translating.unwrap().contains("lookup"), "{words:#?}");
        assert!(words.iter().all(|words| !words.ends_with("expressions ")), "{words:#?}");
    }
}
