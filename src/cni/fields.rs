//! Reading JSON objects as Go's `encoding/json` does, with errors that name the key.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnetwork::IpNetwork;
use serde_json::{Map, Value};

use super::address::{parse_cidr, parse_ip};
use super::arguments::parse_mac;
use super::error::Error;
use crate::model::MacAddress;

/// An object and where it stands in the document.
///
/// Keys match in any ASCII case, as in Go. Where a key is there more than once, the exact spelling wins, and of
/// several inexact ones the last; of exact duplicates the last is all that the JSON reader keeps. `null` is as good
/// as absent.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    object: &'a Map<String, Value>,
    path: String,
}

impl<'a> Fields<'a> {
    /// The whole document.
    pub fn root(object: &'a Map<String, Value>) -> Self {
        Self { object, path: String::new() }
    }

    /// The object in `value`, which stands at `path`.
    ///
    /// # Errors
    /// [`Error::WrongType`] where it is no object.
    pub fn of(value: &'a Value, path: String) -> Result<Self, Error> {
        match value {
            Value::Object(object) => Ok(Self { object, path }),
            other => Err(Error::wrong_type(path, other, "must be an object: {...}")),
        }
    }

    /// Where a key of this object stands in the document.
    pub fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The value of a key, `null` included.
    pub fn raw(&self, key: &str) -> Option<&'a Value> {
        // Some ninety keys are asked for, of an object that has a handful: to hash each would take longer.
        let mut inexact = None;
        for (name, value) in self.object.iter().filter(|(name, _)| name.eq_ignore_ascii_case(key)) {
            if name == key {
                return Some(value);
            }
            inexact = Some(value);
        }
        inexact
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.raw(key).filter(|value| !value.is_null())
    }

    /// The entries whose keys are none of `known`, in any case.
    pub fn others(&self, known: &[&str]) -> Map<String, Value> {
        self.object
            .iter()
            .filter(|(name, _)| !known.iter().any(|key| name.eq_ignore_ascii_case(key)))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// The error that says what a key should be.
    pub fn invalid(&self, key: &str, reason: impl Into<String>) -> Error {
        Error::invalid(self.path_of(key), self.raw(key).unwrap_or(&Value::Null), reason)
    }

    /// A text; the empty one counts as absent.
    ///
    /// # Errors
    /// [`Error::WrongType`] for anything but a string.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            Some(other) => {
                Err(Error::wrong_type(self.path_of(key), other, "must be a string, in quotation marks"))
            }
        }
    }

    /// A truth value.
    ///
    /// # Errors
    /// [`Error::WrongType`] for anything but `true` and `false`.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(other) => Err(Error::wrong_type(
                self.path_of(key),
                other,
                "must be true or false, without quotation marks",
            )),
        }
    }

    /// A whole number within bounds. As in Go, `1.0`, `1e3` and `"1"` are none.
    ///
    /// # Errors
    /// [`Error::Invalid`] for anything else.
    pub fn number<T: TryFrom<u64>>(
        &self,
        key: &str,
        allowed: RangeInclusive<u64>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = value.as_u64().filter(|number| allowed.contains(number));
        match number.and_then(|number| T::try_from(number).ok()) {
            Some(number) => Ok(Some(number)),
            None => {
                let reason = format!("must be a whole number from {} to {}", allowed.start(), allowed.end());
                if value.is_number() {
                    return Err(self.invalid(key, reason));
                }
                Err(Error::wrong_type(self.path_of(key), value, reason))
            }
        }
    }

    /// An object.
    ///
    /// # Errors
    /// [`Error::WrongType`] for anything but an object.
    pub fn object(&self, key: &str) -> Result<Option<Self>, Error> {
        self.get(key).map(|value| Self::of(value, self.path_of(key))).transpose()
    }

    /// The elements of an array, each with its path; none where the key is absent.
    ///
    /// # Errors
    /// [`Error::WrongType`] for anything but an array.
    pub fn list(&self, key: &str) -> Result<Vec<(String, &'a Value)>, Error> {
        match self.get(key) {
            None => Ok(Vec::new()),
            Some(value) => elements(value, &self.path_of(key)),
        }
    }

    /// An array of objects.
    ///
    /// # Errors
    /// [`Error::Invalid`] for anything else.
    pub fn objects(&self, key: &str) -> Result<Vec<Self>, Error> {
        self.list(key)?.into_iter().map(|(path, value)| Self::of(value, path)).collect()
    }

    /// An array of strings, each with its path.
    ///
    /// # Errors
    /// [`Error::Invalid`] for anything else.
    pub fn texts(&self, key: &str) -> Result<Vec<(String, &'a str)>, Error> {
        let text = |(path, value): (String, &'a Value)| match value {
            Value::String(text) => Ok((path, text.as_str())),
            other => Err(Error::wrong_type(path, other, "must be a string, in quotation marks")),
        };
        self.list(key)?.into_iter().map(text).collect()
    }

    /// An array of strings, owned.
    ///
    /// # Errors
    /// [`Error::Invalid`] for anything else.
    pub fn strings(&self, key: &str) -> Result<Vec<String>, Error> {
        Ok(self.texts(key)?.into_iter().map(|(_, text)| text.to_owned()).collect())
    }

    /// A text with a meaning, which `parse` knows or objects to in words.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the objection.
    pub fn parsed<T>(
        &self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Error> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        parse(text).map(Some).map_err(|reason| self.invalid(key, reason))
    }

    /// An IP address.
    ///
    /// # Errors
    /// [`Error::Invalid`] for anything else.
    pub fn address(&self, key: &str) -> Result<Option<IpAddr>, Error> {
        self.parsed(key, parse_ip)
    }

    /// An address with its prefix length.
    ///
    /// # Errors
    /// [`Error::Invalid`] for anything else.
    pub fn cidr(&self, key: &str) -> Result<Option<IpNetwork>, Error> {
        self.parsed(key, parse_cidr)
    }

    /// A unicast MAC.
    ///
    /// # Errors
    /// [`Error::Invalid`] for anything else.
    pub fn mac(&self, key: &str) -> Result<Option<MacAddress>, Error> {
        self.parsed(key, parse_mac)
    }

    /// The error of a key that must be there.
    pub fn missing(&self, key: &str, reason: impl Into<String>) -> Error {
        Error::Missing { key: self.path_of(key), reason: reason.into() }
    }

    /// The entries, as written.
    pub fn entries(&self) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
        self.object.iter()
    }
}

/// The elements of an array that stands at `path`.
///
/// # Errors
/// [`Error::WrongType`] for anything but an array.
pub(super) fn elements<'a>(value: &'a Value, path: &str) -> Result<Vec<(String, &'a Value)>, Error> {
    match value {
        Value::Array(items) => {
            Ok(items.iter().enumerate().map(|(index, item)| (format!("{path}[{index}]"), item)).collect())
        }
        other => Err(Error::wrong_type(path, other, "must be a list: [...]")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(value: &Value) -> Fields<'_> {
        Fields::root(value.as_object().unwrap())
    }

    #[test]
    fn keys_match_in_any_case_and_the_exact_one_wins() {
        let value = json!({"MTU": 1, "mtu": 2, "Mtu": 3, "BRIDGE": "a", "bridgE": "b", "x": null});
        assert_eq!(fields(&value).number::<u32>("mtu", 0..=9).unwrap(), Some(2));
        assert_eq!(fields(&value).text("bridge").unwrap(), Some("b"));
        assert_eq!(fields(&value).raw("X"), Some(&Value::Null));
        assert!(fields(&value).get("x").is_none());
        assert!(fields(&value).others(&["mtu", "bridge"]).contains_key("x"));
    }

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        for bad in [json!(1.0), json!(1e3), json!("1"), json!(-1), json!(true), json!([1]), json!(70000)] {
            let value = json!({ "n": bad });
            let error = fields(&value).number::<u16>("n", 0..=65535).unwrap_err().to_string();
            assert!(error.starts_with(&format!("n = {bad}: must be a whole number")), "{error}");
        }
        let value = json!({"n": 300});
        assert!(fields(&value).number::<u8>("n", 0..=1000).is_err());
    }

    #[test]
    fn errors_name_the_whole_path() {
        let value = json!({"a": {"b": [{"c": 1}]}});
        let a = fields(&value).object("a").unwrap().unwrap();
        let b = a.objects("b").unwrap().remove(0);
        assert_eq!(
            b.text("c").unwrap_err().to_string(),
            "a.b[0].c = 1: must be a string, in quotation marks"
        );
        assert!(fields(&value).list("a").is_err());
        assert!(fields(&value).boolean("a").is_err());
        assert!(a.object("b").is_err());
        assert!(b.texts("x").unwrap().is_empty());
    }
}
