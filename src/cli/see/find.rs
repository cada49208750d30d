//! Containers by what a person types: an ID, the beginning of one, or a name.

use crate::view::Attachment;

use super::super::error::Error;
use super::super::suggest;

/// Whether an attachment's container is what was typed: its ID or name, a pod's name without its namespace, or the
/// beginning of the ID; with `:IF` behind it, this interface alone.
pub(in crate::cli) fn is_meant(typed: &str, attachment: &Attachment) -> bool {
    let begins = |typed: &str| !typed.is_empty() && attachment.container.starts_with(typed);
    !typed.is_empty()
        && (is_exactly(typed, attachment)
            || begins(typed)
            || before_interface(typed, attachment).is_some_and(begins))
}

fn is_exactly(typed: &str, attachment: &Attachment) -> bool {
    let name = attachment.name.as_deref();
    let is_called = |typed: &str| {
        attachment.container == typed
            || name == Some(typed)
            || name.and_then(|name| name.rsplit_once('/')).is_some_and(|(_, pod)| pod == typed)
    };
    is_called(typed) || before_interface(typed, attachment).is_some_and(is_called)
}

/// What stands before `:IF`, where that is the attachment's interface.
pub(super) fn before_interface<'a>(typed: &'a str, attachment: &Attachment) -> Option<&'a str> {
    typed.strip_suffix(attachment.interface.as_str())?.strip_suffix(':')
}

/// The attachments of the one container that was meant; one with that very ID or name counts more than beginnings.
///
/// # Errors
/// [`Error::Nothing`], [`Error::Ambiguous`].
pub(in crate::cli) fn one<'a>(typed: &str, all: &'a [Attachment]) -> Result<Vec<&'a Attachment>, Error> {
    let mut found: Vec<&Attachment> = all.iter().filter(|a| is_exactly(typed, a)).collect();
    if found.is_empty() {
        found = all.iter().filter(|attachment| is_meant(typed, attachment)).collect();
    }
    let mut containers: Vec<String> = found.iter().map(|attachment| attachment.container.clone()).collect();
    containers.sort_unstable();
    containers.dedup();
    match containers.len() {
        0 => Err(no_container(typed, all)),
        1 => Ok(found),
        _ => Err(Error::Ambiguous { prefix: typed.to_owned(), candidates: containers }),
    }
}

/// There is no such container.
pub(super) fn no_container(typed: &str, all: &[Attachment]) -> Error {
    let ids = all.iter().map(|attachment| attachment.container.as_str());
    let names = all.iter().filter_map(|attachment| attachment.name.as_deref());
    let hint = suggest::hint(typed, ids.chain(names), "");
    let hint = if hint.is_empty() { ": 'linkspan ps' lists them".to_owned() } else { hint };
    Error::Nothing { what: "container", name: typed.to_owned(), hint }
}
