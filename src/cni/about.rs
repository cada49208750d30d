//! What linkspan says about itself.

use serde_json::{Value, json};

use super::fields::Fields;
use super::render::indented;
use super::version::Version;

/// What a person sees who runs the binary without `CNI_COMMAND`.
pub const ABOUT: &str = concat!(
    "linkspan ",
    env!("CARGO_PKG_VERSION"),
    ": a CNI plugin that gives containers their network\n",
    "CNI protocol versions supported: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0\n",
    "A container runtime runs it with CNI_COMMAND in the environment; for people there is `linkspan --help`.",
);

/// The answer to VERSION: the input's `cniVersion` back, and those that are spoken, the oldest of which is `since`.
pub fn versions(input: &[u8], since: Version) -> String {
    let version = version_of_input(input);
    let spoken: Vec<&str> =
        Version::SUPPORTED.into_iter().filter(|version| *version >= since).map(Version::as_str).collect();
    indented(&json!({
        "cniVersion": version.as_deref().unwrap_or(Version::LATEST.as_str()),
        "supportedVersions": spoken,
    }))
}

/// The `cniVersion` that an input names, spoken or not, for error documents and VERSION.
///
/// `None` where the input is not readable, names none, or names something that is no version (digits and dots).
fn version_of_input(input: &[u8]) -> Option<String> {
    let document: Value = serde_json::from_slice(input).ok()?;
    let fields = Fields::root(document.as_object()?);
    let text = fields.text("cniVersion").ok()??;
    let is_version = text.len() <= 32
        && text.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    is_version.then(|| text.to_owned())
}

/// The version of an error document: the input's; 0.1.0 where it has none, which is what that means.
///
/// `None` where the input is not readable, or names something that is no version.
pub fn version_of_error(input: &[u8]) -> Option<String> {
    let document: Value = serde_json::from_slice(input).ok()?;
    match Fields::root(document.as_object()?).text("cniVersion").ok()? {
        None | Some("") => Some(Version::V0_1_0.as_str().to_owned()),
        Some(_) => version_of_input(input),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_echoes_what_it_is_asked_in() {
        for (input, expected) in [
            (&b""[..], "1.1.0"),
            (b"{", "1.1.0"),
            (b"{}", "1.1.0"),
            (br#"{"cniVersion": "0.4.0"}"#, "0.4.0"),
            (br#"{"CNIVERSION": "1.2.0"}"#, "1.2.0"),
            (br#"{"cniVersion": "a\nb"}"#, "1.1.0"),
            (br#"{"cniVersion": 1}"#, "1.1.0"),
        ] {
            let answer: Value = serde_json::from_str(&versions(input, Version::V0_1_0)).unwrap();
            assert_eq!(answer["cniVersion"], expected);
            assert_eq!(answer["supportedVersions"].as_array().unwrap().len(), 7);
        }
        let since: Value = serde_json::from_str(&versions(b"{}", Version::V0_4_0)).unwrap();
        assert_eq!(since["supportedVersions"], json!(["0.4.0", "1.0.0", "1.1.0"]));
        assert!(ABOUT.contains(&Version::list()));
    }
}
