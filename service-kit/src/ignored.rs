//! Deserializing without overlooking what the type does not know.

use serde::{Deserialize, Deserializer};
use serde_ignored::Path;

/// The value, and the paths, such as `items[2].size`, of what was there beyond it.
///
/// Unlike `deny_unknown_fields` this holds for every type, at any depth; only what serde
/// buffers, `flatten` and untagged enums, is not looked into.
pub fn deserialize<'de, D, T>(deserializer: D) -> Result<(T, Vec<String>), D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let mut unknown = Vec::new();
    let value = serde_ignored::deserialize(deserializer, |path| {
        let mut text = String::new();
        write_path(&path, &mut text);
        unknown.push(text);
    })?;
    Ok((value, unknown))
}

/// Written as `serde_path_to_error` writes them, and without serde_ignored's marks for
/// options and newtypes, which whoever sent the text knows nothing of.
fn write_path(path: &Path<'_>, text: &mut String) {
    match path {
        Path::Root => {}
        Path::Seq { parent, index } => {
            write_path(parent, text);
            text.push_str(&format!("[{index}]"));
        }
        Path::Map { parent, key } => {
            write_path(parent, text);
            if !text.is_empty() {
                text.push('.');
            }
            text.push_str(key);
        }
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => write_path(parent, text),
    }
}
