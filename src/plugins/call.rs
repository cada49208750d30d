//! One call of a runtime, from its environment and standard input to the document on standard output.

use std::rc::Rc;

use crate::apply::{Kernel, is_own_program};
use crate::cni::{
    self, ABOUT, CniResult, Command, Environment, Ipam, LogLevel, NetworkConfig, Strictness, version_of_error,
};
use crate::store::State;
use crate::verbs::{self, Call, Context, Journal, VerbError};

use super::{BY_HAND, Face, Lookup, Reply, agent, log, words};

/// Serves one call as `face`: `input` is what came on standard input.
///
/// Without `CNI_COMMAND` it says what it is, with exit status 0, as the specification's library does.
pub fn run(face: Face, lookup: Lookup<'_>, input: &[u8]) -> Reply {
    if lookup("CNI_COMMAND").is_none_or(|command| command.is_empty()) {
        return Reply { stderr: format!("{ABOUT}\n"), ..Reply::default() };
    }
    let version = || version_of_error(input);
    let environment = match Environment::from_lookup(lookup) {
        Ok(environment) => environment,
        Err(error) => return refusal((face, None), error.into(), version().as_deref(), String::new()),
    };
    let asked = (face, Some(environment.command));
    if environment.command == Command::Version {
        return Reply { stdout: cni::versions(input, face.defaults().since), ..Reply::default() };
    }
    let strictness = Strictness::of(environment.command);
    let config = match NetworkConfig::parse(input, &environment, &face.defaults(), strictness) {
        Ok(config) => delegated(config, &environment, strictness),
        Err(error) => Err(error),
    };
    let config = match config {
        Ok(config) => config,
        Err(error) => return refusal(asked, error.into(), version().as_deref(), String::new()),
    };
    let mut journal = Journal::new(config.log_level);
    for warning in &config.warnings {
        journal.note(LogLevel::Warning, || warning.clone());
    }
    let (outcome, mut journal) = serve(face, &environment, &config, journal);
    if let Err(error) = &outcome {
        journal.note(LogLevel::Error, || error.to_string());
    }
    let stderr = match &config.log_file {
        None if lookup(BY_HAND).is_some() => log::without_errors(&journal, &environment),
        file => log::flush(&journal, file.as_deref(), &environment),
    };
    match outcome {
        Ok(stdout) => Reply { stdout, stderr, status: 0 },
        Err(error) => refusal(asked, error, Some(config.cni_version.as_str()), stderr),
    }
}

/// What is to be done where a call's document could not be written, and what to say of it on standard error. To the runtime
/// the call has failed: an ADD that was done is taken back.
pub fn undelivered(
    face: Face,
    lookup: Lookup<'_>,
    input: &[u8],
    (document, status): (&str, i32),
    error: &std::io::Error,
) -> String {
    let failed = format!("linkspan: cannot write to standard output: {error}");
    if status != 0 || lookup("CNI_COMMAND").is_none_or(|command| command != "ADD") {
        return format!("{failed}; it was to say: {document}");
    }
    let as_del = |name: &str| if name == "CNI_COMMAND" { Some("DEL".into()) } else { lookup(name) };
    let reply = run(face, &as_del, input);
    match reply.status {
        0 => format!("{failed}; what ADD had made was taken back\n"),
        _ => format!(
            "{failed}; what ADD has made could not be taken back, send DEL: {}\n",
            reply.stdout.trim()
        ),
    }
}

/// The configuration of a reference plugin with its IPAM plugin as somebody else's program, unless that is this very
/// binary: then it is run in this process.
///
/// # Errors
/// [`cni::Error::Invalid`] where the IPAM plugin is this very binary under a name by which it gives no addresses: it
/// would call itself without end. A lenient reading has no IPAM plugin then, and a warning.
pub fn delegated(
    mut config: NetworkConfig,
    environment: &Environment,
    strictness: Strictness,
) -> Result<NetworkConfig, cni::Error> {
    let of_face = !config.defaults.is_own() && !config.defaults.is_ipam;
    let plugin = match &config.ipam {
        Ipam::HostLocal(_) if of_face => "host-local",
        Ipam::Static { .. } if of_face => "static",
        Ipam::Delegated { plugin } => return refuse_itself(plugin.clone(), config, environment, strictness),
        _ => return Ok(config),
    };
    if !is_own_program(plugin, &environment.path) {
        config.ipam = Ipam::Delegated { plugin: plugin.to_owned() };
    }
    Ok(config)
}

fn refuse_itself(
    plugin: String,
    mut config: NetworkConfig,
    environment: &Environment,
    strictness: Strictness,
) -> Result<NetworkConfig, cni::Error> {
    if !is_own_program(&plugin, &environment.path) {
        return Ok(config);
    }
    let reason = "is linkspan itself under another name, and would call itself without end; name an IPAM plugin, such \
                  as host-local, static or dhcp";
    let error = cni::Error::invalid("ipam.type", &plugin.into(), reason);
    if strictness == Strictness::Strict {
        return Err(error);
    }
    config.warnings.push(error.to_string());
    config.ipam = Ipam::None;
    Ok(config)
}

/// Runs the verb, and gives its document, the result of ADD or nothing.
fn serve(
    face: Face,
    environment: &Environment,
    config: &NetworkConfig,
    journal: Journal,
) -> (Result<String, VerbError>, Journal) {
    if face == Face::Loopback {
        let call = Call { environment, config };
        return (verbs::loopback::obey(&call).and_then(|result| printed(result, config)), journal);
    }
    let state = match State::open(&State::default_root()) {
        Ok(state) => Rc::new(state),
        Err(error) => return (Err(as_asked(environment.command, error.into())), journal),
    };
    let kernel = Kernel::new(Rc::clone(&state));
    let mut cx = Context { state, kernel, journal };
    let call = Call { environment, config };
    let outcome = obey(face, &mut cx, &call)
        .map_err(|error| as_asked(environment.command, error))
        .and_then(|result| printed(result, config));
    let Context { kernel, journal, .. } = cx;
    // Closing the nf_tables socket after a deletion would wait once more; the end of the process closes it anyway.
    std::mem::forget(kernel);
    (outcome, journal)
}

/// A failure as the command that was asked tells it.
fn as_asked(command: Command, error: VerbError) -> VerbError {
    if command == Command::Status { verbs::status::told(error) } else { error }
}

fn printed(result: Option<CniResult>, config: &NetworkConfig) -> Result<String, VerbError> {
    match result {
        Some(result) => Ok(result.to_json(config.cni_version)?),
        None => Ok(String::new()),
    }
}

/// The verb of a call, as the face does it: one that makes an interface, or one that adds its part to it.
fn obey(face: Face, cx: &mut Context, call: &Call<'_>) -> Result<Option<CniResult>, VerbError> {
    let key = call.key().of_part(face.part().unwrap_or_default());
    if let Some(part) = face.part() {
        return match call.environment.command {
            Command::Add => verbs::parts::add(cx, call, part)
                .map(|attached| Some(agent::attached(cx, call, &key, attached))),
            Command::Del => {
                let deleted = verbs::parts::del(cx, call, part);
                agent::detached(cx, call, &key);
                deleted.map(|()| None)
            }
            Command::Check => verbs::parts::check(cx, call, part).map(|()| None),
            Command::Gc => verbs::parts::gc(cx, call, part).map(|()| None),
            Command::Status => verbs::parts::status(cx, call, part).map(|()| None),
            Command::Version => Ok(None),
        };
    }
    if matches!(face, Face::HostLocal | Face::Static) {
        return match call.environment.command {
            Command::Add => verbs::ipam::add(cx, call).map(Some),
            Command::Del => verbs::ipam::del(cx, call).map(|()| None),
            Command::Check => verbs::ipam::check(cx, call).map(|()| None),
            Command::Gc => verbs::ipam::gc(cx, call).map(|()| None),
            Command::Status => verbs::ipam::status(cx, call).map(|()| None),
            Command::Version => Ok(None),
        };
    }
    match call.environment.command {
        Command::Add => verbs::add(cx, call).map(|attached| Some(agent::attached(cx, call, &key, attached))),
        Command::Del => {
            let deleted = verbs::del(cx, call);
            agent::detached(cx, call, &key);
            deleted.map(|()| None)
        }
        Command::Check => verbs::check(cx, call).map(|()| None),
        Command::Gc => verbs::gc(cx, call).map(|()| None),
        Command::Status => verbs::status(cx, call).map(|()| None),
        Command::Version => Ok(None),
    }
}

fn refusal(
    (face, command): (Face, Option<Command>),
    error: VerbError,
    version: Option<&str>,
    stderr: String,
) -> Reply {
    Reply { stdout: words::of(face, command, error).to_json(version), stderr, status: 1 }
}
