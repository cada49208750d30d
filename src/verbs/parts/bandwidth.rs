//! Rate limits of an interface that another plugin made.

use crate::apply::{ApplyError, HostEnd};
use crate::cni::{CniResult, Code, Interface, LogLevel};
use crate::model::{AttachmentKey, MacAddress, Part, names};
use crate::plan::{Plan, Sandbox, Shape, Step};
use crate::store::Listed;

use crate::verbs::{Call, Context, VerbError, deadline};

/// The limits on the host end of the container's interface; the result gets the device that limits what is sent.
pub(super) fn build(
    cx: &mut Context,
    call: &Call,
    key: &AttachmentKey,
    sandbox: &Sandbox,
    mut previous: CniResult,
) -> Result<(Plan, CniResult), VerbError> {
    if call.config.bandwidth.is_empty() {
        return Ok((Plan::default(), previous));
    }
    let host = host_end(cx, key, sandbox, &previous)?;
    let ifb_name = device(cx, call, key, &host)?;
    let ifb_mac = MacAddress::from_name(&ifb_name);
    if call.config.bandwidth.egress.is_some() {
        previous.interfaces.push(Interface::new(&ifb_name, ifb_mac, ""));
    }
    let shape = Shape { ifb_name, ifb_mac: Some(ifb_mac), ..shape(call, &host) };
    Ok((Plan { steps: vec![Step::Shape(shape)] }, previous))
}

/// The device that the reference plugin made for the container, where it is there and no other record's.
pub(super) fn left_by_reference(
    cx: &mut Context,
    call: &Call,
    key: &AttachmentKey,
    sandbox: Option<&Sandbox>,
) -> Result<Plan, VerbError> {
    let ifb_name = names::reference_shaping_interface(&call.config.name, &key.container_id);
    let failed = |cause| ApplyError::new(format!("the shaping device {ifb_name}"), cause);
    if !cx.kernel.has_host_link(&ifb_name).map_err(failed)? || is_anothers(cx, key, &ifb_name)? {
        return Ok(Plan::default());
    }
    let host = match sandbox {
        Some(sandbox) => cx.kernel.host_end(sandbox, &key.interface).map_err(failed)?,
        None => None,
    };
    let host_name = host.map(|host| host.name).unwrap_or_default();
    let rate = crate::model::Rate { rate: 8, burst: 8 };
    let shaping = crate::model::Shaping { ingress: Some(rate), egress: Some(rate) };
    let shape = Shape { host_name, ifb_name, ifb_mac: None, mtu: None, shaping };
    Ok(Plan { steps: vec![Step::Shape(shape)] })
}

/// What CHECK may expect of an interface that the reference plugin limited.
pub(super) fn expected(
    cx: &mut Context,
    call: &Call,
    key: &AttachmentKey,
    sandbox: &Sandbox,
    previous: &CniResult,
) -> Result<Plan, VerbError> {
    if call.config.bandwidth.is_empty() {
        return Ok(Plan::default());
    }
    let host = host_end(cx, key, sandbox, previous)?;
    Ok(Plan { steps: vec![Step::Shape(shape(call, &host))] })
}

/// Takes shaping devices away that nothing is sent to any more: their container is gone.
pub(super) fn gc(cx: &mut Context) -> Result<(), VerbError> {
    let _lock = cx.state.lock(deadline())?;
    let failed = |cause| ApplyError::new("idle shaping devices", cause);
    for name in cx.kernel.remove_idle_shapers().map_err(failed)? {
        cx.journal.note(LogLevel::Info, || format!("took away {name}, to which nothing was sent"));
    }
    Ok(())
}

fn shape(call: &Call, host: &HostEnd) -> Shape {
    Shape {
        host_name: host.name.clone(),
        ifb_name: names::reference_shaping_interface(&call.config.name, &call.environment.container_id),
        ifb_mac: None,
        mtu: Some(host.mtu),
        shaping: call.config.bandwidth,
    }
}

/// The host's end of the container's veth pair, which must be of the result.
fn host_end(
    cx: &mut Context,
    key: &AttachmentKey,
    sandbox: &Sandbox,
    previous: &CniResult,
) -> Result<HostEnd, VerbError> {
    let name = &key.interface;
    if previous.interfaces.is_empty() {
        let why = "prevResult names none, and bandwidth limits the host end of one";
        return Err(VerbError::known(Code::InvalidConfig, "no interfaces provided", why));
    }
    let failed = |cause| ApplyError::new(format!("interface {name}"), cause);
    let found = cx.kernel.host_end(sandbox, name).map_err(failed)?.ok_or_else(|| {
        let words = format!("container interface {name} has no veth peer");
        VerbError::known(
            Code::InvalidConfig,
            words,
            "only an interface with an end on the host can be limited",
        )
    })?;
    if previous
        .interfaces
        .iter()
        .any(|interface| interface.sandbox.is_empty() && interface.name == found.name)
    {
        return Ok(found);
    }
    let why = format!("{} is not among the interfaces of prevResult", found.name);
    Err(VerbError::known(Code::InvalidConfig, "no veth peer of container interface found in host ns", why))
}

/// The name of the device that limits what the container sends: the reference's where it is free, which follows from
/// the container alone, so that a second interface of the container needs another.
fn device(cx: &mut Context, call: &Call, key: &AttachmentKey, host: &HostEnd) -> Result<String, VerbError> {
    let plain = names::reference_shaping_interface(&call.config.name, &key.container_id);
    let failed = |cause| ApplyError::new(format!("the shaping device {plain}"), cause);
    if cx.kernel.is_free_shaper(&plain, host).map_err(failed)? {
        return Ok(plain);
    }
    Ok(names::reference_shaping_interface(&call.config.name, &key.to_string()))
}

/// Whether a device is in the record of another interface of the same container.
fn is_anothers(cx: &Context, key: &AttachmentKey, device: &str) -> Result<bool, VerbError> {
    let Listed { found, .. }: Listed<Plan> = cx.state.all()?;
    Ok(found.iter().map(|found| &found.record).any(|record| {
        record.key.part == Part::Bandwidth
            && !record.key.is_of(key)
            && record
                .plan
                .steps
                .iter()
                .any(|step| matches!(step, Step::Shape(shape) if shape.ifb_name == device))
    }))
}
