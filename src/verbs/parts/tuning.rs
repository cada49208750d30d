//! Settings of an interface that another plugin made.

use crate::cni::CniResult;
use crate::model::AttachmentKey;
use crate::plan::{Plan, Sandbox};

use crate::verbs::{Call, Context, VerbError};

pub(super) fn build(
    _cx: &mut Context,
    _call: &Call,
    _key: &AttachmentKey,
    _sandbox: &Sandbox,
    _previous: CniResult,
) -> Result<(Plan, CniResult), VerbError> {
    Err(VerbError::Config("the part tuning is not there yet".to_owned()))
}
