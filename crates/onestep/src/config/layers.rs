//! Settings that lie over one another: a preset, then a file, then what the command line says.
//!
//! Each layer is a TOML table. Tables are merged key by key; everything else is replaced. When the result does not fit
//! the settings' type, the entry that is to blame is found by trying the entries of the last layer one by one, so the
//! message can name the file, the line and the nearest known key.

use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::{
    Table, Value,
    de::{DeTable, DeValue},
};

use super::ConfigError;

/// Settings of type `T` under construction: what all layers so far add up to.
#[derive(Debug, Clone)]
pub(crate) struct Layers {
    table: Table,
}

/// One `key = value` of a layer.
struct Entry {
    path: Vec<String>,
    value: Value,
    /// Where the key stands in the layer's text.
    at: Range<usize>,
}

impl Layers {
    pub(crate) fn new(base: Table) -> Self {
        Self { table: base }
    }

    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    /// Lays a whole TOML text over what is there. `origin` names it in errors: a path.
    pub(crate) fn add_text<T: DeserializeOwned>(&mut self, origin: &str, text: &str) -> Result<(), ConfigError> {
        let document = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
            origin: origin_at(origin, text, error.span().map_or(0, |span| span.start)),
            problem: error.message().to_owned(),
        })?;
        let mut layer = Table::new();
        let mut entries = Vec::new();
        flatten(document.get_ref(), &mut Vec::new(), &mut entries)
            .map_err(|(at, problem)| ConfigError::Syntax { origin: origin_at(origin, text, at), problem })?;
        for entry in &entries {
            put(&mut layer, &entry.path, entry.value.clone());
        }
        let mut merged = self.table.clone();
        merge(&mut merged, &layer);
        let Err(problem) = fits::<T>(&merged) else {
            self.table = merged;
            return Ok(());
        };
        Err(self.blame::<T>(&entries, &problem, |entry| {
            entry.map_or_else(|| origin.to_owned(), |entry| origin_at(origin, text, entry.at.start))
        }))
    }

    /// Sets one value. `origin` names the option in errors, `path` is dotted: `learner.online_steps`.
    pub(crate) fn set<T: DeserializeOwned>(
        &mut self,
        origin: &str,
        path: &str,
        value: Value,
    ) -> Result<(), ConfigError> {
        let path: Vec<String> = path.split('.').map(|part| part.trim().to_owned()).collect();
        let mut layer = Table::new();
        put(&mut layer, &path, value.clone());
        let mut merged = self.table.clone();
        merge(&mut merged, &layer);
        let Err(problem) = fits::<T>(&merged) else {
            self.table = merged;
            return Ok(());
        };
        let entry = Entry { path, value, at: 0..0 };
        Err(self.blame::<T>(&[entry], &problem, |_| origin.to_owned()))
    }

    /// The error for a layer that does not fit, with the entry that is to blame.
    fn blame<T: DeserializeOwned>(
        &self,
        entries: &[Entry],
        problem: &str,
        origin: impl Fn(Option<&Entry>) -> String,
    ) -> ConfigError {
        let with = |wanted: &dyn Fn(usize) -> bool| {
            let mut layer = Table::new();
            for (_, entry) in entries.iter().enumerate().filter(|(index, _)| wanted(*index)) {
                put(&mut layer, &entry.path, entry.value.clone());
            }
            let mut merged = self.table.clone();
            merge(&mut merged, &layer);
            fits::<T>(&merged).err()
        };
        // Best evidence: all is well without this one entry. Else the first entry with which things go wrong.
        let guilty = (0..entries.len())
            .find(|left_out| with(&|index| index != *left_out).is_none())
            .or_else(|| (0..entries.len()).find(|last| with(&|index| index <= *last).is_some()));
        let Some((index, entry)) = guilty.and_then(|index| entries.get(index).map(|entry| (index, entry))) else {
            return ConfigError::Invalid { origin: origin(None), key: String::new(), problem: problem.to_owned() };
        };
        let problem = with(&|other| other == index).unwrap_or_else(|| problem.to_owned());
        let key = entry.path.join(".");
        let origin = origin(Some(entry));
        if problem.starts_with("unknown field") {
            ConfigError::UnknownKey { origin, suggestion: self.nearest(&entry.path, &problem), key }
        } else {
            ConfigError::Invalid { origin, key, problem }
        }
    }

    /// The known key that is most like `path`: keys that are set, and the names serde says it would take.
    fn nearest(&self, path: &[String], problem: &str) -> Option<String> {
        let mut known = Vec::new();
        list_keys(&self.table, &mut Vec::new(), &mut known);
        if let Some((unknown, names)) = expected_fields(problem) {
            // Serde names the fields of the table that holds the unknown one.
            let depth = path.iter().position(|part| *part == unknown).unwrap_or(path.len().saturating_sub(1));
            for name in names {
                let mut sibling: Vec<String> = path.iter().take(depth).cloned().collect();
                sibling.push(name.to_owned());
                known.push(sibling);
            }
        }
        let wanted = path.last()?;
        let full = path.join(".");
        known
            .into_iter()
            .filter_map(|candidate| {
                let last = candidate.last()?;
                let distance = strsim::damerau_levenshtein(wanted, last);
                let near = distance <= 1 + wanted.chars().count().min(last.chars().count()) / 4;
                let joined = candidate.join(".");
                near.then(|| ((distance, strsim::damerau_levenshtein(&full, &joined), joined.clone()), joined))
            })
            .min_by(|(left, _), (right, _)| left.cmp(right))
            .map(|(_, name)| name)
    }
}

/// The value of a `--set KEY=VALUE`: TOML, or else the text itself, so that a word needs no quotes.
pub(crate) fn parse_value(text: &str) -> Value {
    format!("value = {text}")
        .parse::<Table>()
        .ok()
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

/// `over` lies over `base`. Where the two choose different variants (key `name`), nothing of the old variant stays.
pub(crate) fn merge(base: &mut Table, over: &Table) {
    let other_variant = matches!((base.get("name"), over.get("name")), (Some(old), Some(new)) if old != new);
    if other_variant {
        base.clear();
    }
    for (key, value) in over {
        match (base.get_mut(key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            _ => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}

fn fits<T: DeserializeOwned>(table: &Table) -> Result<(), String> {
    match T::deserialize(table.clone()) {
        Ok(_) => Ok(()),
        Err(error) => Err(error.message().to_owned()),
    }
}

/// All entries of a parsed document in their order in the text.
fn flatten(table: &DeTable<'_>, path: &mut Vec<String>, entries: &mut Vec<Entry>) -> Result<(), (usize, String)> {
    let mut rows: Vec<_> = table.iter().collect();
    rows.sort_by_key(|(key, _)| key.span().start);
    for (key, value) in rows {
        path.push(key.get_ref().to_string());
        let at = key.span();
        match value.get_ref() {
            DeValue::Table(inner) if !inner.is_empty() => flatten(inner, path, entries)?,
            _ => {
                let value =
                    to_value(value.get_ref()).ok_or_else(|| (at.start, "the number is out of range".to_owned()))?;
                entries.push(Entry { path: path.clone(), value, at });
            }
        }
        path.pop();
    }
    Ok(())
}

fn to_value(value: &DeValue<'_>) -> Option<Value> {
    Some(match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => Value::Integer(i64::from_str_radix(number.as_str(), number.radix()).ok()?),
        DeValue::Float(number) => Value::Float(number.as_str().parse().ok()?),
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Datetime(value) => Value::Datetime(*value),
        DeValue::Array(values) => {
            Value::Array(values.iter().map(|value| to_value(value.get_ref())).collect::<Option<_>>()?)
        }
        DeValue::Table(table) => Value::Table(
            table
                .iter()
                .map(|(key, value)| Some((key.get_ref().to_string(), to_value(value.get_ref())?)))
                .collect::<Option<_>>()?,
        ),
    })
}

fn put(table: &mut Table, path: &[String], value: Value) {
    match path {
        [] => {}
        [last] => {
            table.insert(last.clone(), value);
        }
        [first, rest @ ..] => {
            let inner = table.entry(first.clone()).or_insert_with(|| Value::Table(Table::new()));
            if !inner.is_table() {
                *inner = Value::Table(Table::new());
            }
            if let Value::Table(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

fn list_keys(table: &Table, path: &mut Vec<String>, keys: &mut Vec<Vec<String>>) {
    for (key, value) in table {
        path.push(key.clone());
        keys.push(path.clone());
        if let Value::Table(inner) = value {
            list_keys(inner, path, keys);
        }
        path.pop();
    }
}

/// From serde's "unknown field `x`, expected one of `a`, `b`": the unknown and the expected names.
fn expected_fields(problem: &str) -> Option<(&str, Vec<&str>)> {
    let mut quoted = problem.split('`').skip(1).step_by(2);
    let unknown = quoted.next()?;
    Some((unknown, quoted.collect()))
}

fn origin_at(origin: &str, text: &str, at: usize) -> String {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |start| start.chars().count()) + 1;
    format!("{origin}:{line}:{column}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        seed: u64,
        algorithm: Algorithm,
        learner: Learner,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
    enum Algorithm {
        First { rate: f32, noise: Noise },
        Second { width: usize },
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Noise {
        std: f32,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Learner {
        online_steps: u64,
        #[serde(default)]
        offline_updates: Option<u64>,
    }

    const BASE: &str =
        "seed = 1\n[algorithm]\nname = \"first\"\nrate = 0.1\nnoise = { std = 1.0 }\n[learner]\nonline_steps = 5\n";

    fn layers() -> Layers {
        Layers::new(BASE.parse().unwrap())
    }

    fn text(text: &str) -> Result<Settings, String> {
        let mut layers = layers();
        layers.add_text::<Settings>("my.toml", text).map_err(|error| error.to_string())?;
        Ok(Settings::deserialize(layers.table().clone()).unwrap())
    }

    fn set(path: &str, value: &str) -> Result<Settings, String> {
        let mut layers = layers();
        layers.set::<Settings>("--set", path, parse_value(value)).map_err(|error| error.to_string())?;
        Ok(Settings::deserialize(layers.table().clone()).unwrap())
    }

    #[test]
    fn a_file_replaces_what_it_names_and_nothing_else() {
        let settings = text("# mine\n[algorithm]\nrate = 0.5\nnoise.std = 2.0\n").unwrap();
        assert_eq!(settings.algorithm, Algorithm::First { rate: 0.5, noise: Noise { std: 2.0 } });
        assert_eq!((settings.seed, settings.learner.online_steps), (1, 5));
        assert_eq!(text("learner = { offline_updates = 0x10 }").unwrap().learner.offline_updates, Some(16));
    }

    #[test]
    fn another_variant_leaves_nothing_of_the_old_one() {
        let settings = text("[algorithm]\nname = \"second\"\nwidth = 3").unwrap();
        assert_eq!(settings.algorithm, Algorithm::Second { width: 3 });
    }

    #[test]
    fn values_need_no_quotes() {
        assert_eq!(set("seed", "7").unwrap().seed, 7);
        assert_eq!(parse_value("second"), Value::String("second".to_owned()));
        assert_eq!(parse_value("[1, 2]"), Value::Array(vec![Value::Integer(1), Value::Integer(2)]));
        assert_eq!(parse_value("1\nother = 2"), Value::String("1\nother = 2".to_owned()));
    }

    #[track_caller]
    fn check(result: Result<Settings, String>, parts: &[&str]) {
        let error = result.unwrap_err();
        for part in parts {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
    }

    #[test]
    fn unknown_keys_are_named_with_line_and_the_nearest_known_one() {
        check(text("seed = 2\n\n[algorithm]\nraet = 1.0\n"), &["my.toml:4:1", "`algorithm.raet`", "`algorithm.rate`"]);
        check(
            text("[algorithm.noise]\n  sdt = 1.0\n"),
            &["my.toml:2:3", "`algorithm.noise.sdt`", "`algorithm.noise.std`"],
        );
        check(
            text("[learnr]\nonline_steps = 1\n"),
            &["my.toml:2:1", "`learnr.online_steps`", "`learner.online_steps`"],
        );
        check(text("[learner]\nofline_updates = 1\n"), &["my.toml:2:1", "`learner.offline_updates`"]);
        check(set("online_stepz", "3"), &["--set", "`online_stepz`", "`learner.online_steps`"]);
        check(set("xyzzy", "3"), &["--set", "`xyzzy`"]);
        assert!(!set("xyzzy", "3").unwrap_err().contains("mean"));
    }

    #[test]
    fn wrong_values_are_named_with_line() {
        check(
            text("seed = 2\n[algorithm]\nrate = \"fast\"\n"),
            &["my.toml:3:1", "`algorithm.rate`", "string \"fast\""],
        );
        check(text("seed = -2\n"), &["my.toml:1:1", "`seed`", "-2"]);
        check(text("[algorithm]\nname = \"third\"\n"), &["my.toml:2:1", "`algorithm.name`", "third", "first"]);
        check(text("algorithm = 3\n"), &["my.toml:1:1", "`algorithm`"]);
        check(text("seed = 2\nseed = 3\n"), &["my.toml:2", "duplicate key"]);
        check(text("seed = \n"), &["my.toml:1"]);
        check(text("seed = 99999999999999999999\n"), &["my.toml:1:1", "out of range"]);
        check(set("seed.x", "1"), &["--set", "`seed.x`"]);
    }
}
