//! Objects of the file with keys that the user chooses.

use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::{Value, json};

use super::Faults;
use super::reader::{At, Node, Read};

/// Values by name, in the order of the file.
#[derive(Clone, Debug)]
pub(super) struct Table<T>(pub(super) Vec<(At<String>, At<T>)>);

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table(Vec::new())
    }
}

impl<T: Serialize> Serialize for Table<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(&key.value, value)?;
        }
        map.end()
    }
}

impl<T: Read> Read for Table<T> {
    fn schema() -> Value {
        json!({ "type": "object", "additionalProperties": T::schema() })
    }

    fn read(node: Node<'_>, faults: &mut Faults) -> Option<Self> {
        let entries = node.table(faults)?;
        let read = |(key, node): (At<String>, Node<'_>)| {
            let value = T::read(node, faults)?;
            Some((key, At { value, place: node.place() }))
        };
        Some(Table(entries.into_iter().filter_map(read).collect()))
    }
}
