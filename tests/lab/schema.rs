//! JSON against a JSON Schema: the keywords that ours uses. One that is not known here fails the test, so that none is
//! passed over.

use serde_json::Value;

/// Every way in which a value is not what the definition `name` of the schema says.
pub fn faults(schema: &Value, name: &str, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let rule = &schema["$defs"][name];
    assert!(rule.is_object(), "the schema defines {name}");
    judge(schema, rule, value, name, &mut found);
    found
}

fn judge(schema: &Value, rule: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    for (keyword, wanted) in rule.as_object().expect("a schema is an object") {
        match keyword.as_str() {
            "description" => {}
            "$ref" => {
                let name = wanted.as_str().unwrap().strip_prefix("#/$defs/").unwrap();
                judge(schema, &schema["$defs"][name], value, at, found);
            }
            "const" if value != wanted => found.push(format!("{at}: {value} is not {wanted}")),
            "enum" if !wanted.as_array().unwrap().contains(value) => {
                found.push(format!("{at}: {value} is none of {wanted}"));
            }
            "minimum" if value.as_u64().is_none() => found.push(format!("{at}: {value} is below 0")),
            "const" | "enum" | "minimum" | "additionalProperties" => {}
            "type" => {
                let one = std::slice::from_ref(wanted);
                let types = wanted.as_array().map_or(one, Vec::as_slice);
                if !types.iter().any(|kind| is_a(value, kind.as_str().unwrap())) {
                    found.push(format!("{at}: {value} is no {wanted}"));
                }
            }
            "required" => {
                for key in wanted.as_array().unwrap() {
                    if value.get(key.as_str().unwrap()).is_none() {
                        found.push(format!("{at}: {key} is missing"));
                    }
                }
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    judge(schema, wanted, item, &format!("{at}[{index}]"), found);
                }
            }
            "properties" => {
                for (key, item) in value.as_object().into_iter().flatten() {
                    if let Some(rule) = wanted.get(key) {
                        judge(schema, rule, item, &format!("{at}.{key}"), found);
                    }
                }
            }
            other => panic!("the keyword {other} is not known to this test"),
        }
    }
    additional(schema, rule, value, at, found);
}

fn additional(schema: &Value, rule: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    let Some(wanted) = rule.get("additionalProperties") else { return };
    for (key, item) in value.as_object().into_iter().flatten() {
        if rule["properties"].get(key).is_some() {
            continue;
        }
        if wanted == &Value::Bool(false) {
            found.push(format!("{at}: {key} is not in the schema"));
        } else {
            judge(schema, wanted, item, &format!("{at}.{key}"), found);
        }
    }
}

fn is_a(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("the type {other} is not known to this test"),
    }
}
