//! Network configurations on disk, read as libcni 1.3 reads them (`libcni/conf.go`).

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::error::Error;
use super::suggest;
use super::version::SpecVersion;

/// A network: a list of plugins under one name.
#[derive(Debug, Clone)]
pub(super) struct Network {
    pub(super) name: String,
    /// `cniVersion`, or the highest of `cniVersions` that libcni knows; `0.1.0` where there is none.
    pub(super) version: SpecVersion,
    pub(super) disable_check: bool,
    pub(super) disable_gc: bool,
    pub(super) plugins: Vec<Plugin>,
    /// The list as the cache keeps it.
    pub(super) bytes: Vec<u8>,
    pub(super) path: PathBuf,
}

/// One plugin of a list.
#[derive(Debug, Clone)]
pub(super) struct Plugin {
    pub(super) kind: String,
    /// The capabilities that it declares as `true`.
    pub(super) capabilities: Vec<String>,
    pub(super) raw: Map<String, Value>,
}

/// All networks of a directory, with the files that hold none.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    networks: Vec<Network>,
    /// Files that cannot be used. They trouble only those who look for a network that is not found.
    broken: Vec<Error>,
}

impl Directory {
    /// Reads the directory: the `.conflist` files by name, then `.conf` and `.json` by name.
    ///
    /// # Errors
    /// The directory is there but cannot be read.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let mut directory = Self { path: path.to_owned(), networks: Vec::new(), broken: Vec::new() };
        for file in files(path, &["conflist"])? {
            directory.take(read(&file).and_then(|bytes| list_file(&bytes, &file)));
        }
        for file in files(path, &["conf", "json"])? {
            directory.take(read(&file).and_then(|bytes| single_file(&bytes, &file)));
        }
        Ok(directory)
    }

    fn take(&mut self, network: Result<Network, Error>) {
        match network {
            Ok(network) => self.networks.push(network),
            Err(error) => self.broken.push(error),
        }
    }

    /// All networks, in libcni's order, and the files that hold none.
    pub(super) fn parts(self) -> (Vec<Network>, Vec<Error>) {
        (self.networks, self.broken)
    }

    /// The first network of this name.
    pub(super) fn find(mut self, name: &str) -> Result<Network, Error> {
        if let Some(index) = self.networks.iter().position(|network| network.name == name) {
            return Ok(self.networks.swap_remove(index));
        }
        let mut known: Vec<String> = self.networks.into_iter().map(|network| network.name).collect();
        known.dedup();
        let suggestion = suggest::nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
        Err(Error::UnknownNetwork {
            name: name.to_owned(),
            directory: self.path,
            known,
            suggestion,
            broken: self.broken,
        })
    }
}

/// A list from its text: what a file or the cache holds. `path` names it in errors.
pub(super) fn list(bytes: &[u8], path: &Path) -> Result<Network, Error> {
    let network = list_with(bytes, path, |_| Ok(Vec::new()))?;
    if network.plugins.is_empty() { Err(wrong(path, "it has no plugins")) } else { Ok(network) }
}

/// A `.conflist`, with the plugins of `NAME/*.conf` beside it unless `loadOnlyInlinedPlugins` is set.
fn list_file(bytes: &[u8], path: &Path) -> Result<Network, Error> {
    let beside = path.parent().unwrap_or(Path::new("."));
    let network = list_with(bytes, path, |name| plugin_files(&beside.join(name)))?;
    if network.plugins.is_empty() {
        Err(wrong(
            path,
            "it has no plugins: they belong under 'plugins', and one alone into a file that ends in .conf",
        ))
    } else {
        Ok(network)
    }
}

fn plugin_files(directory: &Path) -> Result<Vec<Plugin>, Error> {
    files(directory, &["conf"])?.iter().map(|file| plugin(parse(&read(file)?, file)?, file)).collect()
}

fn list_with(
    bytes: &[u8],
    path: &Path,
    more: impl Fn(&str) -> Result<Vec<Plugin>, Error>,
) -> Result<Network, Error> {
    let Value::Object(list) = parse(bytes, path)? else { return Err(wrong(path, "it is no JSON object")) };
    let name = match list.get("name") {
        Some(Value::String(name)) if super::names::valid(name) => name.clone(),
        Some(Value::String(name)) => {
            return Err(wrong(path, format!("its name {name:?} has characters that are not allowed")));
        }
        _ => return Err(wrong(path, "it has no name")),
    };
    let mut plugins = match list.get("plugins") {
        None => Vec::new(),
        Some(Value::Array(entries)) if entries.is_empty() => {
            return Err(wrong(path, "its list of plugins is empty"));
        }
        Some(Value::Array(entries)) => {
            entries.iter().map(|entry| plugin(entry.clone(), path)).collect::<Result<_, _>>()?
        }
        Some(_) => return Err(wrong(path, "its key 'plugins' is no list")),
    };
    if !flag(&list, "loadOnlyInlinedPlugins", path)? {
        plugins.extend(more(&name)?);
    }
    Ok(Network {
        name,
        version: version(&list, path)?,
        disable_check: flag(&list, "disableCheck", path)?,
        disable_gc: flag(&list, "disableGC", path)?,
        plugins,
        bytes: bytes.to_vec(),
        path: path.to_owned(),
    })
}

/// A single plugin's configuration, made a list of one.
fn single_file(bytes: &[u8], path: &Path) -> Result<Network, Error> {
    let Value::Object(single) = parse(bytes, path)? else { return Err(wrong(path, "it is no JSON object")) };
    if single.contains_key("plugins") {
        return Err(wrong(path, "a file with 'plugins' is a list: rename it to end in .conflist"));
    }
    let name = any_case(&single, "name").cloned().unwrap_or(Value::Null);
    let version = any_case(&single, "cniVersion").cloned().unwrap_or_else(|| "".into());
    let wrapped = serde_json::json!({ "cniVersion": version, "name": name, "plugins": [single] });
    list(wrapped.to_string().as_bytes(), path)
}

fn plugin(value: Value, path: &Path) -> Result<Plugin, Error> {
    let Value::Object(raw) = value else { return Err(wrong(path, "a plugin of it is no JSON object")) };
    let kind = match any_case(&raw, "type") {
        Some(Value::String(kind)) if !kind.is_empty() && !kind.contains('/') => kind.clone(),
        Some(Value::String(kind)) if !kind.is_empty() => {
            return Err(wrong(path, format!("the type {kind:?} is a path: a type is a file's name alone")));
        }
        _ => return Err(wrong(path, "a plugin of it has no 'type'")),
    };
    let declared = any_case(&raw, "capabilities").and_then(Value::as_object);
    let capabilities = declared
        .map(|all| {
            all.iter().filter(|(_, on)| **on == Value::Bool(true)).map(|(key, _)| key.clone()).collect()
        })
        .unwrap_or_default();
    Ok(Plugin { kind, capabilities, raw })
}

/// `cniVersion` and `cniVersions` together: the highest that libcni 1.3 knows.
fn version(list: &Map<String, Value>, path: &Path) -> Result<SpecVersion, Error> {
    let read = |value: &Value| {
        let text = value.as_str().ok_or_else(|| wrong(path, format!("the version {value} is no text")))?;
        SpecVersion::parse(text).ok_or_else(|| wrong(path, format!("{text:?} is no version like 1.1.0")))
    };
    let single = list.get("cniVersion").map(read).transpose()?;
    let many = match list.get("cniVersions") {
        None => Vec::new(),
        Some(Value::Array(entries)) => entries.iter().map(read).collect::<Result<_, _>>()?,
        Some(_) => return Err(wrong(path, "its key 'cniVersions' is no list")),
    };
    let best = many.iter().chain(&single).filter(|v| **v <= SpecVersion::NEWEST).max();
    Ok(best.filter(|_| !many.is_empty()).or(single.as_ref()).copied().unwrap_or(SpecVersion::OLDEST))
}

/// A boolean that may be written as text, as libcni allows.
fn flag(list: &Map<String, Value>, key: &str, path: &Path) -> Result<bool, Error> {
    match list.get(key) {
        None => Ok(false),
        Some(Value::Bool(on)) => Ok(*on),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(other) => Err(wrong(path, format!("{key:?} must be true or false, not {other}"))),
    }
}

/// Go reads the keys of a plugin in any case.
fn any_case<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    object.get(key).or_else(|| object.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, v)| v))
}

/// The files with one of these extensions, by name; none where the directory does not exist.
fn files(directory: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::File { action: "read", path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let wanted = path.extension().is_some_and(|end| extensions.iter().any(|extension| end == *extension));
        if wanted && !path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::File { action: "read", path: path.to_owned(), source })
}

fn parse(bytes: &[u8], path: &Path) -> Result<Value, Error> {
    serde_json::from_slice(bytes).map_err(|source| Error::Json { path: path.to_owned(), source })
}

fn wrong(path: &Path, reason: impl Into<String>) -> Error {
    Error::Configuration { path: path.to_owned(), reason: reason.into() }
}

#[cfg(test)]
mod tests;
