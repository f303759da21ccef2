//! The file of tokens as the commands change it: entries are added and taken away, all else, comments too, stays.
//!
//! Invariant: what is written can be read again, and is whole or not there. Tokens that are made are kept as their
//! digests. Absent: sessions; a server that runs reads the file by itself.

use super::{
    AuthError, moment,
    rights::SpaceGrant,
    tokens::{DIGEST_PREFIX, Tokens},
};
use crate::{durable, secret};
use rejoin_core::time::WallMillis;
use std::{
    fmt,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, Value};

/// What tokens that are made begin with, so that people and programs that search for secrets know them.
const PREFIX: &str = "rejoin_";
/// Digits of a digest by which a token is named.
const NAME_DIGITS: usize = 12;
/// Fewest digits that may name one.
const NAME_DIGITS_MIN: usize = 4;

/// Why a file of tokens was not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyringError {
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("{path}: {message}")]
    Invalid { path: PathBuf, message: String },
    #[error(transparent)]
    Unusable(#[from] AuthError),
    #[error("no token of {path} is named {name}: `token list` shows their names")]
    Unknown { path: PathBuf, name: String },
    #[error("{name} names {count} tokens of {path}: give more of its digits")]
    Ambiguous { path: PathBuf, name: String, count: usize },
    #[error("{0} is no moment that a file can say")]
    Moment(u64),
}

/// The file, held against other commands until it is dropped.
#[derive(Debug)]
pub(crate) struct Keyring {
    path: PathBuf,
    document: DocumentMut,
    _held: Option<File>,
}

/// A token of the file, as people are shown it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    digest: String,
    principal: String,
    expires: Option<String>,
    spaces: String,
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.digest.get(..NAME_DIGITS).unwrap_or_default();
        let expires = self.expires.as_deref().unwrap_or("-");
        write!(f, "{name}  {}  expires {expires}  {}", self.principal, self.spaces)
    }
}

impl Keyring {
    /// Opens a file; one that is missing has no tokens. Waits for other commands that have it.
    pub(crate) fn open(path: &Path) -> Result<Self, KeyringError> {
        // What a link names is changed, not the link.
        let path = fs::canonicalize(path).unwrap_or_else(|_missing| path.to_owned());
        let fault = |source| KeyringError::File { path: path.clone(), source };
        let held = hold(&path).map_err(fault)?;
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(fault(error)),
        };
        Tokens::read(&path, text.as_bytes())?;
        let document = text.parse::<DocumentMut>().map_err(|error| {
            let message = error.message().to_owned();
            KeyringError::Invalid { path: path.clone(), message }
        })?;
        Ok(Self { path, document, _held: held })
    }

    /// Makes a token, and says it: nobody can say it again.
    pub(crate) fn create(
        &mut self,
        principal: &str,
        grants: &[SpaceGrant],
        expires: Option<WallMillis>,
    ) -> Result<String, KeyringError> {
        let fault = |source| KeyringError::File { path: self.path.clone(), source };
        let random = secret::random::<32>().map_err(fault)?;
        let token = format!("{PREFIX}{}", blake3::Hash::from_bytes(random).to_hex());
        let digest = blake3::hash(token.as_bytes()).to_hex();
        let mut entry = Table::new();
        entry.insert("token", text(&format!("{DIGEST_PREFIX}{digest}")));
        entry.insert("principal", text(principal));
        if let Some(expires) = expires {
            entry.insert("expires", moment_item(expires)?);
        }
        let spaces: Array = grants.iter().map(inline).collect();
        entry.insert("spaces", Item::Value(Value::Array(spaces)));
        self.add("tokens", entry);
        self.save()?;
        Ok(token)
    }

    /// The tokens, in the order of the file.
    pub(crate) fn list(&self) -> Vec<Listed> {
        self.entries().into_iter().map(|(_, listed)| listed).collect()
    }

    /// Takes a token away: by the first digits of its digest, or itself.
    pub(crate) fn revoke(&mut self, name: &str) -> Result<Listed, KeyringError> {
        let of_itself = blake3::hash(name.as_bytes()).to_hex();
        let named = |listed: &Listed| {
            let by_digits = name.len() >= NAME_DIGITS_MIN && listed.digest.starts_with(name);
            by_digits || listed.digest == of_itself.as_str()
        };
        let mut found = self.entries();
        found.retain(|(_, listed)| named(listed));
        let (path, name) = (self.path.clone(), shown(name));
        let (index, listed) = match <[_; 1]>::try_from(found) {
            Ok([one]) => one,
            Err(none) if none.is_empty() => return Err(KeyringError::Unknown { path, name }),
            Err(many) => {
                return Err(KeyringError::Ambiguous { path, name, count: many.len() });
            }
        };
        match self.document.get_mut("tokens") {
            Some(Item::ArrayOfTables(tables)) => drop(tables.remove(index)),
            Some(Item::Value(Value::Array(array))) => drop(array.remove(index)),
            Some(Item::None | Item::Value(_) | Item::Table(_)) | None => {}
        }
        self.save()?;
        Ok(listed)
    }

    /// From now on no JWT of a principal is good that was issued before.
    pub(crate) fn revoke_jwts(
        &mut self,
        principal: &str,
        before: WallMillis,
    ) -> Result<(), KeyringError> {
        let mut entry = Table::new();
        entry.insert("principal", text(principal));
        entry.insert("before", moment_item(before)?);
        self.add("revoked", entry);
        self.save()
    }

    fn add(&mut self, name: &str, entry: Table) {
        match self.document.entry(name).or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()))
        {
            Item::ArrayOfTables(tables) => tables.push(entry),
            Item::Value(Value::Array(array)) => array.push(entry.into_inline_table()),
            // The file was read as what has such lists.
            Item::None | Item::Value(_) | Item::Table(_) => {}
        }
    }

    fn entries(&self) -> Vec<(usize, Listed)> {
        let listed: Vec<Listed> = match self.document.get("tokens") {
            Some(Item::ArrayOfTables(tables)) => {
                tables.iter().map(|table| listed(|key| table.get(key)?.as_value())).collect()
            }
            Some(Item::Value(Value::Array(array))) => {
                let tables = array.iter().filter_map(Value::as_inline_table);
                tables.map(|table| listed(|key| table.get(key))).collect()
            }
            Some(Item::None | Item::Value(_) | Item::Table(_)) | None => Vec::new(),
        };
        listed.into_iter().enumerate().collect()
    }

    fn save(&self) -> Result<(), KeyringError> {
        let text = self.document.to_string();
        // A server must be able to read it: what it cannot is not written.
        Tokens::read(&self.path, text.as_bytes())?;
        durable::replace_alike(&self.path, text.as_bytes())
            .map_err(|source| KeyringError::File { path: self.path.clone(), source })
    }
}

/// What names a token, but never a whole one.
fn shown(name: &str) -> String {
    name.chars().take(NAME_DIGITS).collect()
}

fn text(text: &str) -> Item {
    Item::Value(Value::from(text))
}

fn moment_item(moment: WallMillis) -> Result<Item, KeyringError> {
    let text = moment::text_of(moment).and_then(|text| text.parse::<toml_edit::Datetime>().ok());
    text.map(|moment| Item::Value(Value::from(moment))).ok_or(KeyringError::Moment(moment.0))
}

fn inline(grant: &SpaceGrant) -> Value {
    let mut table = InlineTable::new();
    table.insert("space", Value::from(grant.space.as_str()));
    if grant.collections != ["*"] {
        table.insert("collections", grant.collections.iter().collect::<Array>().into());
    }
    if grant.write {
        table.insert("write", Value::from(true));
    }
    Value::InlineTable(table)
}

/// An entry of a file that was read before, so that it has all it needs.
fn listed<'a>(get: impl Fn(&str) -> Option<&'a Value>) -> Listed {
    let text = |key| get(key).and_then(Value::as_str).unwrap_or_default();
    let token = text("token");
    let digest = match token.strip_prefix(DIGEST_PREFIX) {
        Some(digits) => digits.to_ascii_lowercase(),
        None => blake3::hash(token.as_bytes()).to_hex().to_string(),
    };
    let expires = get("expires").and_then(Value::as_datetime).map(ToString::to_string);
    let spaces = get("spaces").map(|spaces| spaces.to_string().trim().to_owned());
    Listed {
        digest,
        principal: text("principal").to_owned(),
        expires,
        spaces: spaces.unwrap_or_default(),
    }
}

/// Holds the directory: two commands at once would lose what one of them does.
#[cfg(unix)]
fn hold(path: &Path) -> io::Result<Option<File>> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = File::open(parent.unwrap_or_else(|| Path::new(".")))?;
    directory.lock()?;
    Ok(Some(directory))
}

/// Windows has no handle on a directory.
#[cfg(not(unix))]
fn hold(_: &Path) -> io::Result<Option<File>> {
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let name = format!("rejoin-keyring-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    fn grant(space: &str) -> SpaceGrant {
        let collections = vec!["tasks/*".to_owned()];
        SpaceGrant { space: space.to_owned(), collections, write: true }
    }

    fn read(path: &Path) -> Tokens {
        Tokens::read(path, &fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn tokens_are_made_listed_and_revoked_and_what_people_wrote_stays() {
        let directory = Directory::new("made");
        let written = "# keys of the office\n\n[[tokens]] # Ada's\ntoken = 'clear'\n\
                       principal = 'ada' # as in the list\nspaces = [{ space = 'a' }]\n";
        for before in [
            written,
            "tokens = [\n  { token = 'clear', principal = 'ada', spaces = [] }, # Ada\n]\n",
            "",
        ] {
            let path = directory.0.join("tokens.toml");
            fs::write(&path, before).unwrap();
            let mut keyring = Keyring::open(&path).unwrap();
            let expires = Some(WallMillis(4_000_000_000_000));
            let token = keyring.create("ci", &[grant("team-*"), grant("x")], expires).unwrap();
            assert!(token.starts_with("rejoin_") && token.len() == 71, "{token}");
            let text = fs::read_to_string(&path).unwrap();
            assert!(!text.contains(&token), "kept as its digest");
            let tokens = read(&path);
            let known = tokens.find(&token).unwrap();
            assert_eq!((&*known.principal, known.expires), ("ci", expires));
            let space = rejoin_core::id::SpaceId::parse("team-7").unwrap();
            assert!(known.rights(&space)[0].write);
            let listed = keyring.list();
            let last = listed.last().unwrap().to_string();
            assert!(last.contains("ci  expires 2096-10-02T07:06:40Z"), "{last}");
            assert!(last.contains("{ space = \"team-*\", collections = [\"tasks/*\"]"), "{last}");
            // By its name, and by itself.
            let name = last.split(' ').next().unwrap();
            assert!(matches!(keyring.revoke("zzzz"), Err(KeyringError::Unknown { .. })));
            assert!(matches!(
                keyring.revoke(name.get(..3).unwrap()),
                Err(KeyringError::Unknown { .. })
            ));
            keyring.revoke(name).unwrap();
            assert!(read(&path).find(&token).is_none());
            assert_eq!(fs::read_to_string(&path).unwrap().contains("clear"), !before.is_empty());
            if before == written {
                assert_eq!(fs::read_to_string(&path).unwrap(), before);
                keyring.revoke("clear").unwrap();
                assert!(read(&path).find("clear").is_none());
            }
            keyring.revoke_jwts("ada", WallMillis(2_000)).unwrap();
            assert!(read(&path).has_revoked("ada", Some(WallMillis(1_000))));
        }
    }

    #[test]
    fn what_could_not_be_read_again_is_not_written() {
        let directory = Directory::new("refused");
        let path = directory.0.join("tokens.toml");
        let mut keyring = Keyring::open(&path).unwrap();
        for (principal, space) in [("", "a"), ("a\nb", "a"), ("ada", "a//b"), ("ada", "")] {
            let refused = keyring.create(principal, &[grant(space)], None);
            assert!(matches!(refused, Err(KeyringError::Unusable(_))), "{principal:?} {space:?}");
            keyring = Keyring { document: DocumentMut::new(), ..keyring };
        }
        let refused = keyring.create("ada", &[grant("a")], Some(WallMillis(u64::MAX)));
        assert!(matches!(refused, Err(KeyringError::Moment(_))));
        assert!(!path.exists());
        fs::write(&path, "[[tokens]]\nprincipal = 'x'\n").unwrap();
        drop(keyring);
        assert!(matches!(Keyring::open(&path), Err(KeyringError::Unusable(_))));
    }

    #[cfg(unix)]
    #[test]
    fn commands_at_once_lose_nothing_and_the_file_keeps_its_mode_behind_a_link() {
        use std::os::unix::fs::PermissionsExt;
        let directory = Directory::new("at-once");
        let (path, link) = (directory.0.join("tokens.toml"), directory.0.join("link.toml"));
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let make = |number: usize| {
            let link = link.clone();
            std::thread::spawn(move || {
                let mut keyring = Keyring::open(&link).unwrap();
                keyring.create(&format!("p{number}"), &[grant("a")], None).unwrap()
            })
        };
        let made: Vec<_> = (0..8).map(make).collect();
        let made: Vec<String> = made.into_iter().map(|making| making.join().unwrap()).collect();
        let tokens = read(&path);
        assert!(made.iter().all(|token| tokens.find(token).is_some()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(link.is_symlink());
    }
}
