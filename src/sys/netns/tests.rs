use super::*;
use crate::sys::testing::{another, isolated};

#[test]
fn what_is_no_network_namespace_is_told_apart() {
    assert!(matches!(Netns::open("/nowhere/at/all"), Err(NetnsError::Missing { .. })));
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Netns::open(file.path()).unwrap_err();
    assert!(matches!(error, NetnsError::NotANamespace { .. }), "{error}");
    let error = Netns::open("/proc/self/ns/mnt").unwrap_err();
    assert!(error.to_string().contains("is a mount namespace"), "{error}");
    assert!(Netns::open("/proc/self/ns/net").is_ok());
}

#[test]
fn a_closure_runs_inside_and_the_thread_comes_back() {
    isolated(|| {
        let (home, other) = (Netns::current().unwrap(), another());
        assert_ne!(home.identity().unwrap(), other.identity().unwrap());
        assert!(other.enter(|| other.is_current().unwrap()).unwrap());
        assert!(home.is_current().unwrap() && !other.is_current().unwrap());
    });
}

#[test]
fn nested_entries_return_one_by_one() {
    isolated(|| {
        let (home, first, second) = (Netns::current().unwrap(), another(), another());
        first
            .enter(|| {
                second.enter(|| assert!(second.is_current().unwrap())).unwrap();
                assert!(first.is_current().unwrap());
            })
            .unwrap();
        assert!(home.is_current().unwrap());
    });
}

#[test]
fn a_panic_inside_comes_back_too() {
    isolated(|| {
        let (home, other) = (Netns::current().unwrap(), another());
        let work = std::panic::AssertUnwindSafe(|| other.enter(|| panic!("on purpose")));
        assert!(std::panic::catch_unwind(work).is_err());
        assert!(home.is_current().unwrap());
    });
}
