//! The macro that declares an object of the config file: the reader, the defaults and the schema use one list of keys.

use serde_json::Value;

use super::reader::{Node, Problem};

/// Declares an object of the file. When a key is missing, a key with a default has the default, an optional key is
/// `None`, and a required key is a fault.
macro_rules! file_object {
    (
        #[doc = $about:literal]
        $object:ident {
            required { $( $( #[doc = $required_doc:literal] )* $required:ident: $required_type:ty, )* }
            optional { $( $( #[doc = $optional_doc:literal] )* $optional:ident: $optional_type:ty, )* }
            default { $( $( #[doc = $default_doc:literal] )* $key:ident: $type:ty = $default:expr, )* }
        }
    ) => {
        #[doc = $about]
        #[derive(Clone, Debug)]
        pub(super) struct $object {
            /// The keys in the file, and the places of their values.
            typed: Vec<(&'static str, $crate::config::reader::Place)>,
            $( $( #[doc = $required_doc] )* pub(super) $required: $crate::config::reader::At<$required_type>, )*
            $( $( #[doc = $optional_doc] )* pub(super) $optional: Option<$crate::config::reader::At<$optional_type>>, )*
            $( $( #[doc = $default_doc] )* pub(super) $key: $type, )*
        }

        impl $object {
            const KEYS: &[&str] = &[
                $( stringify!($required), )* $( stringify!($optional), )* $( stringify!($key), )*
            ];
        }

        impl $crate::config::reader::Typed for $object {
            fn place_of(&self, key: &str) -> Option<$crate::config::reader::Place> {
                self.typed.iter().find(|(typed, _)| *typed == key).map(|(_, place)| *place)
            }
        }

        impl $crate::config::reader::Read for $object {
            fn schema() -> serde_json::Value {
                let mut properties = serde_json::Map::new();
                $( properties.insert(stringify!($required).into(), $crate::config::object::described(<$required_type as $crate::config::reader::Read>::schema(), &[$($required_doc),*])); )*
                $( properties.insert(stringify!($optional).into(), $crate::config::object::described(<$optional_type as $crate::config::reader::Read>::schema(), &[$($optional_doc),*])); )*
                $(
                    let mut property = $crate::config::object::described(<$type as $crate::config::reader::Read>::schema(), &[$($default_doc),*]);
                    let default: $type = $default;
                    property["default"] = serde_json::json!(default);
                    properties.insert(stringify!($key).into(), property);
                )*
                let required: &[&str] = &[$( stringify!($required), )*];
                serde_json::json!({
                    "type": "object",
                    "description": $about.trim(),
                    "properties": properties,
                    "required": required,
                    "additionalProperties": false,
                })
            }

            fn read(node: $crate::config::reader::Node<'_>, faults: &mut $crate::config::Faults) -> Option<Self> {
                let object = node.object(Self::KEYS, faults)?;
                let typed = object.places();
                // Reads all keys before a missing key ends the function, so that all faults are reported.
                $(
                    let $required = object.read(stringify!($required), faults);
                    if !object.has(stringify!($required)) {
                        node.fault(faults, $crate::config::object::missing(&node, stringify!($required)));
                    }
                )*
                $( let $optional = object.read(stringify!($optional), faults); )*
                $( let $key = object.read(stringify!($key), faults).map_or_else(|| $default, |value| value.value); )*
                Some(Self { typed, $( $required: $required?, )* $( $optional, )* $( $key, )* })
            }
        }
    };
}

pub(super) fn described(mut schema: Value, doc: &[&str]) -> Value {
    schema["description"] = doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ").into();
    schema
}

pub(super) fn missing(node: &Node<'_>, key: &str) -> Problem {
    Problem::new(format!("{} lacks \"{key}\"", node.title()), format!("add \"{key}\""))
}
