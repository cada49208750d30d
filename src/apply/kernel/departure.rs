//! Links that go together, at the price of one, and waited for no longer than somebody could see them.
//!
//! A deletion is two things to the kernel: the links leave every list and table, under its one lock on links; and then
//! the caller, which has let that lock go, waits 18 ms and more in `rcu_barrier` before their memory is freed
//! (`netdev_run_todo` in `net/core/dev.c`). Nobody but the caller notices the second. So many links are deleted by a
//! thread, and the work goes on as soon as they are gone: addresses and records are let go, and whoever waits for them
//! ends, while the thread waits. The process ends after it.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use nix::errno::Errno;

use super::{Cause, Kernel};
use crate::sys::SysError;
use crate::sys::netlink::{Message, Protocol, Socket};
use crate::sys::rtnl::{self, LinkChange, LinkTarget};

/// How long the thread works without a look at whether the links are gone.
const LOOK: Duration = Duration::from_millis(1);

/// Deletes links at the price of one: into a group that nobody else uses at the moment, and the group is deleted.
/// Links that are gone already are as good.
pub(super) fn delete_together<'a>(targets: impl Iterator<Item = LinkTarget<'a>>, group: u32) -> Vec<Message> {
    let mut messages = join(targets, group);
    messages.push(delete_group(group));
    messages
}

fn join<'a>(targets: impl Iterator<Item = LinkTarget<'a>>, group: u32) -> Vec<Message> {
    let into_group = LinkChange { group: Some(group), ..LinkChange::default() };
    targets.map(|target| rtnl::set_link(target, &into_group).tolerating(Errno::ENODEV)).collect()
}

fn delete_group(group: u32) -> Message {
    rtnl::delete_group(group).tolerating(Errno::ENODEV)
}

impl Kernel {
    /// Deletes links of the host, and returns when none of them is to be seen. Where it is refused, all are there still.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(super) fn delete_links(&mut self, names: &[&str], group: u32) -> Result<(), Cause> {
        if let [name] = names {
            return Ok(self.host()?.transact(&[rtnl::delete_link_named(name)])?);
        }
        // Before the thread begins: by then the links are in the group, and a new one of the same name will not be.
        self.host()?.transact(&join(names.iter().map(|name| LinkTarget::Name(name)), group))?;
        let outcome = in_background(delete_group(group))?;
        loop {
            match outcome.recv_timeout(LOOK) {
                Ok(done) => return Ok(done?),
                Err(RecvTimeoutError::Timeout) if self.are_gone(names)? => {
                    // They have left the list of names; the rest of it is done when the kernel's lock is free.
                    self.await_links();
                    return Ok(());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    // There can be no thread.
                    return Ok(self.host()?.transact(&[delete_group(group)])?);
                }
            }
        }
    }

    /// Whether the host has no link of any of these names; `false` where it cannot be asked.
    fn are_gone(&mut self, names: &[&str]) -> Result<bool, Cause> {
        let host = self.host()?;
        Ok(names.iter().all(|name| rtnl::is_there(host, name) == Ok(false)))
    }
}

/// Sends a message by a thread, and gives where the outcome comes: nothing does where there can be no thread.
fn in_background(message: Message) -> Result<mpsc::Receiver<Result<(), SysError>>, Cause> {
    // Opened here: the namespace of a thread is the one of who began it.
    let mut socket = Socket::open(Protocol::Route)?;
    let (sender, receiver) = mpsc::channel();
    let work = move || {
        // Nobody listens any more where the links were gone before this was done.
        let _ = sender.send(socket.transact(&[message]));
    };
    // Refused, it is dropped, and the sender with it.
    let _ = std::thread::Builder::new().name("links".to_owned()).spawn(work);
    Ok(receiver)
}
